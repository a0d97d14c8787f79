//! The way back: services in reverse order to exactly what they were, then drain, check, and latch.
//! A way back that cannot start says so and keeps both stores in step.

use jiff::Timestamp;

use crate::checks::Stage;
use crate::desired::Target;
use crate::journal::{Direction, Entry, Migration, Outcome, Resource, Rollback, ServiceMove};
use crate::step::{ServicePatch, Setting, Side};

use super::admission::Intention;
use super::forward::{Checked, told};
use super::moves::{Drive, Driven, Standing, any_moved, standing};
use super::wiring::is_undone;
use super::{Draft, Phase, Reason};

impl<'a> Draft<'a> {
    /// Takes the way back one wave further.
    pub(super) fn back(&mut self, target: &'a Target, migration: &'a Migration) {
        let Some(rollback) = &migration.rollback else { return };
        self.phase(Phase::RollingBack);
        if !any_moved(migration) {
            return self.abandon(migration);
        }
        let Some(last) = self.switch_back(target, migration, rollback) else { return };
        let Some(drained) = rollback.drained else {
            if self.drained(target, migration, Side::To, last) {
                self.journal(Entry::Drained);
            }
            return;
        };
        match self.checked(migration, Stage::AfterRollback, drained) {
            Checked::Passed => {
                if self.copy_cleared(migration) {
                    self.journal(Entry::End(Outcome::RolledBack, Default::default()));
                }
            }
            Checked::Regressed(failed) => self.block(
                Reason::RollbackBlocked,
                format!("migration {}", migration.id),
                format!("back on the former store, checks that passed before fail now: {}", told(&failed)),
                "repair what the checks name; they are run again",
            ),
            Checked::Busy => {}
        }
    }

    /// Before the first call nothing has to be undone but our own traces.
    fn abandon(&mut self, migration: &Migration) {
        if self.copy_cleared(migration) {
            let secrets =
                self.inputs.journal.made.keys().filter(|resource| self.is_of(resource, migration)).cloned().collect();
            self.journal(Entry::End(Outcome::Abandoned, secrets));
        }
    }

    fn is_of(&self, resource: &Resource, migration: &Migration) -> bool {
        let (Resource::Secret(name), Some(binding)) = (resource, migration.to.binding()) else { return false };
        name.0.starts_with(&self.inputs.owner.epoch_secret(migration.epoch, &binding, "").0)
    }

    /// Switches back what was switched, last one first; gives the moment the last one was done.
    fn switch_back(&mut self, target: &'a Target, migration: &'a Migration, rollback: &Rollback) -> Option<Timestamp> {
        let mut last = rollback.at;
        for moved in migration.services.iter().rev() {
            let Some(ended) = self.back_one(target, migration, moved)? else { continue };
            last = last.max(ended);
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
                match standing(service, begun, !undone, self.inputs.now) {
                    // A call that was never made needs no undoing, but the line that announced it is taken back.
                    Standing::NotMade | Standing::Overtaken => {
                        self.journal(Entry::NotMoved(direction, moved.service.clone(), None));
                        return None;
                    }
                    Standing::Recognised(id) => {
                        self.journal(Entry::Moved(direction, moved.service.clone(), id));
                        return None;
                    }
                    Standing::Unlisted | Standing::Running(_) | Standing::Unclear(_) => {
                        let drive =
                            Drive { moved, service, direction, intention: Intention::ChangeBack, carries: !undone };
                        // Nothing is patched here: the standing says that the call was made or may have been.
                        self.await_move(&drive);
                        return None;
                    }
                    Standing::Succeeded(_) | Standing::Failed(_) => {}
                }
            }
            let nothing_to_undo = undone && service.auto_deployments == moved.undo.auto_deployments;
            if nothing_to_undo || (moved.forward.is_none() && moved.egress_moved.is_none()) {
                return Some(None);
            }
        }
        if moved.back.as_ref().is_none_or(|back| back.operation.is_none()) && !self.in_step(target, migration) {
            return None;
        }
        let carries = undone && service.auto_deployments == moved.undo.auto_deployments;
        let drive = Drive { moved, service, direction: Direction::Back, intention: Intention::ChangeBack, carries };
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
            auto_deployments: Some(moved.undo.auto_deployments),
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
