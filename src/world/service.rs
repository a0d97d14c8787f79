//! An App Runner service as the planner sees it, and what stands for everything about it that is not ours.
//! Pure: from the SDK's types and resolved values to [`Service`]. Values become fingerprints, addresses and reach.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_apprunner::types::{
    self as sdk, ConfigurationSource, EgressType, OperationSummary, OperationType, SourceConfiguration,
};
use secrecy::{ExposeSecret, SecretString};

use crate::aws::timestamp;
use crate::desired::EnvFormat;
use crate::env;
use crate::error::{Class, CloudError};
use crate::identity::{Address, Arn, Fingerprint, OperationId, Owner, StoreId};
use crate::journal::Journal;
use crate::observed::{
    Bystander, CatalogEntry, Delivery, Egress, Operation, OperationKind, OperationStatus, Reach, Service,
    ServiceSource, ServiceStatus, Variable,
};

use super::reach;

/// A service as it was read, its references resolved as far as they may be read.
pub(super) struct Live {
    pub(super) service: sdk::Service,
    pub(super) operations: Vec<OperationSummary>,
    pub(super) max_instances: Option<u32>,
    pub(super) references: BTreeMap<String, Result<SecretString, CloudError>>,
}

/// The variables of ours in a service: those of the format, and those a migration has to put back.
pub(super) fn ours(format: Option<&EnvFormat>, journal: &Journal, service: &str) -> BTreeSet<String> {
    let moved = journal.migration.as_ref().and_then(|migration| migration.service(service));
    let undone = moved.into_iter().flat_map(|moved| moved.undo.variables.keys().cloned());
    format.map(env::names).unwrap_or_default().into_iter().chain(undone).collect()
}

/// Variables as the SDK has them.
type Values = HashMap<String, String>;

/// Variables in plain text and by reference, where the API decides them.
pub(super) fn environment(source: &SourceConfiguration) -> Option<(Option<&Values>, Option<&Values>)> {
    if let Some(image) = &source.image_repository {
        let image = image.image_configuration.as_ref();
        return Some((
            image.and_then(|image| image.runtime_environment_variables.as_ref()),
            image.and_then(|image| image.runtime_environment_secrets.as_ref()),
        ));
    }
    let code = source.code_repository.as_ref()?.code_configuration.as_ref()?;
    // With REPOSITORY the file decides, and the API's values are ignored.
    let values = code
        .code_configuration_values
        .as_ref()
        .filter(|_| code.configuration_source != ConfigurationSource::Repository);
    values.map(|values| (values.runtime_environment_variables.as_ref(), values.runtime_environment_secrets.as_ref()))
}

/// The plain value of one variable.
pub(super) fn plain_value<'a>(service: &'a sdk::Service, name: &str) -> Option<&'a str> {
    let (plain, _) = environment(service.source_configuration.as_ref()?)?;
    plain?.get(name).map(String::as_str)
}

/// The references of a service by variable.
pub(super) fn references(service: &sdk::Service) -> BTreeMap<String, String> {
    let maps = service.source_configuration.as_ref().and_then(environment);
    let references = maps.and_then(|(_, references)| references);
    references.into_iter().flatten().map(|(name, arn)| (name.clone(), arn.clone())).collect()
}

pub(super) fn source(service: &sdk::Service) -> ServiceSource {
    let source = service.source_configuration.as_ref();
    let code = source.and_then(|source| source.code_repository.as_ref());
    match code.map(|code| code.code_configuration.as_ref()) {
        None => ServiceSource::Image,
        Some(Some(code)) if code.configuration_source == ConfigurationSource::Api => ServiceSource::CodeApi,
        Some(_) => ServiceSource::CodeRepository,
    }
}

pub(super) fn egress(service: &sdk::Service) -> Egress {
    let egress = service.network_configuration.as_ref().and_then(|network| network.egress_configuration.as_ref());
    match egress {
        Some(egress) if egress.egress_type == Some(EgressType::Vpc) => {
            egress.vpc_connector_arn.clone().map_or(Egress::Default, |arn| Egress::Vpc(Arn(arn)))
        }
        Some(_) | None => Egress::Default,
    }
}

