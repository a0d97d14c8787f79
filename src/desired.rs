//! What the user wants, parsed once: everything after this file works on a [`Desired`] that cannot be wrong.
//! The manifest's own types are in [`crate::api`]; `desired/parse.rs` turns one into the other or names every violation at once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::identity::{Arn, RuleId};

mod parse;

pub use crate::api::admission::Violation;
pub use parse::{parse, parse_update};

/// What should be true of one owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Desired {
    /// The object exists.
    Present(Box<Target>),
    /// The object is being deleted. Needs no valid spec: the journal says what there is.
    Absent {
        /// What becomes of the things we made.
        policy: DeletionPolicy,
        /// The services a spec still names, if there is one: they may use what we made without a migration of ours.
        services: Vec<String>,
    },
}

impl Desired {
    /// Whether nothing is to be changed: `spec.mode: Plan`, or paused.
    #[must_use]
    pub fn looks_only(&self) -> bool {
        match self {
            Self::Present(target) => target.mode == Mode::Plan,
            Self::Absent { .. } => false,
        }
    }

    /// The object goes, by what is wanted of it now.
    #[must_use]
    pub fn deleted(&self) -> Self {
        match self {
            Self::Present(target) => Self::Absent {
                policy: target.deletion,
                services: target.services.iter().map(|service| service.name.clone()).collect(),
            },
            Self::Absent { .. } => self.clone(),
        }
    }

    /// The object goes, and nothing says which services it was about: the journal and the claims do.
    #[must_use]
    pub fn absent(policy: DeletionPolicy) -> Self {
        Self::Absent { policy, services: Vec::new() }
    }
}

/// What happens to the things we made when the object is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeletionPolicy {
    /// Only our claims are released.
    #[default]
    Retain,
    /// What we made and nothing references is removed.
    Delete,
}

/// A valid spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Act, or only look.
    pub mode: Mode,
    /// The services that share the store, in switching order.
    pub services: Vec<ServiceRef>,
    /// Users of the store outside App Runner.
    pub other_consumers: Vec<OtherConsumer>,
    /// The store.
    pub store: StoreSpec,
    /// How the services are told.
    pub env: Env,
    /// What the app promises and needs.
    pub app: App,
    /// What is checked.
    pub checks: Vec<crate::checks::Check>,
    /// How often the checks run at rest.
    pub check_interval: Duration,
    /// How a change of store is carried out.
    pub migration: MigrationPolicy,
    /// What deletion of the object does.
    pub deletion: DeletionPolicy,
}

/// Whether anything may be changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Reconcile.
    #[default]
    Apply,
    /// Full status and forecast, no mutating call.
    Plan,
}

/// One App Runner service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRef {
    /// Its name; unique among the live services of an account and region.
    pub name: String,
    /// Its ARN, if the user named it by ARN.
    pub arn: Option<Arn>,
    /// What its egress should be.
    pub egress: EgressPolicy,
    /// Who writes its variables.
    pub writer: Writer,
}

/// What should become of a service's egress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EgressPolicy {
    /// As it is.
    #[default]
    Keep,
    /// Straight to the internet, no VPC.
    Default,
    /// Through this connector.
    Connector(Arn),
    /// Through a connector of ours over these subnets and groups.
    CreateConnector {
        /// Private subnets, at least two zones.
        subnets: Vec<String>,
        /// The connector's security groups.
        security_groups: Vec<String>,
    },
}

/// Who writes the variables of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Writer {
    /// We do, by UpdateService.
    #[default]
    Operator,
    /// `apprunner.yaml` in the source repository.
    ConfigFile,
    /// Terraform, CloudFormation, a pipeline.
    External,
}

/// A user of the store outside App Runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherConsumer {
    /// What the user calls it.
    pub name: String,
}

/// The store that should serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreSpec {
    /// An Upstash database.
    Upstash {
        /// Which one.
        database: UpstashDatabase,
        /// The plan it should be on; `None` leaves it.
        plan: Option<String>,
        /// Whether the management API may be used (a reference to credentials is given).
        managed: bool,
    },
    /// An ElastiCache replication group.
    ReplicationGroup {
        /// Which one.
        group: ReplicationGroupRef,
        /// Whether we see to the security-group rules.
        rules: RulesPolicy,
        /// Whether credentials are given by reference.
        credentials: bool,
    },
    /// An ElastiCache serverless cache.
    ServerlessCache {
        /// Its name, lower case.
        name: String,
        /// Whether we see to the security-group rules.
        rules: RulesPolicy,
        /// Whether credentials are given by reference.
        credentials: bool,
    },
    /// Redis Cloud, Render, self-hosted. The URL itself is a secret and reaches the core as an observation.
    External {
        /// Whether TLS is required.
        tls: TlsPolicy,
    },
    /// No Redis.
    Disabled,
}

/// Which Upstash database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstashDatabase {
    /// By name; created if absent.
    Named {
        /// Its name.
        name: String,
        /// Its primary region; cannot change later.
        region: String,
    },
    /// By id; never created.
    Existing(String),
}

/// Which replication group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicationGroupRef {
    /// By id; never created.
    Existing(String),
    /// One of ours.
    Create(ReplicationGroupSettings),
}

/// A replication group to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicationGroupSettings {
    /// Such as `cache.t4g.small`.
    pub node_type: String,
    /// Replicas beside the primary, 0–5.
    pub replicas: u8,
    /// Subnets of one VPC.
    pub subnets: Vec<String>,
    /// Security groups of the nodes.
    pub security_groups: Vec<String>,
}

/// Whether security-group rules towards the store are ours to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RulesPolicy {
    /// One rule per (connector group, store group, port) is ours.
    #[default]
    Managed,
    /// The user's.
    Unmanaged,
}

