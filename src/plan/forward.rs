//! A migration on its way: secrets, copy, baseline, switch, drain, checks, egress, bake, end.
//! The target is frozen; the spec is looked at only to notice that it no longer asks for this.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::checks::Stage;
use crate::desired::{Desired, Target};
use crate::identity::SecretName;
use crate::journal::{Direction, EgressChange, Entry, Gate, Migration, Resource, ServiceMove};
use crate::observed::{Egress, Reading, Service};
use crate::step::{ServicePatch, Side, Step};

use super::admission::Intention;
use super::moves::{Drive, Driven};
use super::verify::{Checked, told};
use super::wiring::{Wires, Wiring};
use super::{Awaited, Draft, Phase, Reason, Wait};

impl<'a> Draft<'a> {
    /// Takes a migration one wave further.
    pub(super) fn forward(&mut self, target: &'a Target, migration: &'a Migration) {
        self.phase(reached(migration));
        self.say_what_is_not_carried(migration);
        if migration.baked.is_some() {
            return self.finish(target, migration);
        }
        if self.no_longer_wanted(migration)
            || self.is_told_otherwise(target, migration)
            || self.has_changed_since(migration)
        {
            return;
        }
        if migration.sealed.is_none() && !self.ready_to_switch(target, migration) {
            return;
        }
        if !self.sealed(target, migration) {
            return;
        }
        if migration.drained.is_some() {
            if !self.contested(target, migration) {
                self.after_drain(target, migration);
            }
            return;
        }
        self.phase(Phase::Switching);
        let Some(switched) = self.switch_services(target, migration) else { return };
        if self.contested(target, migration) {
            return;
        }
        self.phase(Phase::Draining);
        if self.drained(target, migration, Side::From, switched) {
            self.journal(Entry::Drained);
        }
    }

    /// Everything that can be done and known before the first service is told anything.
    fn ready_to_switch(&mut self, target: &'a Target, migration: &'a Migration) -> bool {
        let secrets = self.secrets(target, migration);
        let baseline = self.baseline(migration);
        let caught_up = !migration.copies || self.caught_up(target, migration);
        let roles = secrets && self.roles_can_read(target, migration);
        let admitted = self.all_admitted(migration);
        if !(secrets && roles && baseline && caught_up && admitted) {
            return false;
        }
        self.approved(target.migration.approval.switch, migration, Gate::Switch)
    }

    fn all_admitted(&mut self, migration: &Migration) -> bool {
        let mut admitted = true;
        for moved in &migration.services {
            let Some(service) = self.moved_service(moved) else { return false };
            admitted &= self.admitted(&moved.service, service, Intention::Begin);
        }
        admitted && self.serves(migration)
    }

    pub(super) fn approved(&mut self, needed: bool, migration: &Migration, gate: Gate) -> bool {
        if !needed || migration.approved.contains(&gate) {
            return true;
        }
        self.phase(Phase::AwaitingApproval);
        self.wait(Wait {
            on: Awaited::Approval(gate),
            since: migration.began,
            expected: None,
            deadline: None,
            message: format!(
                "waiting for approval of {}: sessionbackend approve {}/{gate} -f FILE",
                about(migration, gate, self.inputs.desired),
                migration.id
            ),
        });
        false
    }

    fn secrets(&mut self, target: &'a Target, migration: &'a Migration) -> bool {
        let mut complete = true;
        let mut seen = BTreeSet::new();
        for moved in &migration.services {
            let Some(wiring) = self.wiring(target, migration, moved) else { return false };
            for unread in &wiring.unread {
                complete = false;
                let reading = &self.inputs.observed.secrets[unread];
                self.unread(reading, &format!("secret {unread}"));
            }
            for missing in &wiring.missing {
                complete = false;
                if seen.insert(missing.clone()) {
                    self.create_secret(migration, missing, &wiring);
                }
            }
        }
        complete
    }

    fn create_secret(&mut self, migration: &Migration, name: &SecretName, wiring: &Wiring) {
        let resource = Resource::Secret(name.clone());
        if !self.inputs.journal.made.contains_key(&resource) {
            return self.journal(Entry::Intend(resource));
        }
        let Some(variable) = wiring.secrets.get(name) else { return };
        self.step(Step::CreateEpochSecret {
            name: name.clone(),
            epoch: migration.epoch,
            variable: variable.clone(),
            store: migration.to.id.clone(),
        });
    }

    /// Switches service after service; gives the moment the last one was done.
    fn switch_services(&mut self, target: &'a Target, migration: &'a Migration) -> Option<Timestamp> {
        let first = self.change_egress(target, migration, |change| match change {
            EgressChange::First(egress) => Some(egress),
            EgressChange::None | EgressChange::WithVariables(_) | EgressChange::Last(_) => None,
        })?;
        if let Some(moved) = first
            && migration.egress_validated.is_none()
        {
            match self.checked(
                migration,
                Stage::AfterSwitch,
                migration.sealed.map_or(moved, |sealed| sealed.max(moved)),
            ) {
                Checked::Passed(results) => self.journal(Entry::EgressValidated(results)),
                Checked::Regressed(failed) => self.fail(target, migration, Reason::CheckFailed, &told(&failed)),
                Checked::Busy => {}
            }
            return None;
        }
        let mut last = migration.began;
        for moved in &migration.services {
            match self.switch(target, migration, moved)? {
                Driven::Done(ended) => last = last.max(ended),
                Driven::Busy => return None,
                Driven::Failed(reason, message) => {
                    self.fail(target, migration, reason, &message);
                    return None;
                }
            }
        }
        Some(last)
    }

