//! The immutable secrets behind variables, the values behind references, and who may read them.
//! A secret is never rewritten: what exists under its name has the right content or the step is refused.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use secrecy::{ExposeSecret, SecretString};

use crate::aws::secretsmanager::{SERVICE, is_in_recovery};
use crate::desired::EnvFormat;
use crate::env;
use crate::error::{Class, CloudError};
use crate::identity::{Arn, Epoch, Fingerprint, Owner, SecretName, StoreId};
use crate::journal::{self, Entry, Journal, Resource, StoreRecord};
use crate::observed::{Reading, RoleAccess, Secret, Service, Store};

use super::long::Endpoint;
use super::{CloudWorld, cache, reading, refused};

/// Days a deleted secret can be restored.
const RECOVERY_DAYS: i64 = 7;
const READ: &str = "secretsmanager:GetSecretValue";

/// A reference of App Runner to Secrets Manager, taken apart: ARN, JSON key, stage, version.
#[derive(Debug, PartialEq, Eq)]
struct Reference<'a> {
    secret: String,
    key: Option<&'a str>,
    stage: Option<&'a str>,
    version: Option<&'a str>,
}

/// Reads `arn:…:secret:NAME-suffix[:json-key[:stage[:version]]]`. Parameters of SSM are not read by this version.
fn reference(text: &str) -> Option<Reference<'_>> {
    let parts: Vec<&str> = text.split(':').collect();
    let [_, _, "secretsmanager", _, _, "secret", _, rest @ ..] = parts.as_slice() else { return None };
    let some = |index: usize| rest.get(index).copied().filter(|part| !part.is_empty());
    Some(Reference { secret: parts[..7].join(":"), key: some(0), stage: some(1), version: some(2) })
}

/// One key of a JSON secret. What is wrong is said without the content.
fn select(value: SecretString, key: Option<&str>) -> Result<SecretString, CloudError> {
    let Some(key) = key else { return Ok(value) };
    let parsed: Option<serde_json::Value> = serde_json::from_str(value.expose_secret()).ok();
    let found = parsed.as_ref().and_then(|object| object.get(key)).and_then(|found| match found {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Bool(flag) => Some(flag.to_string()),
        serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_) => None,
    });
    found.map(SecretString::from).ok_or_else(|| {
        let message = format!("the secret has no JSON key {key:?} with a plain value");
        CloudError::new(Class::Rejected, SERVICE, "GetSecretValue", "", &message)
    })
}

impl CloudWorld {
    /// The values behind references, by variable. A value is read once a minute at most.
    pub(super) async fn resolve(
        &self,
        references: BTreeMap<String, String>,
    ) -> BTreeMap<String, Result<SecretString, CloudError>> {
        let values = references.into_iter().map(|(name, text)| async move {
            let value = self.value(&text).await;
            (name, value)
        });
        join_all(values).await.into_iter().collect()
    }

    async fn value(&self, text: &str) -> Result<SecretString, CloudError> {
        if let Some(value) = self.cache.values.get(text, cache::VALUES) {
            return value;
        }
        let Some(reference) = reference(text) else {
            let message = "references to the parameter store are not read by this version";
            return Err(CloudError::new(Class::Rejected, SERVICE, "GetSecretValue", "", message));
        };
        let value = self.aws.secretsmanager.get_version(&reference.secret, reference.stage, reference.version).await;
        let value = value.and_then(|value| select(value, reference.key));
        let passing = value.as_ref().is_err_and(|error| error.class.is_temporary());
        if !passing {
            self.cache.values.put(text, value.clone());
        }
        value
    }

    /// The secrets of ours a plan can ask about: those written down, and those the next switch would need.
    pub(super) async fn epoch_secrets(
        &self,
        owner: &Owner,
        format: Option<&EnvFormat>,
        journal: &Journal,
        target: Option<&Store>,
    ) -> BTreeMap<SecretName, Reading<Secret>> {
        let names = epoch_secret_names(owner, format, journal, target);
        let readings = names.into_iter().map(|name| async move {
            let described = self.aws.secretsmanager.describe(&name.0).await;
            let secret = described.map(|found| Secret { arn: found.arn, deletion: found.deleted });
            (name, reading(secret))
        });
        join_all(readings).await.into_iter().collect()
    }

