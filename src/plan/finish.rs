//! After the last old instance has gone: checks, egress, bake, automatic deployments, end.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::checks::{Judgement, Stage, judge};
use crate::desired::Target;
use crate::identity::{SecretName, StoreId};
use crate::journal::{Direction, EgressChange, Entry, Gate, Migration, Outcome, Resource, ServiceMove};
use crate::observed::{Egress, Placement};
use crate::step::{CopyMode, ServicePatch, Step};

use super::admission::Intention;
use super::moves::{Drive, Driven};
use super::verify::{Checked, told};
use super::{Awaited, Draft, Phase, Reason, Wait, after};

impl<'a> Draft<'a> {
    /// Checks, egress, bake, automatic deployments, end.
    pub(super) fn after_drain(&mut self, target: &'a Target, migration: &'a Migration) {
        let Some(drained) = migration.drained else { return };
        self.phase(Phase::Checking);
        if migration.copies && !self.in_step(target, migration) {
            return;
        }
        if migration.validated.is_none() {
            return match self.checked(migration, Stage::AfterSwitch, drained) {
                Checked::Passed(results) => self.journal(Entry::Validated(results)),
                Checked::Regressed(failed) => self.fail(target, migration, Reason::CheckFailed, &told(&failed)),
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
                Checked::Passed(results) => self.journal(Entry::EgressValidated(results)),
                Checked::Regressed(failed) => self.fail(target, migration, Reason::CheckFailed, &told(&failed)),
                Checked::Busy => {}
            };
        }
        self.bake(target, migration);
    }

