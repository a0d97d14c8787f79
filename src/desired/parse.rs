//! From the manifest to a [`Desired`], or to everything that is wrong with it at once.
//! Asks admission again first (same schema, same rules, same words), then what admission cannot say. The one place of defaults.

use std::time::Duration;

use serde_json::Value;

use super::{
    App, Approval, CeleryAlias, Consent, CopyRules, DeletionPolicy, Desired, EgressPolicy, Env, EnvFormat, Fallback,
    KeyKind, KeyRule, KeyStrategy, MigrationPolicy, Mode, OnFailure, OtherConsumer, PartNames, ReplicationGroupRef,
    ReplicationGroupSettings, Retire, RulesPolicy, SecretDelivery, ServiceRef, SslCertReqs, StoreSpec, Takeover,
    Target, TlsPolicy, Unmatched, UpstashDatabase, Writer,
};
use crate::api::admission::{Violation, admit, ordered};
use crate::api::{SessionBackend, SessionBackendSpec, spec, text};
use crate::env;
use crate::identity::Arn;

/// What `object` asks for. One that is being deleted needs no valid spec.
///
/// # Errors
/// Every violation at once.
pub fn parse(object: &SessionBackend) -> Result<Desired, Vec<Violation>> {
    parse_update(object, None)
}

/// What `object` asks for, where it replaces `old`: with the rules of that transition.
///
/// # Errors
/// Every violation at once.
pub fn parse_update(object: &SessionBackend, old: Option<&SessionBackend>) -> Result<Desired, Vec<Violation>> {
    if object.metadata.deletion_timestamp.is_some() {
        // Whatever else is wrong with the spec: the services it names may use what we made.
        let services = object.spec.services.iter().filter_map(service_name).map(str::to_owned).collect();
        return Ok(Desired::Absent { policy: deletion(object.spec.deletion_policy), services });
    }
    let mut found = match (without_status(object), old.map(without_status).transpose()) {
        (Ok(object), Ok(old)) => admit(&object, old.as_ref()),
        (Err(_), _) | (_, Err(_)) => {
            vec![Violation::new("spec", "cannot be written as JSON", "apply the manifest again")]
        }
    };
    let target = target(&object.spec, &mut found);
    match target {
        Some(target) if found.is_empty() => Ok(Desired::Present(Box::new(target))),
        Some(_) => Err(ordered(found)),
        None => {
            if found.is_empty() {
                found.push(Violation::new(
                    "spec",
                    "could not be read",
                    "this is a defect; report it with the manifest",
                ));
            }
            Err(found)
        }
    }
}

fn without_status(object: &SessionBackend) -> serde_json::Result<Value> {
    let mut value = serde_json::to_value(object)?;
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    Ok(value)
}

/// `None` where admission has already said why.
fn target(spec: &SessionBackendSpec, found: &mut Vec<Violation>) -> Option<Target> {
    let checks = checks(spec, found);
    let format = format(&spec.env);
    let services = services(spec);
    key_rules(spec, found);
    let store = store(&spec.store);
    let app = app(spec);
    let interval = spec.checks.as_ref().and_then(|checks| checks.interval.as_ref());
    let check_interval = time(interval, Duration::from_mins(5));
    let migration = migration(spec);
    Some(Target {
        mode: match spec.mode {
            None | Some(spec::Mode::Apply) => Mode::Apply,
            Some(spec::Mode::Plan) => Mode::Plan,
        },
        services: services?,
        other_consumers: spec
            .other_consumers
            .iter()
            .map(|other| OtherConsumer { name: other.name.0.clone() })
            .collect(),
        store: store?,
        env: Env { format: format?, secrets: delivery(&spec.env), takeover: takeover(spec.env.takeover) },
        app: app?,
        checks: checks?,
        check_interval: check_interval?,
        migration: migration?,
        deletion: deletion(spec.deletion_policy),
    })
}

/// The duration in `text`, or `default` where there is none.
fn time(text: Option<&impl std::ops::Deref<Target = str>>, default: Duration) -> Option<Duration> {
    text.map_or(Some(default), |text| text::duration(text))
}

fn deletion(policy: Option<spec::DeletionPolicy>) -> DeletionPolicy {
    match policy {
        None | Some(spec::DeletionPolicy::Retain) => DeletionPolicy::Retain,
        Some(spec::DeletionPolicy::Delete) => DeletionPolicy::Delete,
    }
}

