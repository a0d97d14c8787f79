//! What others do in the middle of a migration: the spec is edited, a service is changed, the store goes away.
//! Before the first call the migration is given up and planned anew; after it a person decides, or the way back begins.

use std::collections::BTreeSet;

use crate::desired::{OnFailure, Target};
use crate::env;
use crate::identity::{OperationId, StoreId};
use crate::journal::{Direction, Entry, Migration, Rollback, ServiceMove};
use crate::observed::{Operation, OperationStatus, Reading, ServiceStatus, Store, StoreStatus};
use crate::step::{CopyMode, Side};

use super::admission::Intention;
use super::contested::ignore_changes;
use super::moves::any_moved;
use super::wiring::{Wires, is_undone, leads_to_new};
use super::{Draft, Phase, Reason};

impl<'a> Draft<'a> {
    /// The spec asks for another store now: before the switch the migration is given up, after it only the way back counts.
    pub(super) fn no_longer_wanted(&mut self, migration: &Migration) -> bool {
        let wanted = match &self.inputs.observed.target {
            Reading::Present(store) if place(store) == migration.to.place() => return false,
            Reading::Present(store) => Some(place(store)),
            Reading::Absent => None,
            Reading::Unknown(_) | Reading::Hidden(_) => return false,
        };
        if self.spec_is_reverted(migration) {
            self.roll_back(Rollback::SPEC_REVERTED, "spec.store names the former store again");
            return true;
        }
        if !any_moved(migration) {
            self.roll_back(Rollback::SPEC_CHANGED, "spec.store names another store now");
            return true;
        }
        match wanted {
            Some((id, _)) => {
                self.note(format!("spec.store names {id} now; that is looked at when this migration has ended"));
            }
            None => self.note(format!(
                "spec.store names a store that is not there; this migration goes to {} and ends first",
                migration.to.id
            )),
        }
        false
    }

    /// Whether the spec still asks for where a migration goes; what cannot be read is no other word.
    pub(super) fn is_still_wanted(&self, migration: &Migration) -> bool {
        match &self.inputs.observed.target {
            Reading::Present(store) => place(store) == migration.to.place(),
            Reading::Absent => false,
            Reading::Unknown(_) | Reading::Hidden(_) => true,
        }
    }

    fn spec_is_reverted(&self, migration: &Migration) -> bool {
        let Some(wanted) = self.inputs.observed.target.present().map(place) else { return false };
        match &migration.from {
            Some(from) => wanted == from.place() && wanted != migration.to.place(),
            // Where there was no store before, no store is the way back.
            None => *wanted.0 == StoreId::Disabled && migration.to.id.is_redis(),
        }
    }

    pub(super) fn roll_back(&mut self, reason: &str, message: impl Into<String>) {
        self.journal(Entry::RollBack { reason: reason.to_owned(), message: message.into() });
    }

    /// The variables and the keys are frozen with the migration: other names would have no way back, other keys no base.
    pub(super) fn is_told_otherwise(&mut self, target: &'a Target, migration: &'a Migration) -> bool {
        if migration.copies && target.migration.rules != migration.rules {
            if migration.sealed.is_none() && !any_moved(migration) {
                self.roll_back(Rollback::SPEC_CHANGED, "spec.migration selects other keys now");
                return true;
            }
            self.note("spec.migration selects other keys now; this migration ends with those it began with");
        }
        let names: BTreeSet<String> = env::names(&target.env.format).into_iter().collect();
        for moved in &migration.services {
            let Some(wiring) = self.wiring(target, migration, moved) else { return true };
            let kept = &moved.undo.variables;
            if wiring.set.keys().all(|name| kept.contains_key(name)) && kept.keys().all(|name| names.contains(name)) {
                continue;
            }
            if any_moved(migration) {
                self.say_that_env_is_frozen();
            } else {
                self.roll_back(Rollback::SPEC_CHANGED, "spec.env names other variables now");
            }
            return true;
        }
        let wires = Wires { owner: self.inputs.owner, target, observed: self.inputs.observed };
        let told = wires.told_by(&migration.to);
        if migration.told.as_ref().is_some_and(|frozen| *frozen != told) {
            if !any_moved(migration) {
                self.roll_back(Rollback::SPEC_CHANGED, "spec.env asks for another form of the variables now");
                return true;
            }
            if migration.drained.is_none() {
                self.say_that_env_is_frozen();
                return true;
            }
            self.note("spec.env asks for another form of the variables now; when this migration has ended the services are told anew");
        }
        false
    }

