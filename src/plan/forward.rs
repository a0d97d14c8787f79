//! A migration on its way: secrets, copy, baseline, switch, drain, checks, egress, bake, end.
//! The target is frozen; the spec is looked at only to notice that it no longer asks for this.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::checks::{CheckResult, Judgement, Severity, Stage, Verdict, judge};
use crate::desired::{OnFailure, Target};
use crate::error::Class;
use crate::identity::SecretName;
use crate::journal::{Direction, EgressChange, Entry, Gate, Migration, Outcome, Resource, ServiceMove};
use crate::observed::{Egress, Reading, Service};
use crate::step::{CopyMode, ServicePatch, Side, Step};

use super::admission::Intention;
use super::moves::{Drive, Driven, any_moved};
use super::wiring::{Wires, Wiring};
use super::{Awaited, Draft, Late, Phase, Reason, Wait, after};

/// How long checks may stay undecided before a person is asked.
const UNDECIDED_LIMIT: Duration = Duration::from_secs(10 * 60);

/// How a run of checks stands.
pub(super) enum Checked {
    Passed,
    Regressed(Vec<CheckResult>),
    Busy,
}

impl<'a> Draft<'a> {
    /// Takes a migration one wave further.
    pub(super) fn forward(&mut self, target: &'a Target, migration: &'a Migration) {
        if self.no_longer_wanted(migration) {
            return;
        }
        self.phase(Phase::Copying);
        if migration.sealed.is_none() && !self.ready_to_switch(target, migration) {
            return;
        }
        if migration.copies && !self.sealed(target, migration) {
            return;
        }
        self.phase(Phase::Switching);
        let Some(switched) = self.switch_services(target, migration) else { return };
        if migration.drained.is_none() {
            self.phase(Phase::Draining);
            if self.drained(target, migration, Side::From, switched) {
                self.journal(Entry::Drained);
            }
            return;
        }
        self.after_drain(target, migration);
    }