fn checks(spec: &SessionBackendSpec, found: &mut Vec<Violation>) -> Option<Vec<crate::checks::Check>> {
    let empty = spec::Checks::default();
    let checks = spec.checks.as_ref().unwrap_or(&empty);
    let runbooks: Vec<_> = checks.runbooks.iter().filter_map(|runbook| serde_json::to_value(runbook).ok()).collect();
    let extra: Vec<_> = checks.extra.iter().filter_map(|check| serde_json::to_value(check).ok()).collect();
    match crate::checks::resolve(&runbooks, &extra) {
        Ok(checks) => Some(checks),
        Err(messages) => {
            let violations: Vec<_> = messages.iter().map(|message| check_violation(message)).collect();
            // What admission has said of a field is not said twice.
            let is_new = |violation: &Violation| !found.iter().any(|said| said.field.starts_with(&violation.field));
            let new: Vec<_> = violations.into_iter().filter(is_new).collect();
            found.extend(new);
            None
        }
    }
}

/// The checks' own messages have the form `field: problem; remedy`, the field counted from `spec.checks`.
fn check_violation(message: &str) -> Violation {
    let (field, rest) = message.split_once(": ").unwrap_or(("", message));
    let (problem, remedy) = rest.rsplit_once("; ").unwrap_or((rest, "correct the field"));
    Violation::new(format!("spec.checks.{field}"), problem, remedy)
}

fn service_name(service: &spec::Service) -> Option<&str> {
    service.name.as_deref().or_else(|| service.arn.as_ref()?.split('/').nth(1))
}

fn services(spec: &SessionBackendSpec) -> Option<Vec<ServiceRef>> {
    let mut services = Vec::new();
    for service in &spec.services {
        let name = service_name(service)?.to_owned();
        let writer = service.env.as_ref().and_then(|env| env.writer).or(spec.env.writer);
        services.push(ServiceRef {
            name,
            arn: service.arn.as_ref().map(|arn| Arn(arn.0.clone())),
            egress: egress(service.egress.as_ref())?,
            writer: match writer {
                None | Some(spec::Writer::Operator) => Writer::Operator,
                Some(spec::Writer::ConfigFile) => Writer::ConfigFile,
                Some(spec::Writer::External) => Writer::External,
            },
        });
    }
    Some(services)
}

fn egress(egress: Option<&spec::Egress>) -> Option<EgressPolicy> {
    let Some(egress) = egress else { return Some(EgressPolicy::Keep) };
    match egress.kind {
        spec::EgressType::Keep => Some(EgressPolicy::Keep),
        spec::EgressType::Default => Some(EgressPolicy::Default),
        spec::EgressType::Vpc => {
            let connector = egress.vpc_connector.as_ref()?;
            match (&connector.arn, &connector.create) {
                (Some(arn), None) => Some(EgressPolicy::Connector(Arn(arn.0.clone()))),
                (None, Some(create)) => Some(EgressPolicy::CreateConnector {
                    subnets: create.subnet_ids.iter().map(|id| id.0.clone()).collect(),
                    security_groups: create.security_group_ids.iter().map(|id| id.0.clone()).collect(),
                }),
                (Some(_), Some(_)) | (None, None) => None,
            }
        }
    }
}

fn store(store: &spec::Store) -> Option<StoreSpec> {
    match (&store.upstash, &store.elasti_cache, &store.external, &store.disabled) {
        (Some(upstash), None, None, None) => Some(StoreSpec::Upstash {
            database: upstash_database(&upstash.database)?,
            plan: upstash.plan.as_ref().map(|plan| plan.0.clone()),
            managed: upstash.api_key_secret_ref.is_some(),
        }),
        (None, Some(cache), None, None) => elasticache(cache),
        (None, None, Some(external), None) => Some(external_store(external)),
        (None, None, None, Some(spec::Disabled {})) => Some(StoreSpec::Disabled),
        _ => None,
    }
}

fn external_store(external: &spec::External) -> StoreSpec {
    StoreSpec::External {
        tls: match external.tls {
            None | Some(spec::Tls::Required) => TlsPolicy::Required,
            Some(spec::Tls::Preferred) => TlsPolicy::Preferred,
            Some(spec::Tls::Disabled) => TlsPolicy::Disabled,
        },
    }
}

fn upstash_database(database: &spec::UpstashDatabase) -> Option<UpstashDatabase> {
    match (&database.name, &database.primary_region, &database.id) {
        (Some(name), Some(region), None) => {
            Some(UpstashDatabase::Named { name: name.0.clone(), region: region.0.clone() })
        }
        (None, None, Some(id)) => Some(UpstashDatabase::Existing(id.0.clone())),
        _ => None,
    }
}

