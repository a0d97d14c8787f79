//! The password of the new store is changed in the middle of a migration, as by a reset in a vendor's console. The copier, the
//! checks and whoever was not told yet go on with the new one; a service that was told the former one is locked out.

use crate::desired::Target;
use crate::journal::{Entry, Migration, ServiceMove};
use crate::observed::{Delivery, Service};

use super::forward::reached;
use super::interference::place;
use super::{Draft, Phase, Reason};

impl Draft<'_> {
    /// Whether the new store has another password than the migration tells; it is written down before anything else.
    pub(super) fn takes_up_a_new_password(&mut self, migration: &Migration) -> bool {
        let target = self.inputs.observed.target.present();
        let Some(store) = target.filter(|store| place(store) == migration.to.place()) else { return false };
        let Some(now) = store.credential.as_ref().filter(|now| migration.to.credential.as_ref() != Some(now)) else {
            return false;
        };
        self.phase(match migration {
            Migration { hold: Some(_), .. } => Phase::Held,
            Migration { rollback: Some(_), baked: None, .. } => Phase::RollingBack,
            _ => reached(migration),
        });
        self.journal(Entry::Renewed(now.clone()));
        true
    }

    /// Whether a service was told a password that is not valid any more: its new instances cannot log in. A failure like
    /// any other, since the former store is there and in step.
    pub(super) fn is_locked_out(&mut self, target: &Target, migration: &Migration) -> bool {
        let locked: Vec<_> = migration
            .services
            .iter()
            .filter(|moved| {
                self.service(&moved.service).is_some_and(|service| self.was_told_formerly(service, moved, migration))
            })
            .map(|moved| moved.service.as_str())
            .collect();
        if locked.is_empty() {
            return false;
        }
        let message = format!(
            "the password of {} was changed in the middle of the migration, after {} had been told the former one and \
             cannot log in any more",
            migration.to.id,
            locked.join(", ")
        );
        self.fail(target, migration, Reason::StoreCredentials, &message);
        true
    }

    fn was_told_formerly(&self, service: &Service, moved: &ServiceMove, migration: &Migration) -> bool {
        if migration.former.is_empty() {
            return false;
        }
        moved.undo.variables.keys().filter_map(|name| service.variables.get(name)).any(|variable| {
            match &variable.delivery {
                Delivery::Reference(arn) => {
                    arn.secret_name().is_some_and(|name| migration.told_formerly_by(self.inputs.owner, &name))
                }
                Delivery::Plain => {
                    let told = moved.forward.is_some() && variable.address == migration.to.address;
                    told && variable.password.is_some() && variable.password != migration.to.credential
                }
            }
        })
    }
}