    /// Whether the instance roles may read our secrets.
    pub(super) async fn role_access(
        &self,
        services: &BTreeMap<String, Reading<Service>>,
        secrets: &BTreeMap<SecretName, Reading<Secret>>,
    ) -> Vec<RoleAccess> {
        let there: BTreeMap<&SecretName, &Arn> = secrets
            .iter()
            .filter_map(|(name, reading)| reading.present().map(|secret| (name, secret)))
            .filter(|(_, secret)| secret.deletion.is_none())
            .map(|(name, secret)| (name, &secret.arn))
            .collect();
        let asked = services.iter().filter_map(|(name, reading)| {
            let role = reading.present()?.instance_role.as_ref()?;
            Some((name, role))
        });
        let there = &there;
        let answers = asked.map(|(service, role)| async move {
            let arns: Vec<String> = there.values().map(|arn| arn.0.clone()).collect();
            let allowed = self.may_read(role, arns).await;
            there
                .iter()
                .map(|(name, arn)| RoleAccess {
                    service: service.clone(),
                    secret: (*name).clone(),
                    allowed: match &allowed {
                        Ok(allowed) => allowed.get(&arn.0).map_or(Reading::Absent, |may| Reading::Present(*may)),
                        Err(error) => Reading::Unknown(error.clone()),
                    },
                })
                .collect::<Vec<_>>()
        });
        join_all(answers).await.into_iter().flatten().collect()
    }

    async fn may_read(&self, role: &Arn, arns: Vec<String>) -> Result<BTreeMap<String, bool>, CloudError> {
        let key = |arn: &str| format!("{role} {arn}");
        let mut known = BTreeMap::new();
        let mut asked = Vec::new();
        for arn in arns {
            match self.cache.access.get(&key(&arn), cache::ACCESS) {
                Some(may) => {
                    known.insert(arn, may);
                }
                None => asked.push(arn),
            }
        }
        if asked.is_empty() {
            return Ok(known);
        }
        let fresh = self.aws.iam.may(&role.0, READ, &asked).await?;
        for (arn, may) in fresh {
            // A refusal is asked about again each time: somebody is about to attach the policy.
            if may {
                self.cache.access.put(&key(&arn), may);
            }
            known.insert(arn, may);
        }
        Ok(known)
    }

    /// How a store is reached and with what password: as the open migration has frozen it, else as it was last seen. Where a
    /// migration keeps its store, as for a new password, it is the one that the services will be told.
    pub(super) fn endpoint(&self, journal: &Journal, store: &StoreId, operation: &str) -> Result<Endpoint, CloudError> {
        let frozen =
            journal.open_migration().and_then(|migration| migration.sides().rev().find(|record| record.id == *store));
        match frozen {
            Some(record) => self.frozen(record, operation),
            None => self.seen(store, operation),
        }
    }

    /// How one side of a migration is reached: both may be one store, with two databases or two passwords.
    pub(super) fn frozen(&self, record: &StoreRecord, operation: &str) -> Result<Endpoint, CloudError> {
        let Some(address) = record.address.clone() else { return self.seen(&record.id, operation) };
        let password = self.password(record.credential.as_ref(), operation)?;
        Ok(Endpoint { store: record.id.clone(), address, password })
    }

    fn seen(&self, store: &StoreId, operation: &str) -> Result<Endpoint, CloudError> {
        let seen = self.memory().stores.get(store).map(|known| (known.address.clone(), known.credential.clone()));
        let (address, credential) =
            seen.ok_or_else(|| refused(operation, &format!("how {store} is reached is not known")))?;
        let password = self.password(credential.as_ref(), operation)?;
        Ok(Endpoint { store: store.clone(), address, password })
    }

    pub(super) async fn create_epoch_secret(
        &self,
        owner: &Owner,
        journal: &Journal,
        name: &SecretName,
        epoch: Epoch,
        variable: &str,
        store: &StoreId,
    ) -> Result<Option<Entry>, CloudError> {
        let operation = "CreateEpochSecret";
        let endpoint = self.endpoint(journal, store, operation)?;
        let credential = endpoint.password.as_ref().map(|password| Fingerprint::of(owner, password.expose_secret()));
        let binding = journal::binding(&endpoint.address, credential.as_ref());
        // The name says which address and password: what is known now must be what was planned.
        if binding.map(|binding| owner.epoch_secret(epoch, &binding, variable)).as_ref() != Some(name) {
            return Err(refused(operation, &format!("{store} is not reached any more as secret {name} says")));
        }
        let value = self.rendered(variable, &endpoint, operation)?;
        let made = |arn: Arn| Some(Entry::Made(Resource::Secret(name.clone()), arn.0));
        let description = format!("{variable} of SessionBackend {owner}; never changed, a new epoch gets a new secret");
        match self.aws.secretsmanager.create(&name.0, &description, &value, None, &owner.tags()).await {
            Ok(arn) => Ok(made(arn)),
            Err(error) if error.class == Class::Exists => {
                self.is_ours_with(owner, name, &value, operation).await.map(made)
            }
            Err(error) if is_in_recovery(&error) => {
                self.aws.secretsmanager.restore(&name.0).await?;
                self.is_ours_with(owner, name, &value, operation).await.map(made)
            }
            Err(error) => Err(error),
        }
    }