pub(super) fn status(status: &sdk::ServiceStatus) -> ServiceStatus {
    match status {
        sdk::ServiceStatus::Running => ServiceStatus::Running,
        sdk::ServiceStatus::OperationInProgress => ServiceStatus::OperationInProgress,
        sdk::ServiceStatus::Paused => ServiceStatus::Paused,
        sdk::ServiceStatus::CreateFailed => ServiceStatus::CreateFailed,
        sdk::ServiceStatus::DeleteFailed => ServiceStatus::DeleteFailed,
        sdk::ServiceStatus::Deleted => ServiceStatus::Deleted,
        other => ServiceStatus::Other(other.as_str().to_owned()),
    }
}

pub(super) fn operation(summary: &OperationSummary) -> Option<Operation> {
    Some(Operation {
        id: OperationId(summary.id.clone()?),
        kind: match &summary.r#type {
            Some(OperationType::UpdateService) => OperationKind::Update,
            Some(OperationType::StartDeployment) => OperationKind::Deployment,
            Some(_) | None => OperationKind::Other,
        },
        status: match &summary.status {
            Some(sdk::OperationStatus::Succeeded) => OperationStatus::Succeeded,
            Some(sdk::OperationStatus::RollbackInProgress) => OperationStatus::RollingBack,
            Some(
                sdk::OperationStatus::Failed
                | sdk::OperationStatus::RollbackFailed
                | sdk::OperationStatus::RollbackSucceeded,
            ) => OperationStatus::Failed,
            Some(_) | None => OperationStatus::Running,
        },
        started: summary.started_at.as_ref().and_then(timestamp),
        ended: summary.ended_at.as_ref().and_then(timestamp),
    })
}

/// The operations our journal has written down for a service: reading stops once they are found.
pub(super) fn awaited(journal: &Journal, service: &str) -> BTreeSet<String> {
    let moved = journal.open_migration().and_then(|migration| migration.service(service));
    let calls = moved.into_iter().flat_map(|moved| {
        [&moved.egress_moved, &moved.forward, &moved.back, &moved.deployments_restored].into_iter().flatten()
    });
    calls.flat_map(|call| call.after.iter().chain(&call.operation)).map(|id| id.0.clone()).collect()
}

