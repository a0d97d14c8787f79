//! The one call that changes a service: look again, refuse if anything is not as planned, change only what is ours in a
//! copy of the whole, send it once. App Runner replaces and does not merge, and has no etag.

use std::collections::HashMap;

use aws_sdk_apprunner::types::{
    self as sdk, ConfigurationSource, EgressConfiguration, EgressType, ImageConfiguration, NetworkConfiguration,
    ServiceStatus, SourceConfiguration,
};
use secrecy::{ExposeSecret, SecretString};

use crate::aws::apprunner::{SERVICE, Update};
use crate::error::{Class, CloudError};
use crate::identity::{Address, Fingerprint, OperationId, Owner};
use crate::journal::{Entry, Journal, Prior};
use crate::observed::Egress;
use crate::step::{ServicePatch, Setting};

use super::journal::Held;
use super::long::Endpoint;
use super::{CloudWorld, service};

const OPERATION: &str = "UpdateService";

/// What a variable becomes, its value at hand.
enum Change {
    Plain(SecretString),
    Reference(String),
    Gone,
}

fn refused(patch: &ServicePatch, what: &str) -> CloudError {
    let message = format!("not called for service {}: {what}", patch.service);
    CloudError::new(Class::Conflict, SERVICE, OPERATION, "", &message)
}

/// A failure before the call: whatever it was, nothing was changed, so it is no lost reply.
fn before(patch: &ServicePatch, error: CloudError) -> CloudError {
    match error.class {
        Class::Transient | Class::Throttled | Class::NotFound => refused(patch, &error.to_string()),
        Class::Conflict
        | Class::Exists
        | Class::Denied
        | Class::Credentials
        | Class::Quota
        | Class::Subscription
        | Class::Rejected => error,
    }
}

impl CloudWorld {
    pub(super) async fn patch_service(
        &self,
        owner: &Owner,
        patch: &ServicePatch,
        journal: &Journal,
    ) -> Result<Option<Entry>, CloudError> {
        let update = Box::pin(self.prepare(owner, patch, journal)).await.map_err(|error| before(patch, error))?;
        let operation = self.aws.apprunner.update(&patch.arn, update).await?;
        Ok(operation.map(|id| Entry::Moved(patch.direction, patch.service.clone(), id)))
    }

    /// Everything up to the call: the last look, and the whole configuration to send.
    async fn prepare(&self, owner: &Owner, patch: &ServicePatch, journal: &Journal) -> Result<Update, CloudError> {
        let (held, described, operations) = futures::join!(
            self.journal_at(owner, patch.expect.journal, OPERATION),
            self.aws.apprunner.service(&patch.arn),
            self.aws.apprunner.operations(&patch.arn, |_| true),
        );
        let (held, described, operations) = (held?, described?, operations?);
        let format = self.memory().target.as_ref().map(|target| target.env.format.clone());
        let ours = service::ours(format.as_ref(), journal, &patch.service);
        let newest = operations.first().and_then(|operation| operation.id.clone()).map(OperationId);
        if described.status != ServiceStatus::Running {
            return Err(refused(patch, &format!("its status is {}, not RUNNING", described.status.as_str())));
        }
        if newest != patch.expect.newest_operation {
            return Err(refused(patch, "another operation has begun since it was observed"));
        }
        if service::foreign_digest(owner, &described, &ours) != patch.expect.foreign {
            return Err(refused(patch, "somebody else has changed it since it was observed"));
        }
        let mut changes = Vec::new();
        for (name, setting) in &patch.set {
            changes.push((name.clone(), self.change(owner, &held, journal, name, setting)?));
        }
        changes.extend(patch.unset.iter().map(|name| (name.clone(), Change::Gone)));
        let source = described.source_configuration.clone().ok_or_else(|| refused(patch, "it has no source"))?;
        let mut source = changed(source, changes).map_err(|what| refused(patch, what))?;
        if let Some(auto) = patch.auto_deployments {
            source.auto_deployments_enabled = Some(auto);
        }
        let network = patch.egress.as_ref().map(|egress| network(&described, egress));
        // Every field of it: a console's change of one variable once reset an HTTP check to TCP.
        Ok(Update { source, health_check: described.health_check_configuration, network })
    }

