//! Checks the promises over any plan before anything runs. A violation is a bug of the planner: nothing is done then.

use std::collections::BTreeSet;

use crate::desired::{DeletionPolicy, Desired};
use crate::env;
use crate::identity::{Arn, RuleId, SecretName, StoreId};
use crate::journal::{Direction, Entry, Migration, Prior, Resource};
use crate::observed::{CopyState, Egress, Reading, Service, StoreStatus};
use crate::step::{ServicePatch, Setting, Step};

use super::copying::HEARTBEAT;
use super::copying::left_gone;
use super::forgotten::forgotten;
use super::retire::admits;
use super::usage::{self, Need, User};
use super::{Inputs, Plan, after};

/// What `plan` would break, in words. Empty is the rule.
#[must_use]
pub fn violations(inputs: &Inputs<'_>, plan: &Plan) -> Vec<String> {
    let mut found: Vec<String> = plan.steps.iter().filter_map(|step| violation(inputs, step)).collect();
    if plan.steps.len() > 1
        && plan.steps.iter().any(|step| step.is_destructive() || matches!(step, Step::Journal { .. }))
    {
        found.push("a journal line or a destructive step does not run alone".to_owned());
    }
    found
}

fn violation(inputs: &Inputs<'_>, step: &Step) -> Option<String> {
    match step {
        Step::Journal { expect, .. } if *expect != inputs.journal.sequence => {
            Some(format!("a journal line expects sequence {expect}, the journal is at {}", inputs.journal.sequence))
        }
        Step::Journal { entry: Entry::Begin(_) | Entry::Settle(_), .. } => {
            forgotten(inputs).next().map(|(store, _)| {
                format!("{store} has what a migration left that the journal does not know, and would be taken for new")
            })
        }
        Step::Journal { .. } => None,
        Step::PatchService(patch) => patch_violation(inputs, patch),
        Step::DeleteSecret { name } => secret_violation(inputs, name),
        Step::DeleteConnector { arn } => connector_violation(inputs, arn),
        Step::RevokeIngress { rule, .. } => rule_violation(inputs, rule),
        Step::DeleteUpstashDatabase { name, id } => {
            store_violation(inputs, &Resource::UpstashDatabase(name.clone()), &StoreId::Upstash(id.clone()))
        }
        Step::DeleteReplicationGroup { id } => {
            store_violation(inputs, &Resource::ReplicationGroup(id.clone()), &StoreId::ReplicationGroup(id.clone()))
        }
        Step::Claim { .. }
        | Step::Release { .. }
        | Step::CreateUpstashDatabase { .. }
        | Step::CreateSubnetGroup { .. }
        | Step::DeleteSubnetGroup { .. }
        | Step::CreateReplicationGroup { .. }
        | Step::AuthorizeIngress { .. }
        | Step::CreateConnector { .. }
        | Step::CreateEpochSecret { .. }
        | Step::Copy { .. }
        | Step::CountQuiet { .. }
        | Step::RunChecks { .. } => None,
    }
}

fn connector_violation(inputs: &Inputs<'_>, arn: &Arn) -> Option<String> {
    let egress = Egress::Vpc(arn.clone());
    let observed = inputs.observed;
    let used = observed.services.values().filter_map(Reading::present).any(|service| service.egress == egress)
        || observed.bystanders.present().into_iter().flatten().any(|other| other.egress == egress);
    let returning = inputs
        .journal
        .open_migration()
        .is_some_and(|migration| migration.services.iter().any(|moved| moved.undo.egress == egress));
    let made = |resource: &Resource, id: Option<&str>| match resource {
        Resource::Connector(name) => *name == arn.0 || id == Some(&arn.0) || arn.0.contains(&format!("/{name}/")),
        Resource::UpstashDatabase(_)
        | Resource::ReplicationGroup(_)
        | Resource::SubnetGroup(_)
        | Resource::Rule(_)
        | Resource::Secret(_) => false,
    };
    let allowed = named(inputs, |target| target.migration.retire.connectors.contains(arn))
        || inputs.journal.made.iter().any(|(resource, of)| made(resource, of.id.as_deref()));
    match (used || returning, allowed) {
        (true, _) => Some(format!("connector {arn} would be deleted while a running or returning revision uses it")),
        (false, false) => Some(format!("connector {arn} is neither ours nor named in the spec")),
        (false, true) => None,
    }
}