fn elasticache(cache: &spec::ElastiCache) -> Option<StoreSpec> {
    let rules = match cache.security_group_rules {
        None | Some(spec::Rules::Managed) => RulesPolicy::Managed,
        Some(spec::Rules::Unmanaged) => RulesPolicy::Unmanaged,
    };
    let credentials = cache.credentials_secret_ref.is_some();
    match (&cache.replication_group_id, &cache.serverless_cache_name, &cache.create) {
        // ElastiCache stores both names in lower case.
        (Some(id), None, None) => Some(StoreSpec::ReplicationGroup {
            group: ReplicationGroupRef::Existing(id.to_ascii_lowercase()),
            rules,
            credentials,
        }),
        (None, Some(name), None) => {
            Some(StoreSpec::ServerlessCache { name: name.to_ascii_lowercase(), rules, credentials })
        }
        (None, None, Some(create)) => {
            let settings = ReplicationGroupSettings {
                node_type: create.node_type.0.clone(),
                replicas: create.replicas.unwrap_or(1),
                subnets: create.subnet_ids.iter().map(|id| id.0.clone()).collect(),
                security_groups: create.security_group_ids.iter().map(|id| id.0.clone()).collect(),
            };
            Some(StoreSpec::ReplicationGroup { group: ReplicationGroupRef::Create(settings), rules, credentials })
        }
        _ => None,
    }
}

fn format(env: &spec::EnvSpec) -> Option<EnvFormat> {
    let names = env.names.clone().unwrap_or_default();
    let or = |name: &Option<text::VariableName>, default: &str| {
        name.as_ref().map_or_else(|| default.to_owned(), |name| name.0.clone())
    };
    let url = or(&names.url, "REDIS_URL");
    let parts = |host: &str| PartNames {
        host: or(&names.host, host),
        port: or(&names.port, "REDIS_PORT"),
        tls: or(&names.tls, "REDIS_TLS"),
        password: or(&names.password, "REDIS_PASSWORD"),
    };
    Some(match env.format {
        spec::Format::Url => EnvFormat::Url { url },
        spec::Format::UrlImplicitTls => EnvFormat::UrlImplicitTls { url },
        spec::Format::Celery => celery(url, env.celery.as_ref()),
        spec::Format::EndpointPortTls => EnvFormat::EndpointPortTls(parts("REDIS_ENDPOINT")),
        spec::Format::HostPortPassword => EnvFormat::HostPortPassword(parts("REDIS_HOST")),
        spec::Format::Template => EnvFormat::Template(env.template.clone()?),
    })
}

fn celery(url: String, celery: Option<&spec::Celery>) -> EnvFormat {
    let listed = celery.map(|celery| celery.variables.as_slice()).unwrap_or_default();
    let aliases = listed.iter().map(|name| CeleryAlias { name: name.0.clone(), listed: true });
    let followed = env::CELERY_VARIABLES
        .into_iter()
        .filter(|name| *name != url && !listed.iter().any(|listed| listed.0 == **name))
        .map(|name| CeleryAlias { name: name.to_owned(), listed: false });
    EnvFormat::Celery {
        aliases: aliases.chain(followed).collect(),
        url,
        ssl_cert_reqs: match celery.and_then(|celery| celery.ssl_cert_reqs) {
            None | Some(spec::SslCertReqs::Omit) => SslCertReqs::Omit,
            Some(spec::SslCertReqs::Required) => SslCertReqs::Required,
            Some(spec::SslCertReqs::None) => SslCertReqs::None,
        },
    }
}

fn delivery(env: &spec::EnvSpec) -> SecretDelivery {
    match env.secrets.as_ref().and_then(|secrets| secrets.provider) {
        // ParameterStore is refused before this is used.
        None | Some(spec::SecretProvider::SecretsManager | spec::SecretProvider::ParameterStore) => {
            SecretDelivery::SecretsManager
        }
        Some(spec::SecretProvider::PlainText) => SecretDelivery::PlainText,
    }
}

fn takeover(takeover: Option<spec::Takeover>) -> Takeover {
    match takeover {
        None | Some(spec::Takeover::IfServingFrom) => Takeover::IfServingFrom,
        Some(spec::Takeover::Always) => Takeover::Always,
        Some(spec::Takeover::Never) => Takeover::Never,
    }
}

fn app(spec: &SessionBackendSpec) -> Option<App> {
    let app = spec.app.clone().unwrap_or_default();
    let session_ttl = match &app.session_ttl {
        Some(ttl) => Some(text::duration(ttl)?),
        None => None,
    };
    Some(App {
        session_ttl,
        max_connections: app.max_connections,
        // App Runner ends every request after 120 s.
        longest_request: time(app.longest_request.as_ref(), Duration::from_mins(2))?,
        cluster_client: app.cluster_client.unwrap_or(false),
        fallback: match app.fallback.map(|fallback| (fallback.kind, fallback.table_name)) {
            None | Some((spec::FallbackKind::None, _)) => Fallback::None,
            Some((spec::FallbackKind::InMemory, _)) => Fallback::InMemory,
            Some((spec::FallbackKind::DynamoDB, table)) => Fallback::DynamoDb { table: table?.0 },
        },
        pool_max: app.pool.and_then(|pool| pool.max),
        commands_per_day: app.commands_per_day,
    })
}

