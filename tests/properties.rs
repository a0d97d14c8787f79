//! What holds of every plan, over worlds, specs and journals thrown by dice, the impossible among them.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test may panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use sessionbackend::api::status as api;
use sessionbackend::desired::Desired;
use sessionbackend::effect::Picture;
use sessionbackend::env;
use sessionbackend::forecast::{End, Forecast, forecast};
use sessionbackend::identity::{Arn, StoreId};
use sessionbackend::journal::{Direction, Journal, Resource};
use sessionbackend::observed::*;
use sessionbackend::plan::{Inputs, Plan, guard, plan};
use sessionbackend::serving::identify;
use sessionbackend::status::{Aside, project};
use sessionbackend::step::{ServicePatch, Setting, Step};

use support::dice::Dice;
use support::{at, owner};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        // PROPTEST_CASES asks for more.
        cases: ProptestConfig::default().cases.max(cases),
        max_shrink_iters: 600,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    }
}

fn throws() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..700)
}

fn planned(desired: &Desired, picture: &Picture, now: Timestamp) -> Plan {
    let owner = owner();
    let inputs =
        Inputs { owner: &owner, desired, observed: &picture.observed, journal: &picture.journal, announced: None, now };
    let (once, twice) = (plan(&inputs), plan(&inputs));
    assert_eq!(once, twice, "planning is not deterministic");
    let broken = guard::violations(&inputs, &once);
    assert!(broken.is_empty(), "{broken:?}");
    for step in &once.steps {
        is_harmless(desired, picture, step);
    }
    is_true(&inputs, &once);
    once
}

/// Whoever waits for the word or for the condition is told that it is done only when it is, and until then what is done.
fn is_true(inputs: &Inputs<'_>, plan: &Plan) {
    let status = project(inputs, plan, &Aside::default());
    let says_so = status.phase == Some(api::Phase::Ready);
    assert!(plan.is_converged() || !says_so, "the phase is Ready, and this is left: {plan:?}");
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert!(ready.status != "True" || says_so, "the condition Ready is true in phase {:?}", status.phase);
    let reconciling = status.conditions.iter().find(|condition| condition.type_ == "Reconciling").unwrap();
    let looks = inputs.desired.looks_only() && plan.waits.is_empty();
    assert!(!looks || reconciling.status == "False", "it only looks, and says it is at work: {plan:?}");
    let is_still = plan.is_converged() || inputs.desired.looks_only() && plan.blocks.is_empty();
    assert!(is_still || !status.summary.message.is_empty(), "nothing is said in phase {:?}: {plan:?}", status.phase);
}