    /// The spec asks for another store now: before the switch the migration is given up, after it only the way back counts.
    fn no_longer_wanted(&mut self, migration: &Migration) -> bool {
        let wanted = match &self.inputs.observed.target {
            Reading::Present(store) if store.id == migration.to.id => return false,
            Reading::Present(store) => Some(&store.id),
            Reading::Absent => None,
            Reading::Unknown(_) | Reading::Hidden(_) => return false,
        };
        if !any_moved(migration) {
            self.journal(Entry::Abort);
            return true;
        }
        if wanted.is_some() && wanted == migration.from.as_ref().map(|from| &from.id) {
            self.journal(Entry::RollBack {
                reason: "SpecReverted".to_owned(),
                message: "spec.store names the former store again".to_owned(),
            });
            return true;
        }
        self.note("spec.store names a third store; it is looked at when this migration has ended");
        false
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
        admitted
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
            message: format!("waiting for approval: sessionbackend approve {}/{gate}", migration.id),
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

    /// The instance role must be able to read the secret: found out now, not by a deployment that fails after 15 minutes.
    fn roles_can_read(&mut self, target: &'a Target, migration: &'a Migration) -> bool {
        let mut allowed = true;
        for moved in &migration.services {
            let Some(wiring) = self.wiring(target, migration, moved) else { return false };
            let Some(service) = self.moved_service(moved) else { return false };
            if wiring.secrets.is_empty() {
                continue;
            }
            let subject = format!("service {}", moved.service);
            if service.instance_role.is_none() {
                self.block(
                    Reason::SecretUnreadable,
                    subject,
                    "it has no instance role, so it cannot be given secrets",
                    "set InstanceRoleArn",
                );
                allowed = false;
                continue;
            }
            for name in wiring.secrets.keys() {
                allowed &= self.role_can_read(&moved.service, service, name);
            }
        }
        allowed
    }

    fn role_can_read(&mut self, name: &str, service: &Service, secret: &SecretName) -> bool {
        let access = &self.inputs.observed.role_access;
        let Some(access) = access.iter().find(|access| access.service == name && access.secret == *secret) else {
            self.unread::<bool>(&Reading::Absent, &format!("the access of {name}'s instance role to {secret}"));
            return false;
        };
        match &access.allowed {
            Reading::Present(true) => true,
            Reading::Present(false) | Reading::Absent => {
                let role = service.instance_role.as_ref().map_or("", |role| role.0.as_str());
                let arn = self
                    .inputs
                    .observed
                    .secrets
                    .get(secret)
                    .and_then(Reading::present)
                    .map_or("", |found| found.arn.0.as_str());
                self.block(
                    Reason::SecretUnreadable,
                    format!("service {name}"),
                    format!("its instance role {role} may not read {secret}"),
                    format!(
                        "attach: {{\"Effect\":\"Allow\",\"Action\":\"secretsmanager:GetSecretValue\",\"Resource\":\"{arn}\"}}"
                    ),
                );
                false
            }
            // Without iam:SimulatePrincipalPolicy the answer is not known; the deployment itself will tell.
            Reading::Unknown(error) if error.class == Class::Denied => {
                self.note(format!("whether {name}'s instance role may read {secret} could not be checked: {error}"));
                true
            }
            other => {
                self.unread(other, &format!("the access of {name}'s instance role to {secret}"));
                false
            }
        }
    }

    fn baseline(&mut self, migration: &Migration) -> bool {
        if migration.baseline.is_some() {
            return true;
        }
        let baseline = self.run(Stage::Baseline, migration.began);
        let on_target =
            if migration.to.id.is_redis() { self.run(Stage::Target, migration.began) } else { Some(Vec::new()) };
        let (Some(baseline), Some(on_target)) = (baseline, on_target) else { return false };
        let failed: Vec<_> = on_target
            .iter()
            .filter(|result| {
                result.severity == Severity::Gate && matches!(result.verdict, Verdict::Fail | Verdict::Inconclusive)
            })
            .collect();
        if failed.is_empty() {
            self.journal(Entry::Baseline(baseline));
            return false;
        }
        for result in failed {
            self.block(
                Reason::CheckFailed,
                format!("check {}", result.name),
                format!("on the new store, before the switch: {}", result.message),
                Reason::CheckFailed.remedy(),
            );
        }
        self.again(Stage::Target);
        false
    }

    /// Starts the run again when its last result is a quarter of a minute old.
    fn again(&mut self, stage: Stage) {
        let finished = self.inputs.observed.checks.get(&stage).and_then(|run| run.finished);
        if finished.is_some_and(|at| self.inputs.now >= after(at, Duration::from_secs(15))) {
            self.step(Step::RunChecks { stage });
        }
    }

    /// The results of the run of `stage` begun at or after `since`; starts or awaits it.
    fn run(&mut self, stage: Stage, since: Timestamp) -> Option<Vec<CheckResult>> {
        match self.inputs.observed.checks.get(&stage).filter(|run| run.started >= since) {
            Some(run) if run.finished.is_some() => Some(run.results.clone()),
            Some(run) => {
                self.wait(Wait {
                    on: Awaited::Checks(stage),
                    since: run.started,
                    expected: None,
                    deadline: None,
                    message: format!("checks {stage}: {} done", run.results.len()),
                });
                None
            }
            None => {
                self.step(Step::RunChecks { stage });
                None
            }
        }
    }

    /// Judges the run of `stage` begun at or after `since` against the baseline.
    pub(super) fn checked(&mut self, migration: &Migration, stage: Stage, since: Timestamp) -> Checked {
        let Some(results) = self.run(stage, since) else { return Checked::Busy };
        match judge(migration.baseline.as_deref().unwrap_or_default(), &results) {
            Judgement::Passed => Checked::Passed,
            Judgement::Regressed(failed) => Checked::Regressed(failed),
            Judgement::Undecided(undecided) => {
                let names: Vec<_> =
                    undecided.iter().map(|result| format!("{}: {}", result.name, result.message)).collect();
                self.again(stage);
                self.wait_until(
                    Awaited::Checks(stage),
                    since,
                    UNDECIDED_LIMIT,
                    format!("undecided, tried again: {}", names.join("; ")),
                    Late {
                        reason: Reason::CheckInconclusive,
                        subject: "spec.checks",
                        remedy: Reason::CheckInconclusive.remedy(),
                    },
                );
                Checked::Busy
            }
        }
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
            match self.checked(migration, Stage::AfterSwitch, moved) {
                Checked::Passed => self.journal(Entry::EgressValidated),
                Checked::Regressed(failed) => self.fail(target, Reason::CheckFailed, &told(&failed)),
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
                    self.fail(target, reason, &message);
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
        if moved.forward.as_ref().is_none_or(|moved| moved.operation.is_none()) && !self.in_step(target, migration) {
            return None;
        }
        let drive = Drive { moved, service, direction: Direction::Forward, intention: Intention::Change, carries };
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
    fn change_egress(
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
            let drive = Drive { moved, service, direction: Direction::Egress, intention: Intention::Change, carries };
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
                    self.fail(target, reason, &message);
                    return None;
                }
            }
        }
        Some(last)
    }

