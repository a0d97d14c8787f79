//! The way back: services in reverse order to exactly what they were, then drain, check, and latch.
//! A way back that cannot start says so and keeps both stores in step.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::checks::Stage;
use crate::desired::Target;
use crate::journal::{Direction, Entry, Migration, Outcome, Resource, Rollback, ServiceMove};
use crate::observed::Reading;
use crate::step::{CopyMode, ServicePatch, Setting, Side};

use super::admission::Intention;
use super::moves::{Drive, Driven, Standing, standing};
use super::verify::{Checked, told};
use super::wiring::{carries, is_undone, leads_to_new};
use super::{Draft, Phase, Reason};

impl<'a> Draft<'a> {
    /// Takes the way back one wave further.
    pub(super) fn back(&mut self, target: &'a Target, migration: &'a Migration) {
        let Some(rollback) = &migration.rollback else { return };
        self.phase(Phase::RollingBack);
        self.say_what_is_not_carried(migration);
        match self.was_told(migration) {
            Some(true) => {}
            Some(false) => return self.abandon(migration),
            None => return,
        }
        if let Some(from) = migration.from.as_ref().filter(|_| rollback.drained.is_none())
            && self.is_gone(migration, Side::From)
        {
            return self.block(
                Reason::RollbackBlocked,
                format!("migration {}", migration.id),
                format!("there is no way back: {} is gone; the services that use {} stay there", from.id, migration.to.id),
                "restore it under the same name, or point spec.store to where the services are and delete the object with deletionPolicy Retain",
            );
        }
        let Some(last) = self.switch_back(target, migration, rollback) else { return };
        let Some(drained) = rollback.drained else {
            if self.drained(target, migration, Side::To, last) {
                self.journal(Entry::Drained);
            }
            return;
        };
        if rollback.validated.is_some() {
            if self.copy_cleared(migration, CopyMode::Withdraw) {
                self.journal(Entry::End(Outcome::RolledBack, self.secrets_of(migration)));
            }
            return;
        }
        match self.checked(migration, Stage::AfterRollback, drained) {
            Checked::Passed(results) => self.journal(Entry::BackValidated(results)),
            Checked::Regressed(failed) => {
                self.again(Stage::AfterRollback);
                self.block(
                    Reason::RollbackBlocked,
                    format!("migration {}", migration.id),
                    format!("back on the former store, checks that passed before fail now: {}", told(&failed)),
                    "repair what the checks name; they are run again",
                );
            }
            Checked::Busy => {}
        }
    }

    /// Whether any service was told, or may for a while have been told, of the new store; says what could not be read.
    pub(super) fn was_told(&mut self, migration: &'a Migration) -> Option<bool> {
        for moved in &migration.services {
            if moved.was_told() {
                return Some(true);
            }
            // One that is gone uses no store any more.
            if self.inputs.observed.services.get(&moved.service).is_some_and(Reading::is_absent) {
                continue;
            }
            let service = self.moved_service(moved)?;
            if leads_to_new(service, moved, migration, self.inputs.owner) {
                return Some(true);
            }
        }
        Some(false)
    }

    /// Before the first call nothing has to be undone but our own traces.
    pub(super) fn abandon(&mut self, migration: &Migration) {
        if self.copy_cleared(migration, CopyMode::Withdraw) {
            self.journal(Entry::End(Outcome::Abandoned, self.secrets_of(migration)));
        }
    }

    /// The secrets made for a migration that did not come about.
    fn secrets_of(&self, migration: &Migration) -> BTreeSet<Resource> {
        let of = |resource: &&Resource| match resource {
            Resource::Secret(name) => self.is_epoch_secret(name, migration),
            Resource::UpstashDatabase(_)
            | Resource::ReplicationGroup(_)
            | Resource::SubnetGroup(_)
            | Resource::Connector(_)
            | Resource::Rule(_) => false,
        };
        self.inputs.journal.made.keys().filter(of).cloned().collect()
    }

