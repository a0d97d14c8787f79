//! The guard says no: each promise, broken on purpose in a plan that was right.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;

use jiff::Timestamp;
use sessionbackend::desired::Desired;
use sessionbackend::effect::Picture;
use sessionbackend::identity::{Epoch, MigrationId, StoreId};
use sessionbackend::journal::{Entry, Made, Resource, Settled};
use sessionbackend::observed::*;
use sessionbackend::plan::{Inputs, Plan, guard, plan};
use sessionbackend::sim::Faults;
use sessionbackend::step::{ServicePatch, Setting, Step};

use support::world::{Teller, error, unread_variable};
use support::*;

/// A migration driven until its plan says `mark`, that plan, and the world it was made for.
fn reached(mark: &str) -> (Desired, Picture, Timestamp, Plan) {
    let owner = owner();
    let desired = present(target(&["web"]));
    let teller = Teller { owner: &owner, target: None };
    let (picture, now) = teller.reach(on_elasticache(&["web"]), &desired, mark, Faults::default());
    let plan = plan(&inputs(&owner, &desired, &picture, now));
    (desired, picture, now, plan)
}

fn inputs<'a>(
    owner: &'a sessionbackend::identity::Owner,
    desired: &'a Desired,
    picture: &'a Picture,
    now: Timestamp,
) -> Inputs<'a> {
    Inputs {
        owner,
        desired,
        observed: &picture.observed,
        journal: &picture.journal,
        announced: Some(picture.journal.sequence),
        now,
    }
}

fn violations(desired: &Desired, picture: &Picture, now: Timestamp, plan: &Plan) -> Vec<String> {
    let owner = owner();
    guard::violations(&inputs(&owner, desired, picture, now), plan)
}

/// The switch, broken by `change`.
fn broken_switch(change: impl FnOnce(&mut Picture, &mut ServicePatch)) -> String {
    let (desired, mut picture, now, mut plan) = reached("switch service");
    assert_eq!(violations(&desired, &picture, now, &plan), Vec::<String>::new(), "the plan is right to begin with");
    let Step::PatchService(patch) = &mut plan.steps[0] else { panic!("{plan:#?}") };
    change(&mut picture, patch);
    violations(&desired, &picture, now, &plan).join("; ")
}

fn says(found: &str, part: &str) {
    assert!(found.contains(part), "{found:?} does not say {part:?}");
}

#[test]
fn a_service_is_changed_only_as_the_journal_announced_and_only_to_what_serves() {
    says(&broken_switch(|picture, _| picture.journal.migration = None), "outside a migration");
    says(&broken_switch(|_, patch| patch.service = "other".into()), "not part of the migration");
    says(&broken_switch(|_, patch| patch.expect.journal += 1), "expects another journal");
    says(&broken_switch(|_, patch| patch.unset.push("SECRET_KEY".into())), "SECRET_KEY is not ours");
    let foreign = |_: &mut Picture, patch: &mut ServicePatch| {
        patch.set.insert("DJANGO_SETTINGS_MODULE".into(), Setting::Plain("x".into()));
    };
    says(&broken_switch(foreign), "DJANGO_SETTINGS_MODULE is not ours");
    says(&broken_switch(|picture, _| picture.observed.secrets.clear()), "a secret that does not exist");
    let suspended = |picture: &mut Picture, _: &mut ServicePatch| {
        picture.observed.target.present_mut().unwrap().status = StoreStatus::Failed("suspended".into());
    };
    says(&broken_switch(suspended), "a store that does not serve");
    let following = |picture: &mut Picture, _: &mut ServicePatch| {
        picture.observed.copy.present_mut().unwrap().state = CopyState::Following;
    };
    says(&broken_switch(following), "not kept in step");
    let silent = |picture: &mut Picture, _: &mut ServicePatch| {
        picture.observed.copy.present_mut().unwrap().heartbeat = at(-100);
    };
    says(&broken_switch(silent), "not kept in step");
    let unannounced = |picture: &mut Picture, _: &mut ServicePatch| {
        picture.journal.migration.as_mut().unwrap().services[0].forward = None;
    };
    says(&broken_switch(unannounced), "without a line in the journal");
}

/// The plan at rest, with `step` in the place of its own.
fn broken_rest(step: Step, change: impl FnOnce(&mut Picture)) -> String {
    let (desired, mut picture, now, mut plan) = reached("Ready");
    change(&mut picture);
    plan.steps = vec![step];
    violations(&desired, &picture, now, &plan).join("; ")
}