/// The promises, told a second time and without the guard's help.
fn is_harmless(desired: &Desired, picture: &Picture, step: &Step) {
    let Picture { observed, journal } = picture;
    match step {
        Step::PatchService(patch) => patch_is_harmless(desired, observed, journal, patch),
        Step::DeleteConnector { arn } => {
            for service in present(observed) {
                assert_ne!(service.egress, Egress::Vpc(arn.clone()), "a service loses its connector");
            }
            for other in observed.bystanders.present().expect("nobody looked who else uses it") {
                assert_ne!(other.egress, Egress::Vpc(arn.clone()), "a bystander loses its connector");
            }
        }
        Step::DeleteUpstashDatabase { id, .. } | Step::DeleteReplicationGroup { id } => {
            let is_it = |store: &StoreId| store.to_string().ends_with(&format!(" {id}"));
            let ours = journal.made.iter().any(|(resource, made)| {
                made.id.as_ref() == Some(id) || *resource == Resource::ReplicationGroup(id.clone())
            });
            assert!(ours || journal.let_go.values().any(is_it), "a store goes that nobody let go");
            for (source, variables) in everybody(observed) {
                assert_ne!(source, ServiceSource::CodeRepository, "a store is deleted that may serve");
                for variable in variables.values() {
                    let store = variable.address.as_ref().map(|address| identify(address, &observed.catalog));
                    let named = store.as_ref().is_some_and(is_it) || variable.names.iter().any(is_it);
                    assert!(!named, "a serving store is deleted");
                    let is_read = !matches!(variable.reach, Reach::Unknown(_));
                    assert!(is_read || store.is_some() || !variable.names.is_empty() || is_ours(journal, variable));
                }
            }
            assert!(journal.open_migration().is_none(), "a store of a migration is deleted");
        }
        Step::DeleteSecret { name } => {
            let is_journal = *name == owner().journal_secret();
            let everybody = if is_journal { vec![] } else { everybody(observed) };
            for (source, variables) in everybody {
                assert_ne!(source, ServiceSource::CodeRepository, "a secret is deleted that may be named");
                let named = variables.values().any(|variable| {
                    matches!(&variable.delivery, Delivery::Reference(arn) if arn.secret_name().as_ref() == Some(name))
                });
                assert!(!named, "a running revision names the deleted secret");
            }
        }
        Step::RevokeIngress { .. } => {
            for service in observed.services.values().filter(|reading| !reading.is_absent()) {
                let service = service.present().expect("a rule goes that an unseen service may need");
                let unread = |variable: &Variable| {
                    let is_read = !matches!(variable.reach, Reach::Unknown(_));
                    !is_read && variable.address.is_none() && variable.names.is_empty() && !is_ours(journal, variable)
                };
                let may_need = service.variables.values().any(unread);
                let comes_through = |arn: &Arn| match observed.connectors.get(arn).and_then(Reading::present) {
                    Some(connector) => connector.groups.contains(&"sg-connector".into()),
                    None => true,
                };
                match &service.egress {
                    Egress::Vpc(arn) => assert!(!may_need || !comes_through(arn), "a rule goes that may be needed"),
                    Egress::Default => {}
                }
            }
            assert!(journal.open_migration().is_none(), "a way is cut in the middle of a migration");
        }
        Step::DeleteSubnetGroup { .. } => {
            assert!(journal.open_migration().is_none(), "a way is cut in the middle of a migration");
        }
        Step::CreateUpstashDatabase { .. } | Step::CreateReplicationGroup { .. } => {
            assert!(observed.target.is_absent(), "a store is made while one is there, or may be");
        }
        Step::Journal { .. }
        | Step::Claim { .. }
        | Step::Release { .. }
        | Step::CreateSubnetGroup { .. }
        | Step::AuthorizeIngress { .. }
        | Step::CreateConnector { .. }
        | Step::CreateEpochSecret { .. }
        | Step::Copy { .. }
        | Step::CountQuiet { .. }
        | Step::RunChecks { .. } => {}
    }
}

/// The variables of every service of the account; nobody may be unseen where something goes that anybody could use.
fn everybody(observed: &Observed) -> Vec<(ServiceSource, &BTreeMap<String, Variable>)> {
    let seen = observed.services.values().filter(|reading| !reading.is_absent());
    let ours = seen.map(|reading| reading.present().expect("something goes that an unseen service may use"));
    let others = observed.bystanders.present().expect("nobody looked who else uses it");
    let others = others.iter().map(|other| (other.source, &other.variables));
    ours.map(|service| (service.source, &service.variables)).chain(others).collect()
}

/// Whether a variable refers to a secret of ours: what it was made for is known whether its value can be read or not.
fn is_ours(journal: &Journal, variable: &Variable) -> bool {
    match &variable.delivery {
        Delivery::Reference(arn) => {
            arn.secret_name().is_some_and(|name| journal.made.contains_key(&Resource::Secret(name)))
        }
        Delivery::Plain => false,
    }
}

fn present(observed: &Observed) -> impl Iterator<Item = &Service> {
    observed.services.values().filter_map(Reading::present)
}

fn patch_is_harmless(desired: &Desired, observed: &Observed, journal: &Journal, patch: &ServicePatch) {
    let Desired::Present(target) = desired else { panic!("a deletion edits a service") };
    let migration = journal.open_migration().expect("a service is changed outside a migration");
    let moved = migration.service(&patch.service).expect("a service of nobody is changed");
    let ours: BTreeSet<String> = env::names(&target.env.format).into_iter().collect();
    for name in patch.set.keys().chain(&patch.unset) {
        assert!(moved.undo.variables.contains_key(name), "{name} has no way back");
        assert!(patch.direction == Direction::Back || ours.contains(name), "{name} is foreign");
    }
    for setting in patch.set.values() {
        if let Setting::Secret(arn) = setting {
            let found = observed.secrets.values().filter_map(Reading::present).find(|secret| secret.arn == *arn);
            assert!(found.is_some_and(|secret| secret.deletion.is_none()), "{arn} does not exist");
        }
    }
    let service = observed.services[&patch.service].present().expect("an unseen service is changed");
    assert_eq!(service.status, ServiceStatus::Running);
    if patch.direction == Direction::Forward
        && let Reading::Present(store) = &observed.target
        && store.id == migration.to.id
    {
        assert!(matches!(store.status, StoreStatus::Available | StoreStatus::Modifying), "{:?}", store.status);
    }
}