/// TLS towards an external Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsPolicy {
    /// `redis://` is refused.
    #[default]
    Required,
    /// Either.
    Preferred,
    /// `rediss://` is refused.
    Disabled,
}

/// How the services are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Env {
    /// The format with its names resolved.
    pub format: EnvFormat,
    /// How values that hold a password are delivered.
    pub secrets: SecretDelivery,
    /// Whether a variable we did not write may be taken.
    pub takeover: Takeover,
}

/// The six formats, with the variable names in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvFormat {
    /// `redis[s]://user:pass@host:port/db`.
    Url {
        /// The variable.
        url: String,
    },
    /// `redis://` even with TLS: the app turns TLS on for Upstash hosts.
    UrlImplicitTls {
        /// The variable.
        url: String,
    },
    /// As `Url`, for the broker and the result back end too.
    Celery {
        /// The variable.
        url: String,
        /// Further variables with the same value; written where present or listed.
        aliases: Vec<CeleryAlias>,
        /// `ssl_cert_reqs` in the query.
        ssl_cert_reqs: SslCertReqs,
    },
    /// `REDIS_ENDPOINT` and its kin.
    EndpointPortTls(PartNames),
    /// `REDIS_HOST` and its kin.
    HostPortPassword(PartNames),
    /// The user's map with placeholders.
    Template(BTreeMap<String, String>),
}

/// A further Celery variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CeleryAlias {
    /// Its name.
    pub name: String,
    /// Listed by the user: written also where it is absent.
    pub listed: bool,
}

/// The `ssl_cert_reqs` query parameter of a Celery URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslCertReqs {
    /// Not written: the app adds it.
    #[default]
    Omit,
    /// `required`.
    Required,
    /// `none`.
    None,
}

/// Names of the variables that carry one part each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartNames {
    /// Host.
    pub host: String,
    /// Port.
    pub port: String,
    /// `true` or `false`.
    pub tls: String,
    /// Password.
    pub password: String,
}

/// How a value that holds a password reaches the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretDelivery {
    /// A reference to Secrets Manager.
    #[default]
    SecretsManager,
    /// In plain text, because it was asked for.
    PlainText,
}

/// Whether a variable we did not write is taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Takeover {
    /// Only if its value is the store we come from.
    #[default]
    IfServingFrom,
    /// Yes.
    Always,
    /// No.
    Never,
}

/// What the app promises and needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// Life of a session.
    pub session_ttl: Option<Duration>,
    /// Connections the store must allow.
    pub max_connections: Option<u32>,
    /// How long an old instance may still be serving after it was replaced; the least time of a drain.
    pub longest_request: Duration,
    /// Whether the app speaks Redis Cluster.
    pub cluster_client: bool,
    /// What the app does without Redis.
    pub fallback: Fallback,
    /// The app's pool, connections an instance.
    pub pool_max: Option<u32>,
    /// Commands the app sends a day.
    pub commands_per_day: Option<u64>,
}

/// What the app does without Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// It fails.
    #[default]
    None,
    /// Process memory.
    InMemory,
    /// A table.
    DynamoDb {
        /// Its name.
        table: String,
    },
}

/// How a change of store is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationPolicy {
    /// The store in use now, where it cannot be read off the services.
    pub from: Option<StoreSpec>,
    /// Which keys are copied.
    pub rules: CopyRules,
    /// No switch above this lag.
    pub max_lag: Duration,
    /// How long the new store is watched before anything is retired.
    pub bake_time: Duration,
    /// What a failed operation, check or bake leads to.
    pub on_failure: OnFailure,
    /// What may happen because it was said.
    pub consent: Consent,
    /// Gates a person opens.
    pub approval: Approval,
    /// What is retired afterwards.
    pub retire: Retire,
}

/// Which keys are kept in step. Frozen with a migration: its base was made by them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CopyRules {
    /// First match wins.
    pub keys: Vec<KeyRule>,
    /// What becomes of keys no rule matches.
    pub unmatched: Unmatched,
    /// Database mapping, from → to; empty means the one in use to the one of the new store.
    pub databases: Vec<(u32, u32)>,
}

/// What becomes of the keys with a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRule {
    /// Literal prefix.
    pub prefix: String,
    /// Copied, or left behind.
    pub strategy: KeyStrategy,
    /// Who wins when one side deletes and the other changes.
    pub kind: KeyKind,
}

/// Copied, or left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyStrategy {
    /// Kept in step.
    Copy,
    /// Left behind.
    Drop,
}

/// What a key is to the app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyKind {
    /// A deletion is a logout and wins over a change.
    #[default]
    Session,
    /// A change wins over a deletion.
    Data,
}

/// What becomes of keys no rule matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unmatched {
    /// Kept in step.
    #[default]
    Copy,
    /// Left behind.
    Skip,
    /// No switch while there are any.
    Block,
}

/// What a failure after the switch leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Back, by itself.
    Rollback,
    /// Stop and wait for a person; both stores stay in step.
    Hold,
}

/// What may happen because it was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consent {
    /// The service may lose the internet.
    pub no_internet: bool,
    /// Sessions may end.
    pub data_loss: bool,
    /// Percent of the target's remaining quota a copy may use.
    pub quota_share: u8,
}

/// Gates a person opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Approval {
    /// Before the first service is switched.
    pub switch: bool,
    /// Before a store is deleted.
    pub retire: bool,
}

/// What is retired after the bake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retire {
    /// Whether the old store is deleted (always behind an approval).
    pub delete_old_store: bool,
    /// Rules to remove, by id: the id is the consent.
    pub rules: Vec<RuleId>,
    /// Connectors to remove, by ARN: the ARN is the consent.
    pub connectors: Vec<Arn>,
}