/// Stands for every variable, and every setting, of a service that is none of ours: `ours`, egress and automatic
/// deployments are left out, since changing them is what we do.
pub(super) fn foreign_digest(owner: &Owner, service: &sdk::Service, ours: &BTreeSet<String>) -> Fingerprint {
    let mut parts: Vec<String> = Vec::new();
    let mut part = |name: &str, value: Option<&str>| parts.push(format!("{name}={}", value.unwrap_or("\u{0}")));
    if let Some(source) = &service.source_configuration {
        if let Some(image) = &source.image_repository {
            part("image", Some(&image.image_identifier));
            part("image type", Some(image.image_repository_type.as_str()));
            let settings = image.image_configuration.as_ref();
            part("port", settings.and_then(|settings| settings.port.as_deref()));
            part("start", settings.and_then(|settings| settings.start_command.as_deref()));
        }
        if let Some(code) = &source.code_repository {
            part("repository", Some(&code.repository_url));
            part("directory", code.source_directory.as_deref());
            part("version", code.source_code_version.as_ref().map(|version| version.value.as_str()));
            let settings = code.code_configuration.as_ref();
            part("configuration", settings.map(|settings| settings.configuration_source.as_str()));
            let values = settings.and_then(|settings| settings.code_configuration_values.as_ref());
            part("runtime", values.map(|values| values.runtime.as_str()));
            part("build", values.and_then(|values| values.build_command.as_deref()));
            part("start", values.and_then(|values| values.start_command.as_deref()));
            part("port", values.and_then(|values| values.port.as_deref()));
        }
        let access = source.authentication_configuration.as_ref();
        part("connection", access.and_then(|access| access.connection_arn.as_deref()));
        part("access role", access.and_then(|access| access.access_role_arn.as_deref()));
        let (plain, references) = environment(source).unwrap_or_default();
        let foreign = |map: Option<&Values>| -> BTreeMap<String, String> {
            let pairs = map.into_iter().flatten().filter(|(name, _)| !ours.contains(*name));
            pairs.map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        for (kind, map) in [("variable", foreign(plain)), ("secret", foreign(references))] {
            for (name, value) in map {
                part(&format!("{kind} {name}"), Some(&value));
            }
        }
    }
    let instance = service.instance_configuration.as_ref();
    part("cpu", instance.and_then(|instance| instance.cpu.as_deref()));
    part("memory", instance.and_then(|instance| instance.memory.as_deref()));
    part("role", instance.and_then(|instance| instance.instance_role_arn.as_deref()));
    if let Some(health) = &service.health_check_configuration {
        part("health", health.protocol.as_ref().map(sdk::HealthCheckProtocol::as_str));
        part("path", health.path.as_deref());
        let numbers = [health.interval, health.timeout, health.healthy_threshold, health.unhealthy_threshold];
        part("thresholds", Some(&format!("{numbers:?}")));
    }
    let scaling = service.auto_scaling_configuration_summary.as_ref();
    part("scaling", scaling.and_then(|scaling| scaling.auto_scaling_configuration_arn.as_deref()));
    let public = service.network_configuration.as_ref().and_then(|network| network.ingress_configuration.as_ref());
    part("public", public.map(|ingress| if ingress.is_publicly_accessible { "yes" } else { "no" }));
    // Length-prefixed: no value can pass for another name.
    let sized: Vec<String> = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
    Fingerprint::of(owner, &sized.concat())
}

/// The service as the planner sees it, and the passwords in its variables by what stands for them.
pub(super) fn observe(
    owner: &Owner,
    live: &Live,
    format: Option<&EnvFormat>,
    ours: &BTreeSet<String>,
    catalog: &[CatalogEntry],
) -> (Service, Vec<(Address, SecretString)>) {
    let service = &live.service;
    let (variables, passwords) = variables(owner, live, format, ours, catalog);
    let auto = service.source_configuration.as_ref().and_then(|source| source.auto_deployments_enabled);
    let role = service.instance_configuration.as_ref().and_then(|instance| instance.instance_role_arn.clone());
    let observed = Service {
        arn: Arn(service.service_arn.clone()),
        host: service.service_url.clone().filter(|host| !host.is_empty()),
        status: status(&service.status),
        source: source(service),
        variables,
        foreign: foreign_digest(owner, service, ours),
        egress: egress(service),
        auto_deployments: auto.unwrap_or(false),
        instance_role: role.map(Arn),
        operations: live.operations.iter().filter_map(operation).collect(),
        max_instances: live.max_instances,
    };
    (observed, passwords)
}

/// A service that is none of ours: no format says how its variables are to be read, and their names say enough.
pub(super) fn bystander(owner: &Owner, name: String, live: &Live, catalog: &[CatalogEntry]) -> Bystander {
    let (variables, _) = variables(owner, live, None, &BTreeSet::new(), catalog);
    Bystander { name, egress: egress(&live.service), source: source(&live.service), variables }
}

/// Bytes of its plain values as JSON texts, by variable.
pub(super) fn plain_bytes(live: &Live) -> BTreeMap<String, usize> {
    let maps = live.service.source_configuration.as_ref().and_then(environment);
    let plain = maps.and_then(|(plain, _)| plain).into_iter().flatten();
    let bytes = |value: &String| serde_json::to_string(value).map_or(usize::MAX / 1024, |text| text.len());
    plain.map(|(name, value)| (name.clone(), bytes(value))).collect()
}

/// The values of a service as far as they can be read, in clear.
fn values(live: &Live) -> BTreeMap<String, String> {
    let maps = live.service.source_configuration.as_ref().and_then(environment);
    let plain = maps.and_then(|(plain, _)| plain);
    let plain = plain.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone()));
    let resolved = live
        .references
        .iter()
        .filter_map(|(name, value)| value.as_ref().ok().map(|value| (name.clone(), value.expose_secret().to_owned())));
    plain.chain(resolved).collect()
}

