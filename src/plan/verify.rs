//! What is proved before the switch and after it: that the roles can read, and what the checks say.

use std::time::Duration;

use jiff::Timestamp;

use crate::checks::{CheckResult, Judgement, Severity, Stage, Verdict, judge};
use crate::desired::Target;
use crate::error::Class;
use crate::identity::SecretName;
use crate::journal::{Entry, Migration};
use crate::observed::{Reading, Service};
use crate::step::Step;

use super::{Awaited, Draft, Late, Reason, Wait, after};

/// How long checks may stay undecided before a person is asked.
const UNDECIDED_LIMIT: Duration = Duration::from_mins(10);

/// How a run of checks stands.
pub(super) enum Checked {
    Passed(Vec<CheckResult>),
    Regressed(Vec<CheckResult>),
    Busy,
}

impl<'a> Draft<'a> {
    /// The instance role must be able to read the secret: found out now, not by a deployment that fails after 15 minutes.
    pub(super) fn roles_can_read(&mut self, target: &'a Target, migration: &'a Migration) -> bool {
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

    pub(super) fn baseline(&mut self, migration: &Migration) -> bool {
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
                "repair what it names; it is run again by itself, and nothing is switched before it passes",
            );
        }
        self.again(Stage::Target);
        false
    }

    /// Starts the run again when its last result is a quarter of a minute old.
    pub(super) fn again(&mut self, stage: Stage) {
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
            Judgement::Passed => Checked::Passed(results),
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
}

/// What failed, in one line.
pub(super) fn told(failed: &[CheckResult]) -> String {
    failed.iter().map(|result| format!("{}: {}", result.name, result.message)).collect::<Vec<_>>().join("; ")
}