fn rule_violation(inputs: &Inputs<'_>, id: &RuleId) -> Option<String> {
    let observed = inputs.observed;
    let reading = observed.rules.get(id).and_then(Reading::present);
    let allowed = named(inputs, |target| target.migration.retire.rules.contains(id))
        || inputs.journal.made.iter().any(|(resource, made)| {
            let by_name = || {
                let rule = reading.filter(|rule| rule.ours)?;
                Some(Step::rule_name(&rule.group, rule.source.as_ref()?, rule.from_port?))
            };
            made.id.as_deref() == Some(&id.0) || by_name().as_ref() == Some(resource)
        });
    if inputs.journal.open_migration().is_some() || !allowed {
        return Some(format!("rule {id} would be removed during a migration, or is neither ours nor named"));
    }
    let rule = reading?;
    let Some(services) = ours(inputs) else {
        return Some(format!("rule {id} would be removed while a service that may need it could not be read"));
    };
    let needed = services.into_iter().any(|service| {
        let through = match &service.egress {
            Egress::Vpc(arn) => {
                observed.connectors.get(arn).and_then(Reading::present).is_none_or(|connector| admits(rule, connector))
            }
            Egress::Default => false,
        };
        through && usage::of_group(inputs, service.into(), &rule.group) != Need::No
    });
    needed.then(|| format!("rule {id} would be removed while a service reaches its store through it, or may"))
}

/// Our services. `None` where one of them could not be read: it may use anything.
fn ours<'a>(inputs: &Inputs<'a>) -> Option<Vec<&'a Service>> {
    let readings = inputs.observed.services.values().filter(|reading| !reading.is_absent());
    readings.map(Reading::present).collect()
}

/// All services of the account. `None` where one of them, or their list, could not be read.
fn everybody<'a>(inputs: &Inputs<'a>) -> Option<Vec<User<'a>>> {
    let others = inputs.observed.bystanders.present()?;
    Some(ours(inputs)?.into_iter().map(User::from).chain(others.iter().map(User::from)).collect())
}

fn named(inputs: &Inputs<'_>, says: impl Fn(&crate::desired::Target) -> bool) -> bool {
    match inputs.desired {
        Desired::Present(target) => says(target),
        Desired::Absent { .. } => false,
    }
}

fn patch_violation(inputs: &Inputs<'_>, patch: &ServicePatch) -> Option<String> {
    let who = format!("service {}", patch.service);
    let Some(migration) = inputs.journal.open_migration() else {
        return Some(format!("{who} would be changed outside a migration"));
    };
    let Some(moved) = migration.service(&patch.service) else {
        return Some(format!("{who} is not part of the migration"));
    };
    let announced = moved.moved(patch.direction).is_some_and(|moved| moved.operation.is_none());
    if !announced {
        return Some(format!("{who} would be changed without a line in the journal before it"));
    }
    if patch.expect.journal != inputs.journal.sequence {
        return Some(format!("{who}: the patch expects another journal than the one that was read"));
    }
    if let Some(name) = foreign_variable(inputs, migration, patch) {
        return Some(format!("{who}: variable {name} is not ours and its way back is not kept"));
    }
    if let Some(secret) = patch.set.values().find_map(|setting| unmade_secret(inputs, setting)) {
        return Some(format!("{who} would be told a secret that does not exist: {secret}"));
    }
    if patch.direction == Direction::Forward && !may_serve(inputs, migration) {
        return Some(format!("{who} would be told a store that does not serve: {}", migration.to.id));
    }
    let nothing_to_carry = left_gone(inputs, migration).is_some();
    if migration.copies && moves_clients(patch.direction) && !nothing_to_carry && !kept_in_step(inputs) {
        return Some(format!("{who} would be moved while the stores are not kept in step"));
    }
    None
}

fn unmade_secret(inputs: &Inputs<'_>, setting: &Setting) -> Option<Arn> {
    let Setting::Secret(arn) = setting else { return None };
    let mut secrets = inputs.observed.secrets.values().filter_map(Reading::present);
    (!secrets.any(|secret| secret.arn == *arn && secret.deletion.is_none())).then(|| arn.clone())
}