    /// Switches back what was switched, last one first; gives the moment the last one was done.
    fn switch_back(&mut self, target: &'a Target, migration: &'a Migration, rollback: &Rollback) -> Option<Timestamp> {
        let mut last = rollback.at;
        for moved in migration.services.iter().rev() {
            let ended = self.back_one(target, migration, moved)?;
            // A deployment that failed had instances of the new store too, for as long as it ran.
            let deployed = self.service(&moved.service).into_iter().flat_map(|service| &service.operations);
            last = last.max(deployed.filter_map(|operation| operation.ended).chain(ended).max().unwrap_or(last));
        }
        Some(last)
    }

    #[expect(clippy::option_option, reason = "not done yet, nothing to do, done at: three answers")]
    fn back_one(
        &mut self,
        target: &'a Target,
        migration: &'a Migration,
        moved: &'a ServiceMove,
    ) -> Option<Option<Timestamp>> {
        let service = self.moved_service(moved)?;
        let undone = is_undone(service, &moved.undo);
        if moved.back.is_none() {
            for (direction, begun) in [(Direction::Forward, &moved.forward), (Direction::Egress, &moved.egress_moved)] {
                let Some(begun) = begun else { continue };
                let carries = carries(service, &moved.undo, direction);
                match standing(service, begun, carries, self.inputs.now) {
                    // A call that was never made needs no undoing, but the line that announced it is taken back.
                    Standing::NotMade => {
                        self.journal(Entry::NotMoved(direction, moved.service.clone(), None));
                        return None;
                    }
                    Standing::Overtaken => {
                        self.journal(Entry::Dropped(direction, moved.service.clone()));
                        return None;
                    }
                    Standing::Recognised(id) => {
                        self.journal(Entry::Moved(direction, moved.service.clone(), id));
                        return None;
                    }
                    Standing::Unlisted | Standing::Running(_) | Standing::Unclear(_) => {
                        let drive =
                            Drive { migration, moved, service, direction, intention: Intention::ChangeBack, carries };
                        // Nothing is patched here: the standing says that the call was made or may have been.
                        self.await_move(&drive);
                        return None;
                    }
                    Standing::Succeeded(_) | Standing::Failed(_) => {}
                }
            }
            let nothing_to_undo = undone && service.auto_deployments == moved.undo.auto_deployments;
            let never_moved = moved.forward.is_none() && moved.egress_moved.is_none();
            if nothing_to_undo || never_moved && !leads_to_new(service, moved, migration, self.inputs.owner) {
                return Some(None);
            }
        }
        let is_called = moved.back.as_ref().is_some_and(|back| back.operation.is_some());
        if !is_called && !self.in_step(target, migration) {
            return None;
        }
        let carries = undone && service.auto_deployments == moved.undo.auto_deployments;
        let drive =
            Drive { migration, moved, service, direction: Direction::Back, intention: Intention::ChangeBack, carries };
        let driven = self.drive(&drive, |expect| ServicePatch {
            service: moved.service.clone(),
            arn: moved.arn.clone(),
            direction: Direction::Back,
            set: moved
                .undo
                .variables
                .iter()
                .filter(|(_, prior)| **prior != crate::journal::Prior::Absent)
                .map(|(name, prior)| (name.clone(), Setting::Prior(prior.clone())))
                .collect(),
            unset: moved
                .undo
                .variables
                .iter()
                .filter(|(name, prior)| {
                    **prior == crate::journal::Prior::Absent && service.variables.contains_key(*name)
                })
                .map(|(name, _)| name.clone())
                .collect(),
            egress: (service.egress != moved.undo.egress).then(|| moved.undo.egress.clone()),
            auto_deployments: (service.auto_deployments != moved.undo.auto_deployments)
                .then_some(moved.undo.auto_deployments),
            expect,
        });
        match driven {
            Driven::Done(ended) => Some(Some(ended)),
            Driven::Busy => None,
            Driven::Failed(_, message) => {
                self.block(
                    Reason::RollbackBlocked,
                    format!("service {}", moved.service),
                    format!("the way back failed: {message}; both stores are kept in step"),
                    Reason::RollbackBlocked.remedy(),
                );
                None
            }
        }
    }
}