    /// A setting with its value.
    fn change(
        &self,
        owner: &Owner,
        held: &Held,
        journal: &Journal,
        name: &str,
        setting: &Setting,
    ) -> Result<Change, CloudError> {
        Ok(match setting {
            Setting::Secret(arn) | Setting::Prior(Prior::Reference(arn)) => Change::Reference(arn.0.clone()),
            Setting::Plain(value) => Change::Plain(value.clone().into()),
            Setting::PlainSecret(address) => {
                let endpoint = self.endpoint_at(journal, address)?;
                Change::Plain(self.rendered(name, &endpoint, OPERATION)?)
            }
            Setting::Prior(Prior::Absent) => Change::Gone,
            Setting::Prior(Prior::Plain(key, fingerprint)) => {
                let kept =
                    held.vault.get(key).filter(|value| Fingerprint::of(owner, value.expose_secret()) == *fingerprint);
                let kept = kept.cloned().ok_or_else(|| {
                    let message =
                        format!("the vault no longer holds the former value of variable {name}; it cannot be put back");
                    CloudError::new(Class::Rejected, SERVICE, OPERATION, "", &message)
                })?;
                Change::Plain(kept)
            }
        })
    }

    /// The store reached at `address`, with its password: a plain value is only written on the way forward.
    fn endpoint_at(&self, journal: &Journal, address: &Address) -> Result<Endpoint, CloudError> {
        let mut sides = journal.open_migration().into_iter().flat_map(|migration| migration.sides().rev());
        if let Some(record) = sides.find(|record| record.address.as_ref() == Some(address)) {
            return self.frozen(record, OPERATION);
        }
        let seen = self.memory().stores.iter().find(|(_, known)| known.address == *address).map(|(id, _)| id.clone());
        let store =
            seen.ok_or_else(|| super::refused(OPERATION, &format!("which store is at {address} is not known")))?;
        self.endpoint(journal, &store, OPERATION)
    }
}

/// The source configuration with `changes`, everything else as it was.
fn changed(
    mut source: SourceConfiguration,
    changes: Vec<(String, Change)>,
) -> Result<SourceConfiguration, &'static str> {
    let (plain, references) = if let Some(image) = source.image_repository.as_mut() {
        let settings = image.image_configuration.get_or_insert_with(|| ImageConfiguration::builder().build());
        (&mut settings.runtime_environment_variables, &mut settings.runtime_environment_secrets)
    } else {
        let code = source.code_repository.as_mut().and_then(|code| code.code_configuration.as_mut());
        let code = code.ok_or("it has neither an image nor a code configuration")?;
        if code.configuration_source == ConfigurationSource::Repository {
            return Err("its variables come from apprunner.yaml; the API's are ignored");
        }
        let values = code.code_configuration_values.as_mut().ok_or("its code configuration has no values")?;
        (&mut values.runtime_environment_variables, &mut values.runtime_environment_secrets)
    };
    for (name, change) in changes {
        // A name must be in one map only; what App Runner does with both is not documented.
        remove(plain, &name);
        remove(references, &name);
        match change {
            Change::Plain(value) => {
                plain.get_or_insert_default().insert(name, value.expose_secret().to_owned());
            }
            Change::Reference(arn) => {
                references.get_or_insert_default().insert(name, arn);
            }
            Change::Gone => {}
        }
    }
    Ok(source)
}

fn remove(map: &mut Option<HashMap<String, String>>, name: &str) {
    // An empty map is left out: so it was before its first entry, and the way back ends where it began.
    if let Some(values) = map {
        values.remove(name);
    }
    if map.as_ref().is_some_and(HashMap::is_empty) {
        *map = None;
    }
}

/// The network configuration with another egress: inside a member everything is replaced.
fn network(service: &sdk::Service, egress: &Egress) -> NetworkConfiguration {
    let now = service.network_configuration.as_ref();
    let egress = match egress {
        Egress::Default => EgressConfiguration::builder().egress_type(EgressType::Default),
        Egress::Vpc(arn) => EgressConfiguration::builder().egress_type(EgressType::Vpc).vpc_connector_arn(&arn.0),
    };
    NetworkConfiguration::builder()
        .egress_configuration(egress.build())
        .set_ingress_configuration(now.and_then(|network| network.ingress_configuration.clone()))
        .set_ip_address_type(now.and_then(|network| network.ip_address_type.clone()))
        .build()
}

#[cfg(test)]
mod tests;