    fn say_that_env_is_frozen(&mut self) {
        self.block(
            Reason::Immutable,
            "spec.env",
            "the format or the names of the variables were changed in the middle of a migration",
            "put spec.env back as it was until the migration has ended, or say `abort`",
        );
    }

    /// A service that was not called yet must be what its way back was written down for.
    pub(super) fn has_changed_since(&mut self, migration: &'a Migration) -> bool {
        for moved in &migration.services {
            if moved.forward.is_some() || moved.egress_moved.is_some() {
                continue;
            }
            let Some(service) = self.moved_service(moved) else { return true };
            // While it is being deployed its configuration may still be taken back.
            let settled = service.status != ServiceStatus::OperationInProgress;
            let is_as_it_was =
                is_undone(service, &moved.undo) && service.auto_deployments == moved.undo.auto_deployments;
            if is_as_it_was || !settled || leads_to_new(service, moved, migration, self.inputs.owner) {
                continue;
            }
            let message = format!(
                "somebody changed the variables, the egress or the automatic deployments of service {}",
                moved.service
            );
            if any_moved(migration) {
                self.journal(Entry::Hold { reason: Reason::Contested.as_str().to_owned(), message });
            } else {
                self.roll_back(Rollback::SERVICE_CHANGED, message);
            }
            return true;
        }
        false
    }

    /// Whether the new store is there and serves, as far as anybody can tell; says what is wrong where it does not.
    pub(super) fn serves(&mut self, migration: &Migration) -> bool {
        let to = &migration.to.id;
        match (&self.inputs.observed.target, to) {
            (Reading::Present(store), _) if store.id == *to => match store.status {
                StoreStatus::Available | StoreStatus::Modifying => true,
                StoreStatus::Creating | StoreStatus::Deleting | StoreStatus::Failed(_) => {
                    self.say_how_it_fails(store);
                    if store.status == StoreStatus::Creating {
                        self.unread::<()>(&Reading::Absent, &format!("{to} as an available store"));
                    }
                    false
                }
            },
            (_, StoreId::External(..) | StoreId::Disabled) => true,
            (unread @ (Reading::Unknown(_) | Reading::Hidden(_)), _) => {
                self.unread(unread, "the new store");
                false
            }
            (Reading::Present(_) | Reading::Absent, _)
                if self.inputs.observed.catalog.iter().any(|entry| entry.id == *to) =>
            {
                true
            }
            (Reading::Present(_), _) => {
                self.unread::<()>(&Reading::Absent, &format!("{to}, which spec.store no longer names,"));
                false
            }
            (Reading::Absent, _) => {
                self.block(
                    Reason::StoreGone,
                    format!("migration {}", migration.id),
                    format!("{to} is gone in the middle of the migration"),
                    "say `abort` to go back, or restore it",
                );
                false
            }
        }
    }

    /// Another hand changed a service: it stops us, it does not make us go back.
    pub(super) fn contested(&mut self, target: &'a Target, migration: &'a Migration) -> bool {
        let wires = Wires { owner: self.inputs.owner, target, observed: self.inputs.observed };
        for moved in &migration.services {
            let Some(service) = self.moved_service(moved) else { return true };
            let ours = ours(moved);
            let pending = moved.egress_moved.as_ref().is_some_and(|moved| moved.operation.is_none());
            let newest = service.operations.first().filter(|operation| !ours.contains(&operation.id) && !pending);
            let Some(foreign) = newest else { continue };
            if !foreign.status.has_ended() {
                self.kept_in_step(migration);
                // The two answers of App Runner need not agree: what is listed as running may not show in the status yet.
                if self.admitted(&moved.service, service, Intention::Change) {
                    self.await_foreign(&moved.service, service);
                }
                return true;
            }
            let wiring = wires.wiring_of(moved, service, &migration.to, migration.epoch);
            if !wires.is_told(service, &wiring, &migration.to) {
                self.journal(Entry::Hold {
                    reason: Reason::Contested.as_str().to_owned(),
                    message: format!(
                        "operation {} on {}, which is not ours, changed the variables we wrote; whoever made it has to leave {} alone{}",
                        foreign.id,
                        moved.service,
                        moved.undo.variables.keys().cloned().collect::<Vec<_>>().join(", "),
                        ignore_changes(service, moved.undo.variables.iter(), &wiring)
                    ),
                });
                return true;
            }
        }
        false
    }