/// Another service of the account, which uses nothing of ours.
fn billing() -> Bystander {
    let Service { source, .. } = service("billing");
    Bystander { name: "billing".into(), egress: Egress::Default, source, variables: BTreeMap::new() }
}

fn web(picture: &mut Picture) -> &mut Service {
    picture.observed.services.get_mut("web").and_then(Reading::present_mut).unwrap()
}

#[test]
fn nothing_is_removed_that_is_in_use_or_was_not_named() {
    let rule = || Step::RevokeIngress { group: "sg-store".into(), rule: "sgr-0123456789abcdef0".into() };
    let with_rule = |picture: &mut Picture| {
        picture.observed.rules.insert("sgr-0123456789abcdef0".into(), Reading::Present(rule_of_the_store()));
        picture.observed.connectors.insert(CONNECTOR.into(), Reading::Present(connector(Some(true))));
    };
    assert_eq!(broken_rest(rule(), with_rule), "");
    let needed = |picture: &mut Picture| {
        with_rule(picture);
        picture.observed.source = Reading::Present(elasticache());
        let service = web(picture);
        service.egress = Egress::Vpc(CONNECTOR.into());
        service.variables.get_mut("REDIS_URL").unwrap().address = elasticache().address;
    };
    says(&broken_rest(rule(), needed), "while a service reaches its store through it");
    let unread = |picture: &mut Picture| {
        with_rule(picture);
        let service = web(picture);
        service.egress = Egress::Vpc(CONNECTOR.into());
        service.variables.insert("CACHE_URL".into(), unread_variable());
    };
    says(&broken_rest(rule(), unread), "or may");
    let unseen = |picture: &mut Picture| {
        with_rule(picture);
        picture.observed.services.insert("web".into(), Reading::Unknown(error("throttled")));
    };
    says(&broken_rest(rule(), unseen), "could not be read");
    let unnamed = Step::RevokeIngress { group: "sg-store".into(), rule: "sgr-1".into() };
    says(&broken_rest(unnamed, |_| {}), "neither ours nor named");

    let connector = || Step::DeleteConnector { arn: CONNECTOR.into() };
    assert_eq!(broken_rest(connector(), |_| {}), "");
    says(&broken_rest(connector(), |picture| web(picture).egress = Egress::Vpc(CONNECTOR.into())), "revision uses it");
    let other = |picture: &mut Picture| {
        let egress = Egress::Vpc(CONNECTOR.into());
        picture.observed.bystanders = Reading::Present(vec![Bystander { egress, ..billing() }]);
    };
    says(&broken_rest(connector(), other), "revision uses it");
    says(&broken_rest(Step::DeleteConnector { arn: "arn:other".into() }, |_| {}), "neither ours nor named");

    let (_, picture, _, _) = reached("Ready");
    let secret = picture.observed.secrets.keys().next().unwrap().clone();
    says(&broken_rest(Step::DeleteSecret { name: secret.clone() }, |_| {}), "revision names it");
    let of_another = |picture: &mut Picture| {
        let told = web(picture).variables.remove("REDIS_URL").unwrap();
        let variables = BTreeMap::from([("CACHE".to_owned(), told)]);
        picture.observed.bystanders = Reading::Present(vec![Bystander { variables, ..billing() }]);
    };
    says(&broken_rest(Step::DeleteSecret { name: secret.clone() }, of_another), "revision names it");
    let unshown = |picture: &mut Picture| {
        web(picture).variables.remove("REDIS_URL").unwrap();
        web(picture).source = ServiceSource::CodeRepository;
    };
    says(&broken_rest(Step::DeleteSecret { name: secret }, unshown), "or may");
    says(&broken_rest(Step::DeleteSecret { name: "another/team".into() }, |_| {}), "is not ours");
}