fn variables(
    owner: &Owner,
    live: &Live,
    format: Option<&EnvFormat>,
    ours: &BTreeSet<String>,
    catalog: &[CatalogEntry],
) -> (BTreeMap<String, Variable>, Vec<(Address, SecretString)>) {
    let values = values(live);
    let told = format.and_then(|format| env::read(format, &values));
    let references = references(&live.service);
    let maps = live.service.source_configuration.as_ref().and_then(environment);
    let plain = maps
        .and_then(|(plain, _)| plain)
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), Delivery::Plain, value.clone()));
    let by_reference =
        references.iter().map(|(name, arn)| (name.clone(), Delivery::Reference(Arn(arn.clone())), arn.clone()));
    let mut passwords = Vec::new();
    let variables = plain.chain(by_reference).map(|(name, delivery, text)| {
        let value = values.get(&name).map(String::as_str);
        let (address, password) = if ours.contains(&name) {
            pointed(&name, value, told.as_ref(), &values)
        } else {
            (env::pointed(&name, &values), value.and_then(|value| env::parse_url(value).ok()?.1))
        };
        let at = address.as_ref().or(told.as_ref().map(|(address, _)| address));
        if let (Some(at), Some(password)) = (at, &password) {
            passwords.push((at.clone(), password.clone()));
        }
        let variable = Variable {
            delivery,
            digest: Fingerprint::of(owner, &text),
            reach: match (value, &address) {
                (None, _) => Reach::Unknown(unread(live, &name)),
                (Some(_), Some(address)) => reach::of_host(&address.host),
                (Some(value), None) => reach::of(value),
            },
            address,
            names: value.map(|value| named(value, catalog)).unwrap_or_default(),
            password: password.map(|password| Fingerprint::of(owner, password.expose_secret())),
        };
        (name, variable)
    });
    (variables.collect(), passwords)
}

/// Why the value of a variable is not known.
fn unread(live: &Live, name: &str) -> CloudError {
    let failed = live.references.get(name).and_then(|value| value.as_ref().err()).cloned();
    failed.unwrap_or_else(|| {
        CloudError::new(
            Class::Rejected,
            "sessionbackend",
            "Observe",
            "",
            "nobody asked for the value behind the reference",
        )
    })
}

/// The stores whose host a value names, whatever its form: what no format of ours would read still needs them.
fn named(value: &str, catalog: &[CatalogEntry]) -> Vec<StoreId> {
    let value = value.to_ascii_lowercase();
    let names =
        |entry: &&CatalogEntry| entry.hosts.iter().any(|host| !host.is_empty() && value.contains(host.as_str()));
    catalog.iter().filter(names).map(|entry| entry.id.clone()).collect()
}

/// Where one of our variables points. A URL speaks for itself unless the format knows better (implicit TLS); a part
/// speaks for the whole where it holds the host or the password.
fn pointed(
    name: &str,
    value: Option<&str>,
    told: Option<&(Address, Option<SecretString>)>,
    values: &BTreeMap<String, String>,
) -> (Option<Address>, Option<SecretString>) {
    let Some(value) = value else { return (None, None) };
    if let Ok((address, password)) = env::parse_url(value) {
        let better = told.filter(|(told, _)| (&told.host, told.port) == (&address.host, address.port));
        return (Some(better.map_or(address, |(told, _)| told.clone())), password);
    }
    let Some((address, password)) = told else { return (env::pointed(name, values), None) };
    let says = |part: &str| !part.is_empty() && value.to_ascii_lowercase().contains(&part.to_ascii_lowercase());
    let password = password.as_ref().filter(|password| {
        let password = password.expose_secret();
        !password.is_empty() && (value.contains(password) || value.contains(&env::escape(password)))
    });
    (says(&address.host).then(|| address.clone()), password.cloned())
}

#[cfg(test)]
mod tests;