    /// The ARN of a secret that must be ours and hold `value`.
    async fn is_ours_with(
        &self,
        owner: &Owner,
        name: &SecretName,
        value: &SecretString,
        operation: &str,
    ) -> Result<Arn, CloudError> {
        let found = self.aws.secretsmanager.describe(&name.0).await?;
        let wrong = |what: &str| {
            let message = format!("secret {name} exists and {what}; rename or delete it");
            CloudError::new(Class::Exists, SERVICE, operation, "", &message)
        };
        if owner.tags().iter().any(|(key, value)| found.tags.get(key) != Some(value)) {
            return Err(wrong("does not carry our tags"));
        }
        let content = self.aws.secretsmanager.get(&name.0).await?;
        if content.expose_secret() != value.expose_secret() {
            return Err(wrong("has another content than this epoch's"));
        }
        Ok(found.arn)
    }

    /// The value of `variable` for a store, by the format of the last spec.
    pub(super) fn rendered(
        &self,
        variable: &str,
        endpoint: &Endpoint,
        operation: &str,
    ) -> Result<SecretString, CloudError> {
        let format = self.memory().target.as_ref().map(|target| target.env.format.clone());
        let format = format.ok_or_else(|| refused(operation, "the format of the variables is not known yet"))?;
        let names: BTreeSet<String> = env::names(&format).into_iter().collect();
        let password = endpoint.password.as_ref().map(ExposeSecret::expose_secret);
        let upstash = matches!(endpoint.store, StoreId::Upstash(_));
        let mut values = env::render(&format, &names, &endpoint.address, password, upstash);
        values
            .remove(variable)
            .map(|rendered| rendered.value)
            .ok_or_else(|| refused(operation, &format!("the format writes no variable {variable}")))
    }

    /// Deletes a secret of ours, with a recovery window. Gone, or going, is done.
    pub(super) async fn delete_secret(
        &self,
        owner: &Owner,
        name: &SecretName,
        journal: &Journal,
    ) -> Result<Option<Entry>, CloudError> {
        let is_journal = *name == owner.journal_secret();
        // A writer that came in between keeps it; one that comes later restores it.
        if is_journal && !self.journal_is_gone(owner).await? {
            self.journal_at(owner, journal.sequence, "DeleteSecret").await?;
        }
        match self.aws.secretsmanager.delete(&name.0, RECOVERY_DAYS).await {
            Ok(()) => {}
            Err(error) if error.class == Class::NotFound || is_in_recovery(&error) => {}
            Err(error) => return Err(error),
        }
        if is_journal {
            self.forget_journal();
        }
        Ok(None)
    }
}

fn epoch_secret_names(
    owner: &Owner,
    format: Option<&EnvFormat>,
    journal: &Journal,
    target: Option<&Store>,
) -> BTreeSet<SecretName> {
    let written = journal.made.keys().chain(&journal.leftovers).filter_map(|resource| match resource {
        Resource::Secret(name) => Some(name.clone()),
        Resource::UpstashDatabase(_)
        | Resource::ReplicationGroup(_)
        | Resource::SubnetGroup(_)
        | Resource::Connector(_)
        | Resource::Rule(_) => None,
    });
    let frozen = journal.migration.as_ref().and_then(|migration| Some((migration.epoch, migration.to.binding()?)));
    let binding = target.and_then(|store| journal::binding(store.address.as_ref()?, store.credential.as_ref()));
    let next = binding.map(|binding| (journal.epoch.next(), binding));
    let variables = format.map(env::names).unwrap_or_default();
    let needed = frozen.into_iter().chain(next).flat_map(|(epoch, binding)| {
        variables.iter().map(move |variable| owner.epoch_secret(epoch, &binding, variable)).collect::<Vec<_>>()
    });
    written.chain(needed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_taken_apart() {
        let arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:app/redis-AbCdEf";
        assert_eq!(reference(arn), Some(Reference { secret: arn.to_owned(), key: None, stage: None, version: None }));
        assert_eq!(
            reference(&format!("{arn}:url::")),
            Some(Reference { secret: arn.to_owned(), key: Some("url"), stage: None, version: None })
        );
        assert_eq!(
            reference(&format!("{arn}::AWSPREVIOUS:")),
            Some(Reference { secret: arn.to_owned(), key: None, stage: Some("AWSPREVIOUS"), version: None })
        );
        assert_eq!(reference("arn:aws:ssm:us-east-1:123456789012:parameter/redis"), None);
        assert_eq!(reference("redis-parameter"), None);
    }

    #[test]
    fn a_json_key_is_selected_and_its_absence_told_without_the_content() {
        let value = || SecretString::from(r#"{"url":"redis://canary-word","port":6379}"#);
        assert_eq!(select(value(), Some("port")).unwrap().expose_secret(), "6379");
        assert_eq!(select(value(), Some("url")).unwrap().expose_secret(), "redis://canary-word");
        let error = select(value(), Some("host")).unwrap_err().to_string();
        assert!(error.contains("host") && !error.contains("canary"), "{error}");
    }
}
