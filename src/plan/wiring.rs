//! What a service is to be told about a store: the settings, and the secrets they need.

use std::collections::{BTreeMap, BTreeSet};

use crate::desired::{SecretDelivery, Target};
use crate::env::{self, Outline};
use crate::identity::{Address, Arn, Epoch, Fingerprint, Owner, SecretName, StoreId};
use crate::journal::{Direction, Migration, Prior, ServiceMove, StoreRecord, Undo};
use crate::observed::{Delivery, Observed, Reading, Service, Variable};
use crate::step::Setting;

/// What a service is to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wiring {
    /// Variables to have, by name.
    pub(crate) set: BTreeMap<String, Setting>,
    /// Variables of ours by name that must not be there.
    pub(crate) unset: Vec<String>,
    /// Secrets it needs, by name, with the variable that gives them their content.
    pub(crate) secrets: BTreeMap<SecretName, String>,
    /// Those that do not exist yet.
    pub(crate) missing: BTreeSet<SecretName>,
    /// Those that could not be read.
    pub(crate) unread: BTreeSet<SecretName>,
    /// The secret behind a variable.
    behind: BTreeMap<String, SecretName>,
}

/// Whose wiring, by what spec, seen how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wires<'a> {
    pub(crate) owner: &'a Owner,
    pub(crate) target: &'a Target,
    pub(crate) observed: &'a Observed,
}

impl Wires<'_> {
    /// What `service` is to be told about `to` in `epoch`.
    pub(crate) fn wiring(&self, service: &Service, to: &StoreRecord, epoch: Epoch) -> Wiring {
        self.wiring_among(&service.variables.keys().cloned().collect(), service, to, epoch)
    }

    /// The same in the middle of a migration: of the variables that are written where they are present, those count
    /// whose way back was kept. What appeared since is somebody else's.
    pub(crate) fn wiring_of(&self, moved: &ServiceMove, service: &Service, to: &StoreRecord, epoch: Epoch) -> Wiring {
        let mut wiring = self.wiring_among(&moved.undo.variables.keys().cloned().collect(), service, to, epoch);
        wiring.unset.retain(|name| moved.undo.variables.contains_key(name));
        wiring
    }

    fn wiring_among(&self, present: &BTreeSet<String>, service: &Service, to: &StoreRecord, epoch: Epoch) -> Wiring {
        let mut wiring = Wiring::default();
        let names = env::names(&self.target.env.format);
        if let Some(address) = &to.address {
            self.point_to(present, to, address, epoch, &mut wiring);
        }
        wiring.unset = names
            .into_iter()
            .filter(|name| service.variables.contains_key(name) && !wiring.set.contains_key(name))
            .collect();
        wiring
    }

    fn point_to(
        &self,
        present: &BTreeSet<String>,
        to: &StoreRecord,
        address: &Address,
        epoch: Epoch,
        wiring: &mut Wiring,
    ) {
        let upstash = matches!(to.id, StoreId::Upstash(_));
        let outline = env::outline(&self.target.env.format, present, address, to.credential.is_some(), upstash);
        for (name, outline) in outline {
            let setting = match (outline, self.target.env.secrets) {
                (Outline::Plain(value), _) => Setting::Plain(value),
                (Outline::Secret { .. }, SecretDelivery::PlainText) => Setting::PlainSecret(Box::new(address.clone())),
                (Outline::Secret { key }, SecretDelivery::SecretsManager) => {
                    let Some(binding) = to.binding() else { continue };
                    let secret = self.owner.epoch_secret(epoch, &binding, &key);
                    let arn = match self.observed.secrets.get(&secret) {
                        Some(Reading::Present(found)) if found.deletion.is_none() => found.arn.clone(),
                        Some(Reading::Unknown(_) | Reading::Hidden(_)) => {
                            wiring.unread.insert(secret.clone());
                            Arn(String::new())
                        }
                        Some(Reading::Present(_) | Reading::Absent) | None => {
                            wiring.missing.insert(secret.clone());
                            Arn(String::new())
                        }
                    };
                    wiring.behind.insert(name.clone(), secret.clone());
                    wiring.secrets.insert(secret, key);
                    Setting::Secret(arn)
                }
            };
            wiring.set.insert(name, setting);
        }
    }

    /// Stands for the form in which services are told of `to`: another one needs other values under the same names.
    pub(crate) fn told_by(&self, to: &StoreRecord) -> Fingerprint {
        let names = env::names(&self.target.env.format).into_iter().collect();
        let upstash = matches!(to.id, StoreId::Upstash(_));
        let rendered = to.address.as_ref().map(|address| {
            let password = to.credential.as_ref().map(|_| "password");
            env::render(&self.target.env.format, &names, address, password, upstash)
        });
        let delivery = match self.target.env.secrets {
            SecretDelivery::SecretsManager => "by reference",
            SecretDelivery::PlainText => "in plain text",
        };
        let each = rendered.iter().flatten().map(|(name, value)| format!("{name}={}", env::reveal(value)));
        let parts: Vec<String> = std::iter::once(delivery.to_owned()).chain(each).collect();
        let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
        Fingerprint(crate::identity::digest(&parts, 4))
    }

    /// Whether `service` is told exactly `wiring`.
    pub(crate) fn is_told(&self, service: &Service, wiring: &Wiring, to: &StoreRecord) -> bool {
        wiring.unset.is_empty()
            && wiring.set.iter().all(|(name, setting)| {
                let behind = wiring.behind.get(name);
                service.variables.get(name).is_some_and(|variable| self.says(variable, setting, behind, to))
            })
    }

    fn says(&self, variable: &Variable, setting: &Setting, behind: Option<&SecretName>, to: &StoreRecord) -> bool {
        match setting {
            // The ARN's suffix is random; where the secret cannot be read just now its name has to do.
            Setting::Secret(arn) if arn.0.is_empty() => match &variable.delivery {
                Delivery::Reference(told) => told.secret_name().as_ref() == behind,
                Delivery::Plain => false,
            },
            Setting::Secret(arn) => variable.delivery == Delivery::Reference(arn.clone()),
            Setting::Plain(value) => {
                variable.delivery == Delivery::Plain && variable.digest == Fingerprint::of(self.owner, value)
            }
            Setting::PlainSecret(address) => {
                variable.delivery == Delivery::Plain
                    && variable.address.as_ref() == Some(address)
                    && variable.password == to.credential
            }
            Setting::Prior(prior) => was(Some(variable), prior),
        }
    }
}