fn may_serve(inputs: &Inputs<'_>, migration: &Migration) -> bool {
    let to = &migration.to.id;
    match (&inputs.observed.target, to) {
        (Reading::Present(store), _) if store.id == *to => match store.status {
            StoreStatus::Available | StoreStatus::Modifying => true,
            StoreStatus::Creating | StoreStatus::Deleting | StoreStatus::Failed(_) => false,
        },
        (_, StoreId::External(..) | StoreId::Disabled) => true,
        (Reading::Present(_) | Reading::Absent, _) => inputs.observed.catalog.iter().any(|entry| entry.id == *to),
        (Reading::Unknown(_) | Reading::Hidden(_), _) => false,
    }
}

fn moves_clients(direction: Direction) -> bool {
    match direction {
        Direction::Forward | Direction::Back | Direction::Egress => true,
        Direction::Restore => false,
    }
}

fn kept_in_step(inputs: &Inputs<'_>) -> bool {
    inputs.observed.copy.present().is_some_and(|copy| {
        copy.here && copy.state == CopyState::BothWays && inputs.now < after(copy.heartbeat, HEARTBEAT)
    })
}

fn foreign_variable<'a>(inputs: &Inputs<'_>, migration: &Migration, patch: &'a ServicePatch) -> Option<&'a String> {
    let undo = &migration.service(&patch.service)?.undo.variables;
    let ours: BTreeSet<String> = match inputs.desired {
        Desired::Present(target) => env::names(&target.env.format).into_iter().collect(),
        Desired::Absent { .. } => BTreeSet::new(),
    };
    patch.set.keys().chain(&patch.unset).find(|name| {
        // What is put back may have another name than the format has now: the way back was kept, that is enough.
        let kept = undo.contains_key(*name);
        let restores = patch.set.get(*name).is_some_and(|setting| matches!(setting, Setting::Prior(_)));
        !kept || !(ours.contains(*name) || restores || patch.direction == Direction::Back)
    })
}

fn secret_violation(inputs: &Inputs<'_>, name: &SecretName) -> Option<String> {
    if *name == inputs.owner.journal_secret() {
        let journal = inputs.journal;
        let deleting = matches!(inputs.desired, Desired::Absent { policy: DeletionPolicy::Delete, .. });
        let nothing_left =
            journal.made.is_empty() && journal.leftovers.is_empty() && journal.open_migration().is_none();
        let last = deleting && nothing_left;
        return (!last).then(|| "the journal would be deleted while something of ours is left".to_owned());
    }
    let arn = inputs.observed.secrets.get(name).and_then(Reading::present).map(|secret| &secret.arn);
    let named_by_service = everybody(inputs)
        .is_none_or(|users| users.into_iter().any(|user| usage::of_secret(user, name, arn) != Need::No));
    let returning = inputs.journal.open_migration().is_some_and(|migration| names_secret(migration, name));
    if named_by_service || returning {
        return Some(format!("secret {name} would be deleted while a running or returning revision names it, or may"));
    }
    let ours = inputs.journal.made.contains_key(&Resource::Secret(name.clone()));
    (!ours).then(|| format!("secret {name} is not ours"))
}

fn names_secret(migration: &Migration, name: &SecretName) -> bool {
    migration.services.iter().flat_map(|moved| moved.undo.variables.values()).any(|prior| match prior {
        Prior::Reference(arn) => arn.secret_name().as_ref() == Some(name),
        Prior::Absent | Prior::Plain(..) => false,
    })
}

fn store_violation(inputs: &Inputs<'_>, resource: &Resource, id: &StoreId) -> Option<String> {
    if !inputs.journal.made.contains_key(resource) && inputs.journal.let_go.get(resource) != Some(id) {
        return Some(format!("{} is neither ours nor the old store that was let go", String::from(resource.clone())));
    }
    if inputs.journal.open_migration().is_some() {
        return Some(format!("{} would be deleted during a migration", String::from(resource.clone())));
    }
    let Some(users) = everybody(inputs) else {
        return Some(format!("{} would be deleted while a service could not be read", String::from(resource.clone())));
    };
    let serves = users.into_iter().any(|user| usage::of_store(inputs, user, id) != Need::No);
    serves.then(|| format!("{} would be deleted while it serves, or may", String::from(resource.clone())))
}