    fn bake(&mut self, target: &Target, migration: &Migration) {
        self.phase(Phase::Baking);
        let Some(validated) = migration.egress_validated.max(migration.validated) else { return };
        let over = after(validated, target.migration.bake_time);
        if self.inputs.now >= over {
            // The last look decides.
            return match self.checked(migration, Stage::Bake, over) {
                Checked::Passed(results) => self.journal(Entry::Baked(results)),
                Checked::Regressed(failed) => self.fail(target, migration, Reason::CheckFailed, &told(&failed)),
                Checked::Busy => {}
            };
        }
        let newest = self.inputs.observed.checks.get(&Stage::Bake).filter(|run| run.started >= validated);
        if let Some(run) = newest.filter(|run| run.finished.is_some())
            && let Judgement::Regressed(failed) = judge(migration.baseline.as_deref().unwrap_or_default(), &run.results)
        {
            return self.fail(target, migration, Reason::CheckFailed, &told(&failed));
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

    /// Gives automatic deployments back, ends the copier, asks before anything is retired, ends the migration.
    pub(super) fn finish(&mut self, target: &Target, migration: &'a Migration) {
        self.phase(Phase::Retiring);
        let mut restored = None;
        for moved in migration.services.iter().filter(|moved| moved.undo.auto_deployments) {
            match self.deployments_restored(migration, moved) {
                Some(at) => restored = restored.max(at),
                None => return,
            }
        }
        if let Some(at) = restored
            && !self.still_serves(migration, at)
        {
            return;
        }
        if !self.copy_cleared(migration, CopyMode::Clear { gone: None }) {
            return;
        }
        if migration.rollback.is_some() {
            self.note(
                "the bake is over, so there is no way back in this migration; name the former store in spec.store",
            );
        }
        // Somebody wants to go on, or back: nothing is asked and nothing but old secrets is removed.
        if !self.is_still_wanted(migration) || migration.rollback.is_some() {
            let secrets = self.former_secrets(migration);
            return self.journal(Entry::End(Outcome::Completed, secrets));
        }
        // A store is never deleted without a person's word.
        let asked = target.migration.approval.retire || target.migration.retire.delete_old_store;
        if self.approved(asked, migration, Gate::Retire) {
            let leftovers = self.leftovers(target, migration);
            self.journal(Entry::End(Outcome::Completed, leftovers));
        }
    }

    /// Giving automatic deployments back is a deployment too. There is no way back any more: a person looks.
    fn still_serves(&mut self, migration: &Migration, since: Timestamp) -> bool {
        match self.checked(migration, Stage::Bake, since) {
            Checked::Passed(_) => true,
            Checked::Regressed(failed) => {
                self.again(Stage::Bake);
                self.block(
                    Reason::CheckFailed,
                    format!("migration {}", migration.id),
                    format!("after automatic deployments were given back: {}", told(&failed)),
                    "repair what the checks name; they are run again, and nothing is retired before they pass",
                );
                false
            }
            Checked::Busy => false,
        }
    }

    /// When automatic deployments were given back, if that took a call.
    #[expect(clippy::option_option, reason = "not done yet, nothing to do, done at: three answers")]
    fn deployments_restored(&mut self, migration: &Migration, moved: &'a ServiceMove) -> Option<Option<Timestamp>> {
        let service = self.moved_service(moved)?;
        let carries = service.auto_deployments;
        // On already, by a person's hand: nothing is left to give back.
        if carries && moved.deployments_restored.is_none() {
            return Some(None);
        }
        let drive =
            Drive { migration, moved, service, direction: Direction::Restore, intention: Intention::Change, carries };
        let driven = self.drive(&drive, |expect| ServicePatch {
            service: moved.service.clone(),
            arn: moved.arn.clone(),
            direction: Direction::Restore,
            set: BTreeMap::new(),
            unset: Vec::new(),
            egress: None,
            auto_deployments: Some(true),
            expect,
        });
        match driven {
            Driven::Done(at) => Some(Some(at)),
            Driven::Busy => None,
            Driven::Failed(_, message) => {
                self.block(
                    Reason::DeploymentFailed,
                    format!("service {}", moved.service),
                    format!("automatic deployments could not be switched on again: {message}"),
                    "switch them on by hand, or remove the cause and say `retry`",
                );
                None
            }
        }
    }

    /// The secrets of other epochs: no revision that can come back names them any more.
    pub(super) fn former_secrets(&self, migration: &Migration) -> BTreeSet<Resource> {
        let of = |resource: &&Resource| match resource {
            Resource::Secret(name) => !self.is_epoch_secret(name, migration),
            Resource::UpstashDatabase(_)
            | Resource::ReplicationGroup(_)
            | Resource::SubnetGroup(_)
            | Resource::Connector(_)
            | Resource::Rule(_) => false,
        };
        self.inputs.journal.made.keys().filter(of).cloned().collect()
    }

    /// What nothing needs any more: secrets of former epochs, our rules and connectors towards the former store, and that
    /// store itself where the spec says so.
    fn leftovers(&mut self, target: &Target, migration: &Migration) -> BTreeSet<Resource> {
        let mut left = BTreeSet::new();
        for (resource, made) in &self.inputs.journal.made {
            let is_needed = match resource {
                Resource::Secret(name) => self.is_epoch_secret(name, migration),
                Resource::Rule(rule) => match &migration.to.placement {
                    Placement::Vpc { groups, .. } => {
                        rule.split_once(" <- ").is_some_and(|(group, _)| groups.contains(&group.into()))
                    }
                    Placement::Public | Placement::Nowhere => false,
                },
                Resource::Connector(name) => migration.services.iter().any(|moved| {
                    let egress = self.service(&moved.service).map(|service| &service.egress);
                    egress.is_none_or(|egress| match egress {
                        Egress::Vpc(arn) => made.id.as_deref() == Some(&arn.0) || arn.0.contains(&format!("/{name}/")),
                        Egress::Default => false,
                    })
                }),
                // Stores hold data: only the spec's own word removes one.
                Resource::UpstashDatabase(_) | Resource::ReplicationGroup(_) | Resource::SubnetGroup(_) => true,
            };
            if !is_needed {
                left.insert(resource.clone());
            }
        }
        let old = migration.from.as_ref().filter(|from| from.id.is_redis() && from.id != migration.to.id);
        if let Some(from) = old.filter(|_| target.migration.retire.delete_old_store) {
            match &from.id {
                StoreId::Upstash(id) => {
                    let named = Resource::UpstashDatabase(from.name.clone());
                    let ours = self.inputs.journal.made.get(&named);
                    let is_another = ours.is_some_and(|made| made.id.as_ref() != Some(id));
                    left.insert(if is_another { Resource::UpstashDatabase(id.clone()) } else { named });
                }
                StoreId::ReplicationGroup(id) => {
                    left.insert(Resource::ReplicationGroup(id.clone()));
                    if *id == self.inputs.owner.short_name("cache") {
                        left.insert(Resource::SubnetGroup(self.inputs.owner.short_name("subnets")));
                    }
                }
                StoreId::ServerlessCache(_) | StoreId::External(..) | StoreId::Disabled => {}
            }
        }
        left
    }

    /// Whether `name` is a secret the services are told by `migration`.
    pub(super) fn is_epoch_secret(&self, name: &SecretName, migration: &Migration) -> bool {
        migration.tells_by(self.inputs.owner, name)
    }
}