    fn switch(&mut self, target: &'a Target, migration: &'a Migration, moved: &'a ServiceMove) -> Option<Driven> {
        let service = self.moved_service(moved)?;
        let wiring = self.wiring(target, migration, moved)?;
        let egress = match &moved.egress {
            EgressChange::WithVariables(egress) => Some(egress.clone()),
            EgressChange::None | EgressChange::First(_) | EgressChange::Last(_) => None,
        };
        let wires = Wires { owner: self.inputs.owner, target, observed: self.inputs.observed };
        let carries = wires.is_told(service, &wiring, &migration.to)
            && egress.as_ref().is_none_or(|egress| service.egress == *egress);
        if moved.forward.as_ref().is_none_or(|moved| moved.operation.is_none())
            && !(self.serves(migration) && self.secrets(target, migration) && self.in_step(target, migration))
        {
            return None;
        }
        let drive =
            Drive { migration, moved, service, direction: Direction::Forward, intention: Intention::Change, carries };
        Some(self.drive(&drive, |expect| ServicePatch {
            service: moved.service.clone(),
            arn: moved.arn.clone(),
            direction: Direction::Forward,
            set: wiring.set,
            unset: wiring.unset,
            egress,
            auto_deployments: moved.undo.auto_deployments.then_some(false),
            expect,
        }))
    }

    /// Changes the egress alone of the services that `pick` an egress; gives the last end, `Some(None)` where there is none.
    #[expect(clippy::option_option, reason = "not done yet, nothing to do, done at: three answers")]
    pub(super) fn change_egress(
        &mut self,
        target: &Target,
        migration: &'a Migration,
        pick: impl Fn(&EgressChange) -> Option<&Egress>,
    ) -> Option<Option<Timestamp>> {
        let mut last = None;
        for moved in &migration.services {
            let Some(egress) = pick(&moved.egress) else { continue };
            let service = self.moved_service(moved)?;
            if moved.egress_moved.as_ref().is_none_or(|moved| moved.operation.is_none())
                && !self.in_step(target, migration)
            {
                return None;
            }
            let carries = service.egress == *egress;
            let drive = Drive {
                migration,
                moved,
                service,
                direction: Direction::Egress,
                intention: Intention::Change,
                carries,
            };
            let driven = self.drive(&drive, |expect| ServicePatch {
                service: moved.service.clone(),
                arn: moved.arn.clone(),
                direction: Direction::Egress,
                set: std::collections::BTreeMap::new(),
                unset: Vec::new(),
                egress: Some(egress.clone()),
                auto_deployments: None,
                expect,
            });
            match driven {
                Driven::Done(ended) => last = last.max(Some(ended)),
                Driven::Busy => return None,
                Driven::Failed(reason, message) => {
                    self.fail(target, migration, reason, &message);
                    return None;
                }
            }
        }
        Some(last)
    }

    pub(super) fn moved_service(&mut self, moved: &ServiceMove) -> Option<&'a Service> {
        let found = self.service(&moved.service);
        if found.is_none() {
            let reading = self.inputs.observed.services.get(&moved.service).unwrap_or(&Reading::Absent);
            if reading.is_absent() {
                self.block(
                    Reason::ServiceNotFound,
                    format!("service {}", moved.service),
                    "it is gone in the middle of the migration",
                    "create it again, or delete the object and begin anew",
                );
            } else {
                self.unread(reading, &format!("service {}", moved.service));
            }
        }
        found
    }

    pub(super) fn wiring(&mut self, target: &'a Target, migration: &Migration, moved: &ServiceMove) -> Option<Wiring> {
        let service = self.moved_service(moved)?;
        let wires = Wires { owner: self.inputs.owner, target, observed: self.inputs.observed };
        Some(wires.wiring_of(moved, service, &migration.to, migration.epoch))
    }
}

fn about(migration: &Migration, gate: Gate, desired: &Desired) -> String {
    let from = migration.from.as_ref().map_or("the former store".to_owned(), |from| from.id.to_string());
    match (gate, desired) {
        (Gate::Switch, _) => format!("the switch to {}", migration.to.id),
        (Gate::Handover, _) => format!("leaving {from}: its users outside App Runner have been moved"),
        (Gate::Retire, Desired::Present(target)) if target.migration.retire.delete_old_store => {
            format!("the deletion of {from} with everything in it")
        }
        (Gate::GiveUp, _) => format!("giving up {from} as it is"),
        (Gate::Retire, _) => "the removal of what is no longer needed".to_owned(),
    }
}

/// How far a migration is by what has been written down.
pub(super) fn reached(migration: &Migration) -> Phase {
    match migration {
        Migration { baked: Some(_), .. } => Phase::Retiring,
        Migration { validated: Some(_), .. } => Phase::Baking,
        Migration { drained: Some(_), .. } => Phase::Checking,
        Migration { sealed: Some(_), .. } => Phase::Switching,
        _ => Phase::Copying,
    }
}