    /// Checks, egress, bake, automatic deployments, end.
    fn after_drain(&mut self, target: &'a Target, migration: &'a Migration) {
        let Some(drained) = migration.drained else { return };
        self.phase(Phase::Checking);
        if migration.baked.is_none() {
            if migration.copies && !self.in_step(target, migration) {
                return;
            }
            if self.contested(target, migration) {
                return;
            }
        }
        if migration.validated.is_none() {
            return match self.checked(migration, Stage::AfterSwitch, drained) {
                Checked::Passed => self.journal(Entry::Validated),
                Checked::Regressed(failed) => self.fail(target, Reason::CheckFailed, &told(&failed)),
                Checked::Busy => {}
            };
        }
        let changed = self.change_egress(target, migration, |change| match change {
            EgressChange::Last(egress) => Some(egress),
            EgressChange::None | EgressChange::First(_) | EgressChange::WithVariables(_) => None,
        });
        let Some(changed) = changed else { return };
        if let Some(moved) = changed
            && migration.egress_validated.is_none()
        {
            return match self.checked(migration, Stage::AfterSwitch, moved) {
                Checked::Passed => self.journal(Entry::EgressValidated),
                Checked::Regressed(failed) => self.fail(target, Reason::CheckFailed, &told(&failed)),
                Checked::Busy => {}
            };
        }
        if migration.baked.is_none() {
            return self.bake(target, migration);
        }
        self.finish(migration);
    }

    fn bake(&mut self, target: &Target, migration: &Migration) {
        self.phase(Phase::Baking);
        let Some(validated) = migration.egress_validated.max(migration.validated) else { return };
        let over = after(validated, target.migration.bake_time);
        if self.inputs.now >= over {
            // The last look decides.
            return match self.checked(migration, Stage::Bake, over) {
                Checked::Passed => self.journal(Entry::Baked),
                Checked::Regressed(failed) => self.fail(target, Reason::CheckFailed, &told(&failed)),
                Checked::Busy => {}
            };
        }
        let newest = self.inputs.observed.checks.get(&Stage::Bake).filter(|run| run.started >= validated);
        if let Some(run) = newest.filter(|run| run.finished.is_some())
            && let Judgement::Regressed(failed) = judge(migration.baseline.as_deref().unwrap_or_default(), &run.results)
        {
            return self.fail(target, Reason::CheckFailed, &told(&failed));
        }
        let due = after(newest.map_or(validated, |run| run.started), target.check_interval);
        if self.inputs.now >= due && newest.is_none_or(|run| run.finished.is_some()) {
            self.step(Step::RunChecks { stage: Stage::Bake });
        }
        self.wait(Wait {
            on: Awaited::Bake,
            since: validated,
            expected: Some(over.min(due.max(self.inputs.now))),
            deadline: None,
            message: "the new store is watched; nothing is retired until the bake is over (migration.bakeTime)"
                .to_owned(),
        });
    }

    /// Another hand changed a service: it stops us, it does not make us go back.
    fn contested(&mut self, target: &'a Target, migration: &'a Migration) -> bool {
        let wires = Wires { owner: self.inputs.owner, target, observed: self.inputs.observed };
        for moved in &migration.services {
            let Some(service) = self.moved_service(moved) else { return true };
            let ours: BTreeSet<_> = [&moved.forward, &moved.egress_moved, &moved.deployments_restored]
                .into_iter()
                .filter_map(|moved| moved.as_ref().and_then(|moved| moved.operation.as_ref()))
                .collect();
            let pending = moved.egress_moved.as_ref().is_some_and(|moved| moved.operation.is_none());
            let newest = service.operations.first().filter(|operation| !ours.contains(&operation.id) && !pending);
            let Some(foreign) = newest else { continue };
            if !foreign.status.has_ended() {
                self.admitted(&moved.service, service, Intention::Change);
                return true;
            }
            let wiring = wires.wiring(service, &migration.to, migration.epoch);
            if !wires.is_told(service, &wiring, &migration.to) {
                self.journal(Entry::Hold {
                    reason: Reason::Contested.as_str().to_owned(),
                    message: format!(
                        "operation {} on {}, which is not ours, changed the variables we wrote; {}",
                        foreign.id,
                        moved.service,
                        Reason::Contested.remedy()
                    ),
                });
                return true;
            }
        }
        false
    }