/// Rules that can never be reached: a mistake that would show only when the keys are gone.
fn key_rules(spec: &SessionBackendSpec, found: &mut Vec<Violation>) {
    let keys = spec.migration.as_ref().map(|migration| migration.keys.as_slice()).unwrap_or_default();
    // Admission refuses more than 50, and this compares each with each.
    for (index, rule) in keys.iter().take(50).enumerate() {
        let earlier = keys[..index]
            .iter()
            .position(|earlier| !earlier.prefix.is_empty() && rule.prefix.starts_with(&*earlier.prefix));
        if let Some(earlier) = earlier {
            found.push(Violation::new(
                format!("spec.migration.keys[{index}].prefix"),
                format!("is never reached, because keys[{earlier}] matches first"),
                "put the longer prefix first, or remove this rule",
            ));
        }
    }
}

fn migration(spec: &SessionBackendSpec) -> Option<MigrationPolicy> {
    let migration = spec.migration.clone().unwrap_or_default();
    let from = match migration.from.as_ref().filter(|from| **from != spec::From::default()) {
        Some(from) => Some(from_store(from)?),
        None => None,
    };
    let keys: Vec<KeyRule> = migration.keys.iter().map(key_rule).collect();
    let unmatched = match migration.unmatched {
        None if !spec.other_consumers.is_empty() => Unmatched::Block,
        None | Some(spec::Unmatched::Copy) => Unmatched::Copy,
        Some(spec::Unmatched::Skip) => Unmatched::Skip,
        Some(spec::Unmatched::Block) => Unmatched::Block,
    };
    let copies = unmatched != Unmatched::Skip || keys.iter().any(|rule| rule.strategy == KeyStrategy::Copy);
    let two_stores = spec.store.disabled.is_none() && from != Some(StoreSpec::Disabled);
    let consent = migration.consent.unwrap_or_default();
    let approval = migration.approval.unwrap_or_default();
    let retire = migration.retire.unwrap_or_default();
    let delete_old_store = retire.old_store == Some(spec::OldStore::Delete);
    Some(MigrationPolicy {
        from,
        rules: CopyRules {
            keys,
            unmatched,
            databases: migration.databases.iter().map(|database| (database.from, database.to)).collect(),
        },
        max_lag: time(migration.max_lag.as_ref(), Duration::from_secs(5))?,
        bake_time: time(migration.bake_time.as_ref(), Duration::from_mins(30))?,
        on_failure: match migration.on_failure {
            None if !(copies && two_stores) => OnFailure::Hold,
            None | Some(spec::OnFailure::Rollback) => OnFailure::Rollback,
            Some(spec::OnFailure::Hold) => OnFailure::Hold,
        },
        consent: Consent {
            no_internet: consent.no_internet.unwrap_or(false),
            data_loss: consent.data_loss.unwrap_or(false),
            quota_share: consent.quota_share.unwrap_or(25),
        },
        approval: Approval {
            switch: approval.switch == Some(spec::ApprovalMode::Manual),
            retire: delete_old_store || approval.retire == Some(spec::ApprovalMode::Manual),
        },
        retire: Retire {
            delete_old_store,
            rules: retire
                .also_remove
                .iter()
                .filter_map(|it| it.security_group_rule_id.as_deref())
                .map(Into::into)
                .collect(),
            connectors: retire
                .also_remove
                .iter()
                .filter_map(|it| it.vpc_connector_arn.as_deref())
                .map(Into::into)
                .collect(),
        },
    })
}

fn key_rule(rule: &spec::KeyRule) -> KeyRule {
    KeyRule {
        prefix: rule.prefix.0.clone(),
        strategy: match rule.strategy {
            spec::KeyStrategy::Copy => KeyStrategy::Copy,
            spec::KeyStrategy::Drop => KeyStrategy::Drop,
        },
        kind: match rule.kind {
            None | Some(spec::KeyKind::Session) => KeyKind::Session,
            Some(spec::KeyKind::Data) => KeyKind::Data,
        },
    }
}

fn from_store(from: &spec::From) -> Option<StoreSpec> {
    match (&from.upstash, &from.elasti_cache, &from.external, &from.disabled) {
        (Some(upstash), None, None, None) => Some(StoreSpec::Upstash {
            database: upstash_database(&upstash.database)?,
            plan: None,
            managed: upstash.api_key_secret_ref.is_some(),
        }),
        (None, Some(cache), None, None) => elasticache(&spec::ElastiCache {
            replication_group_id: cache.replication_group_id.clone(),
            serverless_cache_name: cache.serverless_cache_name.clone(),
            create: None,
            security_group_rules: None,
            credentials_secret_ref: cache.credentials_secret_ref.clone(),
        }),
        (None, None, Some(external), None) => Some(external_store(external)),
        (None, None, None, Some(spec::Disabled {})) => Some(StoreSpec::Disabled),
        _ => None,
    }
}