/// Whether a variable is as it was.
pub(crate) fn was(variable: Option<&Variable>, prior: &Prior) -> bool {
    match (variable, prior) {
        (None, Prior::Absent) => true,
        (Some(variable), Prior::Plain(_, digest)) => variable.delivery == Delivery::Plain && variable.digest == *digest,
        (Some(variable), Prior::Reference(arn)) => variable.delivery == Delivery::Reference(arn.clone()),
        (None, Prior::Plain(..) | Prior::Reference(_)) | (Some(_), Prior::Absent) => false,
    }
}

/// Whether a service is as it was before the migration.
pub(crate) fn is_undone(service: &Service, undo: &Undo) -> bool {
    service.egress == undo.egress && undo.variables.iter().all(|(name, prior)| was(service.variables.get(name), prior))
}

/// Whether a service was told of the new store of a migration, by whichever call.
pub(crate) fn leads_to_new(service: &Service, moved: &ServiceMove, migration: &Migration, owner: &Owner) -> bool {
    moved.undo.variables.keys().filter_map(|name| service.variables.get(name)).any(|variable| {
        match &variable.delivery {
            Delivery::Reference(arn) => arn.secret_name().is_some_and(|name| migration.tells_by(owner, &name)),
            Delivery::Plain => variable.address.is_some() && variable.address == migration.to.address,
        }
    })
}

/// Whether a service shows what the call in `direction` was to change, by what is no longer as it was.
pub(crate) fn carries(service: &Service, undo: &Undo, direction: Direction) -> bool {
    let told = || undo.variables.iter().any(|(name, prior)| !was(service.variables.get(name), prior));
    match direction {
        Direction::Forward => told(),
        Direction::Egress => service.egress != undo.egress,
        Direction::Back => is_undone(service, undo),
        Direction::Restore => service.auto_deployments,
    }
}