    /// Gives automatic deployments back, ends the copier, ends the migration.
    fn finish(&mut self, migration: &'a Migration) {
        self.phase(Phase::Retiring);
        for moved in migration.services.iter().filter(|moved| moved.undo.auto_deployments) {
            let Some(service) = self.moved_service(moved) else { return };
            let carries = service.auto_deployments;
            let drive = Drive { moved, service, direction: Direction::Restore, intention: Intention::Change, carries };
            let driven = self.drive(&drive, |expect| ServicePatch {
                service: moved.service.clone(),
                arn: moved.arn.clone(),
                direction: Direction::Restore,
                set: std::collections::BTreeMap::new(),
                unset: Vec::new(),
                egress: None,
                auto_deployments: Some(true),
                expect,
            });
            match driven {
                Driven::Done(_) => {}
                Driven::Busy => return,
                Driven::Failed(_, message) => {
                    return self.block(
                        Reason::Rejected,
                        format!("service {}", moved.service),
                        message,
                        "set automatic deployments by hand, then `retry`",
                    );
                }
            }
        }
        if self.copy_cleared(migration) {
            let leftovers = self.leftovers(migration);
            self.journal(Entry::End(Outcome::Completed, leftovers));
        }
    }

    /// Secrets of former epochs: no revision that can come back names them any more.
    fn leftovers(&self, migration: &Migration) -> BTreeSet<Resource> {
        let current = migration.to.binding();
        let keep = |name: &SecretName| {
            current.as_ref().is_some_and(|binding| {
                let prefix = self.inputs.owner.epoch_secret(migration.epoch, binding, "");
                name.0.starts_with(&prefix.0)
            })
        };
        self.inputs
            .journal
            .made
            .keys()
            .filter(|resource| matches!(resource, Resource::Secret(name) if !keep(name)))
            .cloned()
            .collect()
    }

    /// After the switch a failure leads back, or to a person.
    pub(super) fn fail(&mut self, target: &Target, reason: Reason, message: &str) {
        let (reason, message) = (reason.as_str().to_owned(), message.to_owned());
        match target.migration.on_failure {
            OnFailure::Rollback => self.journal(Entry::RollBack { reason, message }),
            OnFailure::Hold => self.journal(Entry::Hold { reason, message }),
        }
    }

    /// A person must decide; until then both stores are kept in step.
    pub(super) fn held(&mut self, target: &'a Target, migration: &'a Migration) {
        self.phase(Phase::Held);
        let Some(hold) = &migration.hold else { return };
        if migration.copies && migration.sealed.is_some() {
            self.in_step(target, migration);
        } else if migration.copies {
            self.copier(migration, CopyMode::Follow);
        }
        self.block(
            Reason::OnHold,
            format!("migration {}", migration.id),
            format!("{}: {}", hold.reason, hold.message),
            Reason::OnHold.remedy(),
        );
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
                    "say `abort`, or create it again",
                );
            } else {
                self.unread(reading, &format!("service {}", moved.service));
            }
        }
        found
    }

    fn wiring(&mut self, target: &'a Target, migration: &Migration, moved: &ServiceMove) -> Option<Wiring> {
        let service = self.moved_service(moved)?;
        let wires = Wires { owner: self.inputs.owner, target, observed: self.inputs.observed };
        Some(wires.wiring(service, &migration.to, migration.epoch))
    }
}

/// What failed, in one line.
pub(super) fn told(failed: &[CheckResult]) -> String {
    failed.iter().map(|result| format!("{}: {}", result.name, result.message)).collect::<Vec<_>>().join("; ")
}