/// The last waves, a line each.
fn end_of(forecast: &Forecast) -> String {
    let lines = forecast.waves.iter().rev().take(40).rev().map(|wave| {
        let steps = wave.steps.iter().map(ToString::to_string);
        let said: Vec<_> = steps.chain(wave.waits.iter().map(|wait| format!("… {}", wait.message))).collect();
        format!("{:?}: {}", wave.phase, said.join(" | "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The variables that may be ours: those of the spec, and those a migration has to put back.
fn ours(desired: &Desired, picture: &Picture) -> BTreeSet<String> {
    let moved = picture.journal.migration.iter().flat_map(|migration| &migration.services);
    let kept = moved.flat_map(|moved| moved.undo.variables.keys().cloned());
    match desired {
        Desired::Present(target) => kept.chain(env::names(&target.env.format)).collect(),
        Desired::Absent { .. } => kept.collect(),
    }
}

/// What is not ours of the services, bit for bit.
fn foreign(ours: &BTreeSet<String>, picture: &Picture) -> Vec<(String, String, Variable)> {
    let services = picture.observed.services.iter().filter_map(|(name, reading)| Some((name, reading.present()?)));
    services
        .flat_map(|(name, service)| {
            let foreign = service.variables.iter().filter(|(variable, _)| !ours.contains(*variable));
            foreign.map(|(variable, value)| (name.clone(), variable.clone(), value.clone())).collect::<Vec<_>>()
        })
        .collect()
}

proptest! {
    #![proptest_config(config(4_000))]

    /// Any world, a journal that may contradict it and itself: no panic, no broken promise, the same plan twice.
    #[test]
    fn no_plan_breaks_a_promise_whatever_the_journal_says(bytes in throws()) {
        let mut dice = Dice::new(&bytes);
        let desired = dice.desired();
        let target = match &desired {
            Desired::Present(target) => Some(&**target),
            Desired::Absent { .. } => None,
        };
        let mut observed = dice.observed(target);
        let journal = dice.forged(&observed);
        if dice.rarely(2) {
            observed.copy = Reading::Present(dice.copy(at(0)));
        }
        for stage in sessionbackend::checks::Stage::ALL {
            if dice.rarely(2) {
                observed.checks.insert(stage, dice.run(at(-5)));
            }
        }
        for resource in journal.made.keys() {
            if let Resource::Secret(name) = resource {
                let arn = format!("arn:aws:secretsmanager:us-east-1:123456789012:secret:{name}-AbCdEf");
                let secret = Secret { arn: arn.as_str().into(), deletion: None };
                observed.secrets.insert(name.clone(), dice.reading(Reading::Present(secret)));
            }
        }
        let _ = planned(&desired, &Picture { observed, journal }, at(0));
    }

    /// Deleting, as far as it goes: nothing goes that is used, or may be.
    #[test]
    fn what_may_be_used_outlives_the_object(bytes in throws()) {
        let mut picture = Dice::new(&bytes).parting();
        let desired = Desired::absent(sessionbackend::desired::DeletionPolicy::Delete);
        for _ in 0..12 {
            let plan = planned(&desired, &picture, at(0));
            for step in &plan.steps {
                let entry = picture.predict(&owner(), &desired, step, at(0));
                if let Some(entry) = entry {
                    picture.journal = picture.journal.apply(&entry, at(0));
                }
            }
        }
    }

    /// Any world: what was predicted, planned again, comes to an end.
    #[test]
    fn planning_the_predicted_world_again_comes_to_an_end(bytes in throws()) {
        let mut dice = Dice::new(&bytes);
        let (target, observed) = if dice.rarely(2) {
            dice.likely()
        } else {
            let target = dice.target();
            let observed = dice.observed(Some(&target));
            (target, observed)
        };
        let desired = Desired::Present(Box::new(target));
        let picture = Picture { observed, ..Picture::default() };
        let forecast = forecast(&owner(), &desired, &picture, at(0));
        if let End::Broken(why) = &forecast.end {
            panic!("{why:?}\n{desired:?}\n{picture:?}\n{}", end_of(&forecast));
        }
    }
}

proptest! {
    #![proptest_config(config(1_000))]

    /// A walk with disturbances at any moment: promises are kept at every step, what is foreign stays as it is, and when
    /// the disturbances are over there is an end.
    #[test]
    fn promises_are_kept_on_any_walk(bytes in proptest::collection::vec(any::<u8>(), 300..1_500)) {
        let owner = owner();
        let mut dice = Dice::new(&bytes);
        let (target, observed) = dice.likely();
        let mut desired = Desired::Present(Box::new(target));
        let mut picture = Picture { observed, ..Picture::default() };
        let mut now = at(0);
        for _ in 0..120 {
            if dice.rarely(24) {
                dice.disturb(&mut picture, &mut desired, now);
            }
            let next = planned(&desired, &picture, now);
            let ours = ours(&desired, &picture);
            let before = foreign(&ours, &picture);
            for step in &next.steps {
                // One call in eight does not come through, and nobody hears of another.
                if dice.rarely(16) {
                    continue;
                }
                let entry = picture.predict(&owner, &desired, step, now);
                if let Some(entry) = entry.filter(|_| !dice.rarely(16)) {
                    picture.journal = picture.journal.apply(&entry, now);
                }
            }
            assert!(before == foreign(&ours, &picture), "something foreign was changed: {next:#?}");
            let pause = if next.steps.is_empty() { 45 } else { 1 };
            now = now.checked_add(Duration::from_secs(pause)).unwrap();
            if let Some(copy) = picture.observed.copy.present_mut().filter(|copy| copy.here) {
                copy.heartbeat = now;
            }
            if next.steps.is_empty() && !dice.rarely(4) {
                picture.elapse(&desired, now);
            }
        }
        let forecast = forecast(&owner, &desired, &picture, now);
        if let End::Broken(why) = &forecast.end {
            panic!("{why:?}\n{desired:?}\n{picture:?}\n{}", end_of(&forecast));
        }
    }
}

/// What is said of a picture, `later` seconds later.
fn said(picture: &Picture, later: i64) -> Vec<String> {
    let (owner, desired) = (owner(), support::present(support::target(&["web"])));
    let now = at(later);
    let mut observed = picture.observed.clone();
    observed.copy.present_mut().unwrap().heartbeat = now;
    let (observed, journal) = (&observed, &picture.journal);
    let plan = plan(&Inputs { owner: &owner, desired: &desired, observed, journal, announced: None, now });
    let waits = plan.waits.into_iter().map(|wait| wait.message);
    waits.chain(plan.blocks.into_iter().map(|block| block.message + &block.remedy)).collect()
}

/// Something that happens to a copy.
type Change<'a> = Box<dyn Fn(&mut Copy) + 'a>;

#[test]
fn no_figure_that_moves_all_the_time_is_in_what_is_waited_for() {
    let mut seen = BTreeSet::new();
    for mut picture in support::pictures_of_a_migration() {
        let Some(copy) = picture.observed.copy.present_mut() else { continue };
        (copy.here, copy.total, copy.lag_ms, copy.different) = (true, 5000, Some(61_000), Some(7));
        (copy.copied, copy.quiet_sweeps, copy.quiet_since) = (1000, 4, copy.quiet_since.map(|_| at(800_000)));
        let before = picture.clone();
        let following = |copy: &mut Copy| copy.lag_ms = Some(10);
        let clients = |copy: &mut Copy, port: u16, age| {
            following(copy);
            copy.clients_from = Some(1);
            let address = format!("10.0.7.4:{port}");
            copy.connected_from = vec![Client { name: "reporting".into(), address, age }];
        };
        let pairs: [(Change<'_>, Change<'_>); 5] = [
            (
                Box::new(|copy| copy.state = CopyState::Bulk),
                Box::new(|copy| {
                    copy.state = CopyState::Bulk;
                    copy.copied = 1001;
                }),
            ),
            (Box::new(|_| {}), Box::new(|copy| copy.lag_ms = Some(61_400))),
            (Box::new(|copy| clients(copy, 41_822, 3)), Box::new(|copy| clients(copy, 41_900, 4))),
            (
                Box::new(following),
                Box::new(|copy| {
                    following(copy);
                    (copy.quiet_sweeps, copy.different) = (6, Some(5));
                }),
            ),
            (Box::new(following), Box::new(following)),
        ];
        for later in [0, 3600, 900_000] {
            for (one, other) in &pairs {
                let mut pictures = [before.clone(), before.clone()];
                one(pictures[0].observed.copy.present_mut().unwrap());
                other(pictures[1].observed.copy.present_mut().unwrap());
                let found = said(&pictures[0], later);
                assert_eq!(found, said(&pictures[1], later + 1));
                seen.extend(found);
            }
        }
    }
    let all = seen.into_iter().collect::<Vec<_>>().join("\n");
    for part in ["copying", "behind", "lag", "reporting from 10.0.7.4", "last writes", "limit"] {
        assert!(all.contains(part), "{part:?} was not said:\n{all}");
    }
}