    /// After the switch a failure leads back, or to a person. With somebody else's deployment in between, to a person.
    pub(super) fn fail(&mut self, target: &Target, migration: &Migration, reason: Reason, message: &str) {
        let (word, message) = (reason.as_str().to_owned(), message.to_owned());
        let foreign = (reason == Reason::CheckFailed).then(|| self.foreign_operation(migration)).flatten();
        if let Some(from) = migration.from.as_ref().filter(|_| self.is_gone(migration, Side::From)) {
            let message = format!("{message}; there is no way back, {} is gone", from.id);
            return self.journal(Entry::Hold { reason: word, message });
        }
        match (target.migration.on_failure, foreign) {
            (OnFailure::Rollback, None) => self.journal(Entry::RollBack { reason: word, message }),
            (OnFailure::Hold, None) => self.journal(Entry::Hold { reason: word, message }),
            (OnFailure::Rollback | OnFailure::Hold, Some((service, operation))) => self.journal(Entry::Hold {
                reason: Reason::ForeignDeployment.as_str().to_owned(),
                message: format!("{message}; operation {operation} on {service}, which is not ours, came before it"),
            }),
        }
    }

    /// The newest operation of a switched service, where it is not ours.
    fn foreign_operation(&self, migration: &Migration) -> Option<(String, OperationId)> {
        migration.services.iter().find_map(|moved| {
            let newest = self.service(&moved.service)?.operations.first()?;
            let ours = moved.forward.is_none() || ours(moved).contains(&newest.id);
            (!ours).then(|| (moved.service.clone(), newest.id.clone()))
        })
    }

    /// A person must decide; until then both stores are kept in step.
    pub(super) fn held(&mut self, target: &'a Target, migration: &'a Migration) {
        self.phase(Phase::Held);
        let Some(hold) = &migration.hold else { return };
        if migration.baked.is_none() && self.spec_is_reverted(migration) {
            return self.roll_back(Rollback::SPEC_REVERTED, "spec.store names the former store again");
        }
        if self.failed_is_forgotten(migration) {
            return;
        }
        if migration.copies && migration.sealed.is_some() && migration.baked.is_none() {
            self.in_step(target, migration);
        } else if migration.copies && migration.sealed.is_none() {
            self.copier(migration, CopyMode::Follow);
        }
        self.block(
            Reason::OnHold,
            format!("migration {}", migration.id),
            format!("{}: {}", hold.reason, hold.message),
            Reason::OnHold.remedy(),
        );
    }

    /// Writes down that a call whose operation failed may be made again: `retry` begins there.
    fn failed_is_forgotten(&mut self, migration: &Migration) -> bool {
        for moved in &migration.services {
            let Some(service) = self.service(&moved.service) else { continue };
            for direction in [Direction::Egress, Direction::Forward] {
                let id = moved.moved(direction).and_then(|moved| moved.operation.as_ref());
                let failed =
                    |operation: &&Operation| Some(&operation.id) == id && operation.status == OperationStatus::Failed;
                if service.operations.iter().any(|operation| failed(&operation)) {
                    self.journal(Entry::Dropped(direction, moved.service.clone()));
                    return true;
                }
            }
        }
        false
    }
}

fn place(store: &Store) -> (&StoreId, u32) {
    (&store.id, store.address.as_ref().map_or(0, |address| address.db))
}

/// The operations of ours on a service on the way there.
fn ours(moved: &ServiceMove) -> BTreeSet<&OperationId> {
    [&moved.forward, &moved.egress_moved, &moved.deployments_restored]
        .into_iter()
        .filter_map(|moved| moved.as_ref().and_then(|moved| moved.operation.as_ref()))
        .collect()
}