#[test]
fn a_store_is_deleted_only_where_it_is_ours_and_idle() {
    let delete = |id: &str| Step::DeleteUpstashDatabase { id: id.into(), name: "liberty".into() };
    let (_, picture, _, _) = reached("Ready");
    let StoreId::Upstash(id) = picture.observed.target.present().unwrap().id.clone() else { panic!() };
    says(&broken_rest(delete(&id), |_| {}), "would be deleted while it serves");
    let idle = |picture: &mut Picture| {
        web(picture).variables.remove("REDIS_URL");
    };
    assert_eq!(broken_rest(delete(&id), idle), "");
    let unread = |picture: &mut Picture| {
        web(picture).variables.insert("REDIS_URL".into(), unread_variable());
    };
    says(&broken_rest(delete(&id), unread), "or may");
    let unshown = |picture: &mut Picture| {
        idle(picture);
        web(picture).source = ServiceSource::CodeRepository;
    };
    says(&broken_rest(delete(&id), unshown), "or may");
    let unseen = |picture: &mut Picture| {
        picture.observed.services.insert("web".into(), Reading::Unknown(error("throttled")));
    };
    says(&broken_rest(delete(&id), unseen), "could not be read");
    let in_another_form = |picture: &mut Picture| {
        let names = vec![picture.observed.target.present().unwrap().id.clone()];
        web(picture).variables.insert("REDIS_URL".into(), Variable { names, ..variable("config") });
    };
    says(&broken_rest(delete(&id), in_another_form), "would be deleted while it serves");
    let of_another = |picture: &mut Picture| {
        let told = web(picture).variables.remove("REDIS_URL").unwrap();
        let variables = BTreeMap::from([("CACHE".to_owned(), told)]);
        picture.observed.bystanders = Reading::Present(vec![Bystander { variables, ..billing() }]);
    };
    says(&broken_rest(delete(&id), of_another), "would be deleted while it serves");
    let nobody_looked = |picture: &mut Picture| {
        idle(picture);
        picture.observed.bystanders = Reading::Unknown(error("throttled"));
    };
    says(&broken_rest(delete(&id), nobody_looked), "could not be read");
    let adopted = |picture: &mut Picture| {
        idle(picture);
        picture.journal.made.remove(&Resource::UpstashDatabase("liberty".into()));
    };
    says(&broken_rest(delete(&id), adopted), "neither ours nor the old store that was let go");
    says(&broken_rest(Step::DeleteReplicationGroup { id: "liberty".into() }, |_| {}), "neither ours nor the old store");
    let (desired, mut picture, now, mut plan) = reached("switch service");
    plan.steps = vec![delete(&id)];
    idle(&mut picture);
    says(&violations(&desired, &picture, now, &plan).join("; "), "during a migration");
}

#[test]
fn a_line_of_the_journal_and_what_destroys_run_alone() {
    let (desired, mut picture, now, mut plan) = reached("Ready");
    let line = Step::Journal { expect: picture.journal.sequence, entry: Entry::Retry };
    plan.steps = vec![line.clone(), line];
    says(&violations(&desired, &picture, now, &plan).join("; "), "does not run alone");
    plan.steps = vec![Step::Journal { expect: picture.journal.sequence + 1, entry: Entry::Retry }];
    says(&violations(&desired, &picture, now, &plan).join("; "), "expects sequence");
    let made = Made { intended: at(0), id: None };
    picture.journal.made.insert(Resource::Secret("mine".into()), made);
    plan.steps = vec![
        Step::DeleteSecret { name: "mine".into() },
        Step::RunChecks { stage: sessionbackend::checks::Stage::Rest },
    ];
    says(&violations(&desired, &picture, now, &plan).join("; "), "does not run alone");
}

fn rule_of_the_store() -> Rule {
    support::rule()
}

#[test]
fn nothing_is_begun_or_noted_where_a_migration_that_nobody_remembers_has_left_something() {
    let forgotten = |picture: &mut Picture| {
        let left = Reading::Present([MigrationId::new(&owner(), Epoch(1))].into());
        picture.observed.forgotten = BTreeMap::from([(upstash().id, left)]);
    };
    let (desired, mut picture, now, plan) = reached("begins; how to undo");
    assert_eq!(violations(&desired, &picture, now, &plan), Vec::<String>::new());
    forgotten(&mut picture);
    says(&violations(&desired, &picture, now, &plan).join("; "), "would be taken for new");
    let noted = Settled { store: upstash().id, database: 0, epoch: None, binding: None, told: None };
    let step = Step::Journal { expect: picture.journal.sequence, entry: Entry::Settle(noted) };
    let plan = Plan { steps: vec![step], ..plan };
    says(&violations(&desired, &picture, now, &plan).join("; "), "would be taken for new");
}
