//! Crash after every step, lose every reply, serve every read stale once: the end is the undisturbed one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::pedantic, reason = "in a test a panic is the message")]
mod support;

use std::collections::BTreeSet;

use futures::FutureExt as _;
use sessionbackend::checks::Stage;
use sessionbackend::desired::*;
use sessionbackend::effect::Picture;
use sessionbackend::engine::{Memory, cycle};
use sessionbackend::identity::{Address, Fingerprint, StoreId};
use sessionbackend::journal::{Direction, Entry, Migration, Outcome, Resource};
use sessionbackend::observed::*;
use sessionbackend::plan::{Phase, Reason};
use sessionbackend::sim::{Fault, Faults, OF_ANOTHER_HAND, OtherHand, SimWorld};

use sessionbackend::step::Side;
use sessionbackend::word::{Answer, Word, answer_to};

use support::*;

/// What must be the same however a run was disturbed: everything but times, numbers and what lives in a process.
fn end(world: &SimWorld) -> String {
    let Picture { mut observed, journal } = world.picture();
    observed.copy = Reading::Absent;
    observed.missed.clear();
    observed.checks.clear();
    for secret in observed.secrets.values_mut().filter_map(Reading::present_mut) {
        secret.deletion = secret.deletion.map(|_| at(0));
    }
    for service in observed.services.values_mut().filter_map(Reading::present_mut) {
        service.operations.clear();
    }
    for claims in observed.claims.values_mut().filter_map(Reading::present_mut) {
        claims.sequence = 0;
    }
    observed.role_access.sort_by(|a, b| (&a.service, &a.secret).cmp(&(&b.service, &b.secret)));
    observed.role_access.dedup();
    let made: Vec<(String, Option<String>)> =
        journal.made.iter().map(|(resource, made)| (String::from(resource.clone()), made.id.clone())).collect();
    let leftovers: Vec<Resource> = journal.leftovers.iter().cloned().collect();
    let latch = journal.latch.map(|latch| (latch.store, latch.reason));
    let outcome = journal.migration.and_then(|migration| migration.ended).map(|ended| ended.outcome);
    format!("{observed:#?}\n{:#?}", (made, leftovers, latch, outcome, journal.settled))
}

struct Story {
    name: &'static str,
    picture: Picture,
    desired: Desired,
    faults: Faults,
    phase: Phase,
}

fn story(name: &'static str, services: &[&str]) -> Story {
    Story {
        name,
        picture: on_elasticache(services),
        desired: present(target(services)),
        faults: Faults::default(),
        phase: Phase::Ready,
    }
}

fn edited(desired: &Desired, edit: impl FnOnce(&mut Target)) -> Desired {
    let Desired::Present(target) = desired else { panic!("nothing to edit") };
    let mut target = (**target).clone();
    edit(&mut target);
    present(target)
}

/// From Upstash into a VPC: a replication group, its subnet group, a connector and a rule are made, egress changes first.
fn into_the_vpc() -> Story {
    let mut story = story("into the VPC", &["web"]);
    story.desired = edited(&story.desired, |target| {
        target.services[0].egress =
            EgressPolicy::CreateConnector { subnets: vec!["subnet-1".into()], security_groups: vec!["sg-app".into()] };
        target.store = StoreSpec::ReplicationGroup {
            group: ReplicationGroupRef::Create(ReplicationGroupSettings {
                node_type: "cache.t4g.small".into(),
                replicas: 1,
                subnets: vec!["subnet-1".into()],
                security_groups: vec!["sg-store".into()],
            }),
            rules: RulesPolicy::Managed,
            credentials: false,
        };
        target.migration.retire = Retire::default();
    });
    let observed = &mut story.picture.observed;
    let store = upstash();
    let web = observed.services.get_mut("web").and_then(Reading::present_mut).unwrap();
    web.egress = Egress::Default;
    let redis = web.variables.get_mut("REDIS_URL").unwrap();
    (redis.address, redis.password, redis.reach) = (store.address.clone(), store.credential.clone(), Reach::Public);
    let hosts = vec![store.address.as_ref().unwrap().host.clone()];
    observed.catalog = vec![CatalogEntry { id: store.id.clone(), hosts }];
    observed.source = Reading::Present(store);
    observed.rules.clear();
    story
}

/// What `story` leaves, undisturbed.
fn left_by(story: &Story) -> Picture {
    let (world, _) = run(story, Faults::default());
    world.picture()
}

fn stories() -> Vec<Story> {
    let second_fails =
        Faults { failing_updates: vec![("worker".to_owned(), Direction::Forward, 9)], ..Faults::default() };
    let check_fails = Faults { failing_stages: BTreeSet::from([Stage::AfterSwitch]), ..Faults::default() };
    let mut without_nat = story("migrate without NAT", &["web"]);
    without_nat.picture.observed.connectors.insert(CONNECTOR.into(), Reading::Present(connector(Some(false))));
    let mut deploys_by_itself = story("migrate what deploys by itself", &["web"]);
    let web = deploys_by_itself.picture.observed.services.get_mut("web").and_then(Reading::present_mut).unwrap();
    web.auto_deployments = true;
    let mut asked = story("migrate, asked at every gate, and the old store goes", &["web"]);
    asked.desired = edited(&asked.desired, |target| {
        target.migration.approval = Approval { switch: true, retire: true };
        target.migration.retire.delete_old_store = true;
        target.other_consumers = vec![OtherConsumer { name: "celery-worker".into() }];
    });
    let settled = left_by(&story("migrate", &["web"]));
    let moved_in = left_by(&into_the_vpc());
    let delete = |name, picture: &Picture, policy| Story {
        picture: picture.clone(),
        desired: Desired::absent(policy),
        phase: Phase::Deleted,
        ..story(name, &["web"])
    };
    // Somebody pointed the service elsewhere by hand before the object was deleted.
    let mut abandoned = delete("delete what nobody uses", &moved_in, DeletionPolicy::Delete);
    let web = abandoned.picture.observed.services.get_mut("web").and_then(Reading::present_mut).unwrap();
    web.variables.remove("REDIS_URL");
    web.egress = Egress::Default;
    // Somebody wired it anew by a secret of his own, which may not be read.
    let mut unread = delete("delete what may serve", &settled, DeletionPolicy::Delete);
    let web = unread.picture.observed.services.get_mut("web").and_then(Reading::present_mut).unwrap();
    web.variables.insert("REDIS_URL".into(), support::world::unread_variable());
    // Ours has left, and a service that the object never named uses what we made.
    let mut shared = delete("delete what another service uses", &moved_in, DeletionPolicy::Delete);
    let web = shared.picture.observed.services.get_mut("web").and_then(Reading::present_mut).unwrap();
    let variables = web.variables.remove("REDIS_URL").map(|told| ("SESSIONS".to_owned(), told)).into_iter().collect();
    let egress = std::mem::replace(&mut web.egress, Egress::Default);
    let billing = Bystander { name: "billing".into(), egress, source: ServiceSource::Image, variables };
    shared.picture.observed.bystanders = Reading::Present(vec![billing]);
    // Everything is as the spec said, and now it asks for another egress.
    let mut kept = story("", &["web"]);
    kept.desired = edited(&kept.desired, |target| {
        target.services[0].egress = EgressPolicy::Keep;
        target.migration.retire = Retire::default();
    });
    let picture = left_by(&kept);
    let alone = Story {
        desired: edited(&kept.desired, |target| target.services[0].egress = EgressPolicy::Default),
        picture,
        ..story("change the egress alone", &["web"])
    };
    let back = Story {
        name: "the egress alone fails a check",
        picture: alone.picture.clone(),
        desired: alone.desired.clone(),
        faults: check_fails.clone(),
        phase: Phase::RolledBack,
    };
    vec![
        alone,
        back,
        Story { phase: Phase::Deleting, ..unread },
        Story { phase: Phase::Deleting, ..shared },
        story("migrate", &["web"]),
        story("migrate two services", &["web", "worker"]),
        without_nat,
        deploys_by_itself,
        asked,
        into_the_vpc(),
        Story {
            faults: second_fails,
            phase: Phase::RolledBack,
            ..story("the second of two services fails", &["web", "worker"])
        },
        Story {
            faults: check_fails.clone(),
            phase: Phase::RolledBack,
            ..story("a check fails after the switch", &["web"])
        },
        Story { faults: check_fails, phase: Phase::RolledBack, ..into_the_vpc() },
        delete("delete, retaining", &settled, DeletionPolicy::Retain),
        // The service still points to the store we made, so it is kept.
        Story { phase: Phase::Deleting, ..delete("delete what serves", &settled, DeletionPolicy::Delete) },
        abandoned,
    ]
}

fn run(story: &Story, faults: Faults) -> (SimWorld, Drive) {
    let world = start(
        story.picture.clone(),
        Faults {
            failing_stages: story.faults.failing_stages.clone(),
            failing_updates: story.faults.failing_updates.clone(),
            ..faults
        },
    );
    let drive = drive(&world, &owner(), &story.desired);
    (world, drive)
}

#[test]
fn undisturbed_stories_end_as_they_should() {
    for story in stories() {
        let (world, drive) = run(&story, Faults::default());
        assert_eq!(phase(&drive), story.phase, "{}: {:#?}", story.name, drive.last.plan);
        for (what, times) in world.creations() {
            assert_eq!(times, 1, "{}: {what}", story.name);
        }
    }
}

#[test]
fn a_migration_leaves_the_service_on_the_new_store_and_the_consented_things_gone() {
    let story = &story("migrate", &["web"]);
    let (world, _) = run(story, Faults::default());
    let picture = world.picture();
    let web = picture.observed.services["web"].present().unwrap();
    assert_eq!(web.egress, Egress::Default);
    assert_eq!(web.variables["REDIS_URL"].address.as_ref().unwrap().host, "liberty.upstash.io");
    assert_eq!(web.variables["SECRET_KEY"], variable("foreign-2"));
    assert!(picture.observed.rules[&"sgr-0123456789abcdef0".into()].is_absent());
    assert!(picture.observed.connectors[&CONNECTOR.into()].is_absent());
    assert_eq!(picture.journal.migration.unwrap().ended.unwrap().outcome, Outcome::Completed);
}

#[test]
fn the_old_store_goes_only_where_the_spec_and_a_person_say_so() {
    for story in stories().iter().filter(|story| story.name.starts_with("migrate")) {
        let kept = left_by(story).observed.catalog.iter().any(|entry| entry.id == elasticache().id);
        assert_eq!(kept, !story.name.ends_with("the old store goes"), "{}", story.name);
    }
}

#[test]
fn a_rollback_leaves_every_service_exactly_as_it_was() {
    for story in stories().iter().filter(|story| story.phase == Phase::RolledBack) {
        let (world, _) = run(story, Faults::default());
        for (name, before) in &story.picture.observed.services {
            let mut after = world.picture().observed.services[name].present().unwrap().clone();
            let before = before.present().unwrap();
            after.operations.clone_from(&before.operations);
            assert_eq!(&after, before, "{}: {name}", story.name);
        }
    }
}

/// Runs `story` with `fault` at call `at` and compares the end.
fn disturbed(story: &Story, reference: &str, number: usize, fault: Fault) {
    let faults = Faults { calls: [(number, fault)].into(), ..Faults::default() };
    let (world, drive) = run(story, faults);
    assert_eq!(phase(&drive), story.phase, "{}, {fault:?} at call {number}: {:#?}", story.name, drive.last.plan);
    pretty_assertions::assert_str_eq!(reference, end(&world), "{}, {fault:?} at call {number}", story.name);
    for (what, times) in world.creations() {
        assert!(times <= 1, "{}, {fault:?} at call {number}: {what} was made {times} times", story.name);
    }
}

#[test]
fn whatever_call_crashes_or_is_lost_the_end_is_the_same() {
    for story in stories() {
        let (reference, _) = run(&story, Faults::default());
        let (calls, reference) = (reference.calls(), end(&reference));
        assert!(calls > 0, "{}", story.name);
        for number in 0..calls {
            for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::Lost, Fault::LostReply, Fault::Throttled] {
                disturbed(&story, &reference, number, fault);
            }
        }
    }
}

#[test]
fn whatever_read_is_stale_the_end_is_the_same() {
    for story in stories() {
        let (reference, drive) = run(&story, Faults::default());
        let reference = end(&reference);
        for number in drive.soon_after_calls {
            let faults = Faults { stale: BTreeSet::from([number]), ..Faults::default() };
            let (world, drive) = run(&story, faults);
            assert_eq!(phase(&drive), story.phase, "{}, stale read {number}: {:#?}", story.name, drive.last.plan);
            pretty_assertions::assert_str_eq!(reference, end(&world), "{}, stale read {number}", story.name);
        }
    }
}

#[test]
fn a_process_that_dies_after_every_single_call_still_gets_there() {
    for story in stories() {
        let (reference, _) = run(&story, Faults::default());
        let (calls, reference) = (reference.calls(), end(&reference));
        let every = (0..calls * 4).map(|number| (number, Fault::CrashAfter)).collect();
        let (world, _) = run(&story, Faults { calls: every, ..Faults::default() });
        pretty_assertions::assert_str_eq!(reference, end(&world), "{}", story.name);
    }
}

/// The number of the first call of the undisturbed run after which `reached` holds of the migration.
fn calls_until(story: &Story, reached: impl Fn(&Migration) -> bool) -> usize {
    let world = start(story.picture.clone(), Faults::default());
    let mut memory = Memory::default();
    loop {
        let before = world.calls();
        let turn = cycle(&world, &owner(), &story.desired, &mut memory, || world.now()).now_or_never().unwrap();
        if world.picture().journal.migration.is_some_and(|migration| reached(&migration)) {
            return before;
        }
        world.advance(pause(&turn.plan, world.now()));
    }
}

fn old_store() -> StoreSpec {
    StoreSpec::ReplicationGroup {
        group: ReplicationGroupRef::Existing("liberty".into()),
        rules: RulesPolicy::Managed,
        credentials: true,
    }
}

fn third_store() -> Store {
    Store {
        id: StoreId::External("redis.example.com".into(), 6379),
        name: "redis.example.com:6379".into(),
        address: Some(Address { host: "redis.example.com".into(), ..upstash().address.unwrap() }),
        credential: Some(Fingerprint::of(&owner(), "third")),
        ..upstash()
    }
}

#[test]
fn a_spec_that_names_the_old_store_again_at_any_moment_leads_back_to_what_was() {
    for story in [story("one service", &["web"]), story("two services", &["web", "worker"])] {
        let back = edited(&story.desired, |target| target.store = old_store());
        // When the bake is over the way back is a migration of its own.
        for number in 0..calls_until(&story, |migration| migration.baked.is_some()) {
            let world = start(story.picture.clone(), Faults::default()).with_store(old_store(), elasticache());
            let drive = drive_by(&world, &owner(), |calls| if calls < number { &story.desired } else { &back });
            let name = format!("{}, edited at call {number}", story.name);
            assert_eq!(phase(&drive), Phase::Ready, "{name}: {:#?}", drive.last.plan);
            let picture = world.picture();
            for (service, before) in &story.picture.observed.services {
                let (mut after, before) = (picture.observed.services[service].clone(), before.present().unwrap());
                let after = after.present_mut().unwrap();
                after.operations.clone_from(&before.operations);
                assert_eq!(after, before, "{name}");
            }
            let left = picture.observed.secrets.values().filter_map(Reading::present);
            assert!(left.clone().all(|secret| secret.deletion.is_some()), "{name}: a secret is left");
            assert!(picture.observed.copy.is_absent(), "{name}: the copier is left");
        }
    }
}

#[test]
fn a_spec_that_names_a_third_store_at_any_moment_ends_there() {
    let third = StoreSpec::External { tls: TlsPolicy::Required };
    for story in [story("one service", &["web"]), story("two services", &["web", "worker"])] {
        let there = edited(&story.desired, |target| target.store = third.clone());
        for number in 0..calls_until(&story, |migration| migration.ended.is_some()) + 4 {
            let world = start(story.picture.clone(), Faults::default()).with_store(third.clone(), third_store());
            let drive = drive_by(&world, &owner(), |calls| if calls < number { &story.desired } else { &there });
            let name = format!("{}, edited at call {number}", story.name);
            assert_eq!(phase(&drive), Phase::Ready, "{name}: {:#?}", drive.last.plan);
            for (service, reading) in &world.picture().observed.services {
                let address = reading.present().unwrap().variables["REDIS_URL"].address.clone();
                assert_eq!(address, third_store().address, "{name}: {service}");
            }
        }
    }
}

#[test]
fn an_object_deleted_at_any_moment_leaves_services_alone_and_nothing_of_ours_that_is_not_in_use() {
    let stories = || [story("two services", &["web", "worker"]), into_the_vpc()];
    for (policy, story) in [DeletionPolicy::Retain, DeletionPolicy::Delete]
        .into_iter()
        .flat_map(|policy| stories().map(|story| (policy, story)))
    {
        let gone = Desired::absent(policy);
        let (reference, _) = run(&story, Faults::default());
        let (calls, reference) = (reference.calls(), end(&reference));
        let mut frozen = 0;
        const LAST_CALL: [Option<Fault>; 3] = [None, Some(Fault::LostReply), Some(Fault::CrashAfter)];
        for (number, fault) in (0..calls).flat_map(|number| LAST_CALL.map(|fault| (number, fault))) {
            let last_call = number.checked_sub(1).zip(fault).into_iter().collect();
            let world = start(story.picture.clone(), Faults { calls: last_call, ..Faults::default() });
            let updates = std::cell::Cell::new(None);
            let drive = drive_by(&world, &owner(), |calls| {
                if calls < number {
                    return &story.desired;
                }
                updates.set(updates.take().or_else(|| Some(world.updates())));
                &gone
            });
            let name = format!("{}, {policy:?} at call {number} ({fault:?} the one before)", story.name);
            assert_eq!(updates.take(), Some(world.updates()), "{name}: a service was changed");
            let picture = world.picture();
            if picture.journal.open_migration().is_some() {
                frozen += 1;
                assert_eq!(drive.last.plan.blocks[0].reason, Reason::DeletionFrozen, "{name}: {:#?}", drive.last.plan);
                // Whoever applies it again gets to the end of the undisturbed run.
                let _ = support::drive(&world, &owner(), &story.desired);
                pretty_assertions::assert_str_eq!(reference, end(&world), "{name}, then applied again");
                continue;
            }
            let claims = picture.observed.claims.values().filter_map(Reading::present);
            assert!(claims.clone().all(|claims| claims.holders.is_empty()), "{name}: a claim is left");
            assert!(picture.observed.copy.is_absent(), "{name}: the copier is left");
            let in_use = picture.journal.settled.as_ref().is_some_and(|settled| settled.epoch.is_some());
            if !in_use {
                let secrets = picture.observed.secrets.values().filter_map(Reading::present);
                assert!(secrets.clone().all(|secret| secret.deletion.is_some()), "{name}: a secret is left");
                let kept = policy == DeletionPolicy::Retain;
                assert!(kept || picture.observed.target.present().is_none(), "{name}: the store is left");
                let connectors = picture.observed.connectors.values().filter_map(Reading::present);
                let rules = picture.observed.rules.values().filter_map(Reading::present);
                let ways = connectors.filter(|connector| connector.ours == Some(true)).count()
                    + rules.filter(|rule| rule.ours).count();
                assert!(kept || ways == 0, "{name}: a connector or a rule is left");
            }
        }
        assert!(frozen > 5, "{frozen}");
    }
}

#[test]
fn another_hand_between_our_look_and_our_call_is_noticed_and_kept() {
    for story in [story("two services", &["web", "worker"]), into_the_vpc()] {
        let calls = run(&story, Faults::default()).0.calls();
        for number in 0..calls {
            for hand in [OtherHand::Updated, OtherHand::Deploys, OtherHand::Fails] {
                let faults = Faults { others: [(number, ("web".to_owned(), hand))].into(), ..Faults::default() };
                let (world, drive) = run(&story, faults);
                let name = format!("{}, {hand:?} before call {number}", story.name);
                assert_eq!(phase(&drive), story.phase, "{name}: {:#?}", drive.last.plan);
                let picture = world.picture();
                let web = picture.observed.services["web"].present().unwrap();
                let acted = web.operations.iter().any(|operation| operation.id.0.contains("another-hand"));
                let kept = web.variables.contains_key(OF_ANOTHER_HAND);
                assert_eq!(kept, acted && hand == OtherHand::Updated, "{name}: what another hand wrote is lost");
            }
        }
    }
}

fn say(world: &SimWorld, word: Entry) {
    world.meddle(|picture, now| picture.journal = picture.journal.apply(&word, now));
}

#[test]
fn another_hand_that_slips_in_behind_our_last_look_is_found_and_a_person_is_told_whose_change_was_undone() {
    for story in [story("two services", &["web", "worker"]), into_the_vpc()] {
        let (reference, _) = run(&story, Faults::default());
        let (calls, reference) = (reference.calls(), end(&reference));
        let mut found = 0;
        for number in 0..calls {
            let faults =
                Faults { others: [(number, ("web".to_owned(), OtherHand::Slips))].into(), ..Faults::default() };
            let (world, drive) = run(&story, faults);
            let name = format!("{}, before call {number}", story.name);
            let web = world.picture().observed.services["web"].present().unwrap().clone();
            let theirs = web.operations.iter().find(|operation| operation.id.0.contains("another-hand"));
            let Some(theirs) = theirs else { continue };
            found += 1;
            assert_eq!(phase(&drive), Phase::Held, "{name}: {:#?}", drive.last.plan);
            assert!(drive.last.plan.blocks[0].message.contains(&theirs.id.0), "{name}: {:#?}", drive.last.plan);
            say(&world, Entry::Retry);
            let drive = support::drive(&world, &owner(), &story.desired);
            assert_eq!(phase(&drive), story.phase, "{name}: {:#?}", drive.last.plan);
            pretty_assertions::assert_str_eq!(reference, end(&world), "{name}");
        }
        assert!(found > 0, "{}", story.name);
    }
}

/// Runs `story` with `faults` and says `words` at their calls, then lets it come to its end.
fn run_and_say(story: &Story, faults: Faults, words: &[(usize, Entry)]) -> (SimWorld, Drive) {
    let world =
        start(story.picture.clone(), Faults { failing_updates: story.faults.failing_updates.clone(), ..faults });
    let said = std::cell::Cell::new(0);
    let drive = drive_by(&world, &owner(), |calls| {
        while let Some((_, word)) = words.get(said.get()).filter(|(at, _)| *at <= calls) {
            if world.look(|picture| picture.journal.open_migration().is_some()) {
                say(&world, word.clone());
            }
            said.set(said.get() + 1);
        }
        &story.desired
    });
    (world, drive)
}

fn is_as_it_was(story: &Story, world: &SimWorld, name: &str) {
    for (service, before) in &story.picture.observed.services {
        let mut after = world.picture().observed.services[service].present().unwrap().clone();
        after.operations.clone_from(&before.present().unwrap().operations);
        assert_eq!(&after, before.present().unwrap(), "{name}: {service}");
    }
}

#[test]
fn retry_said_at_any_moment_changes_nothing_about_the_end() {
    for story in [story("one service", &["web"]), into_the_vpc()] {
        let (reference, _) = run(&story, Faults::default());
        let (calls, reference) = (reference.calls(), end(&reference));
        for number in 0..calls {
            for fault in [None, Some(Fault::Lost), Some(Fault::LostReply), Some(Fault::CrashAfter)] {
                let calls = fault.map(|fault| (number, fault)).into_iter().collect();
                let faults = Faults { calls, ..Faults::default() };
                let (world, drive) = run_and_say(&story, faults, &[(number + 1, Entry::Retry)]);
                let name = format!("{}, retry after call {number} ({fault:?})", story.name);
                assert_eq!(phase(&drive), story.phase, "{name}: {:#?}", drive.last.plan);
                pretty_assertions::assert_str_eq!(reference, end(&world), "{name}");
            }
        }
    }
}

#[test]
fn abort_said_at_any_moment_whatever_was_lost_brings_every_service_back() {
    let stories = [story("one service", &["web"]), story("two services", &["web", "worker"]), into_the_vpc()];
    for story in stories {
        let baked = calls_until(&story, |migration| migration.baked.is_some());
        for number in calls_until(&story, |_| true) + 1..baked {
            for fault in [None, Some(Fault::Lost), Some(Fault::LostReply), Some(Fault::CrashAfter)] {
                for words in [vec![Entry::Abort], vec![Entry::Retry, Entry::Abort], vec![Entry::Abort, Entry::Retry]] {
                    let calls = fault.map(|fault| (number, fault)).into_iter().collect();
                    let words: Vec<_> = words.into_iter().map(|word| (number + 1, word)).collect();
                    let (world, drive) = run_and_say(&story, Faults { calls, ..Faults::default() }, &words);
                    let name = format!("{}, {fault:?} at call {number}, then {words:?}", story.name);
                    assert_eq!(phase(&drive), Phase::RolledBack, "{name}: {:#?}", drive.last.plan);
                    is_as_it_was(&story, &world, &name);
                    assert!(world.picture().observed.copy.is_absent(), "{name}: the copier is left");
                }
            }
        }
    }
}

#[test]
fn abort_right_after_a_deployment_whose_reply_and_outcome_were_lost_waits_for_its_last_instance() {
    let mut story = story("its deployment fails", &["web"]);
    story.faults.failing_updates = vec![("web".to_owned(), Direction::Forward, 9)];
    let called = calls_until(&story, |migration| migration.services[0].forward.is_some()) + 1;
    for (fault, delay) in
        [Fault::LostReply, Fault::CrashAfter].into_iter().flat_map(|fault| (1..5).map(move |delay| (fault, delay)))
    {
        let faults = Faults { calls: [(called, fault)].into(), ..Faults::default() };
        let (world, drive) = run_and_say(&story, faults, &[(called + delay, Entry::Abort)]);
        let name = format!("{fault:?}, abort {delay} calls later");
        assert_eq!(phase(&drive), Phase::RolledBack, "{name}: {:#?}", drive.last.plan);
        is_as_it_was(&story, &world, &name);
    }
}

/// What is lost with a store: itself, everywhere it is seen.
fn lose(world: &SimWorld, lost: &StoreId) {
    world.meddle(|picture, _| {
        let observed = &mut picture.observed;
        observed.catalog.retain(|entry| entry.id != *lost);
        for reading in [&mut observed.target, &mut observed.source] {
            if reading.present().is_some_and(|store| store.id == *lost) {
                *reading = Reading::Absent;
            }
        }
    });
}

#[test]
fn a_store_that_is_lost_on_the_way_never_holds_up_the_services_that_are_on_the_other() {
    let story = story("two services", &["web", "worker"]);
    let begun = calls_until(&story, |_| true) + 1;
    let ended = calls_until(&story, |migration| migration.ended.is_some());
    let mut ends = std::collections::BTreeMap::<_, usize>::new();
    for number in begun..ended {
        for side in [Side::From, Side::To] {
            let world = start(story.picture.clone(), Faults::default());
            let mut memory = Memory::default();
            let mut lost = false;
            let mut last = None;
            // A lost target waits for a person: she says abort.
            for turn in 0..400 {
                if !lost && world.calls() >= number {
                    let migration = world.picture().journal.migration.unwrap();
                    let from = migration.from.unwrap().id;
                    lose(&world, if side == Side::From { &from } else { &migration.to.id });
                    lost = true;
                }
                if turn == 200 && side == Side::To {
                    say(&world, Entry::Abort);
                }
                let cycle =
                    cycle(&world, &owner(), &story.desired, &mut memory, || world.now()).now_or_never().unwrap();
                assert_eq!(world.broken(), Vec::<String>::new());
                world.advance(pause(&cycle.plan, world.now()));
                last = Some(cycle);
            }
            let (last, journal) = (last.unwrap(), world.picture().journal);
            let name = format!("{side:?} lost at call {number}");
            let migration = journal.migration.unwrap();
            let outcome = migration.ended.map(|ended| ended.outcome);
            let moved = migration.services.iter().any(|moved| moved.was_told());
            *ends.entry(format!("{side:?} moved: {moved} {outcome:?}")).or_default() += 1;
            match side {
                // Whoever was told of the new store goes there: there is nothing to go back to.
                Side::From if moved => assert_eq!(outcome, Some(Outcome::Completed), "{name}: {:#?}", last.plan),
                // Nobody can use a store that is lost; the migration says so.
                Side::From => {
                    assert!(outcome.is_none() && !last.plan.is_converged(), "{name}: {:#?}", last.plan);
                }
                Side::To if migration.baked.is_some() => {}
                Side::To => {
                    assert!(
                        matches!(outcome, Some(Outcome::RolledBack | Outcome::Abandoned)),
                        "{name}: {:#?}",
                        last.plan
                    );
                    is_as_it_was(&story, &world, &name);
                }
            }
        }
    }
    assert!(ends.len() >= 4, "{ends:?}");
}

/// A generator nobody has to trust: a seed gives the same numbers everywhere.
fn throw(seed: &mut u64, sides: usize) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*seed >> 33).unwrap() % sides
}

#[test]
#[expect(clippy::disallowed_methods, reason = "PAIRS asks for more than the usual")]
fn whatever_pair_of_faults_the_end_is_the_same() {
    const FAULTS: [Fault; 5] = [Fault::CrashBefore, Fault::CrashAfter, Fault::Lost, Fault::LostReply, Fault::Throttled];
    let runs = std::env::var("PAIRS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(60);
    for story in stories() {
        let (reference, _) = run(&story, Faults::default());
        let (calls, reference) = (reference.calls(), end(&reference));
        for first in 0..runs {
            let mut seed = first;
            let mut throw = |sides| throw(&mut seed, sides);
            let calls = [(throw(calls), FAULTS[throw(5)]), (throw(calls + 4), FAULTS[throw(5)])];
            let stale = BTreeSet::from([throw(200)]);
            let (world, drive) = run(&story, Faults { calls: calls.into(), stale, ..Faults::default() });
            let name = format!("{}, seed {first}: {calls:?}", story.name);
            assert_eq!(phase(&drive), story.phase, "{name}: {:#?}", drive.last.plan);
            pretty_assertions::assert_str_eq!(reference, end(&world), "{name}");
        }
    }
}

#[test]
fn a_failing_check_that_also_meets_another_hand_never_takes_its_work_away() {
    let story = stories().into_iter().find(|story| story.name == "a check fails after the switch").unwrap();
    let calls = run(&story, Faults::default()).0.calls();
    for number in 0..calls {
        let faults = Faults { others: [(number, ("web".to_owned(), OtherHand::Updated))].into(), ..Faults::default() };
        let (world, drive) = run(&story, faults);
        // With somebody else's deployment before the failing check a person decides.
        assert!(
            matches!(phase(&drive), Phase::RolledBack | Phase::Held),
            "before call {number}: {:#?}",
            drive.last.plan
        );
        let picture = world.picture();
        let web = picture.observed.services["web"].present().unwrap();
        let acted = web.operations.iter().any(|operation| operation.id.0.contains("another-hand"));
        assert_eq!(web.variables.contains_key(OF_ANOTHER_HAND), acted, "before call {number}");
    }
}

#[test]
fn what_is_used_or_may_be_is_all_there_after_the_object_is_deleted() {
    for story in stories().iter().filter(|story| story.phase == Phase::Deleting) {
        let (world, drive) = run(story, Faults::default());
        let (before, after) = (&story.picture.observed, world.picture().observed);
        assert_eq!(after.catalog, before.catalog, "{}: a store is gone", story.name);
        assert_eq!(after.services, before.services, "{}", story.name);
        let subnets = |picture: &Picture| {
            let made = picture.journal.made.keys();
            made.filter(|resource| matches!(resource, Resource::SubnetGroup(_))).count()
        };
        assert_eq!(subnets(&world.picture()), subnets(&story.picture), "{}: a store is in that group", story.name);
        for (name, secret) in &before.secrets {
            let variables = before.services.values().filter_map(Reading::present).map(|service| &service.variables);
            let others = before.bystanders.present().unwrap().iter().map(|other| &other.variables);
            let named = variables.chain(others).flat_map(|variables| variables.values()).any(|variable| {
                matches!(&variable.delivery, Delivery::Reference(arn) if arn.secret_name().as_ref() == Some(name))
            });
            assert!(!named || after.secrets[name] == *secret, "{}: secret {name} is gone", story.name);
        }
        assert!(drive.last.plan.blocks.iter().all(|block| block.reason == Reason::InUse), "{:#?}", drive.last.plan);
    }
}

#[test]
fn an_egress_that_somebody_puts_back_again_and_again_is_a_persons_to_settle() {
    let story = stories().into_iter().find(|story| story.name == "change the egress alone").unwrap();
    let world = start(story.picture.clone(), Faults::default());
    let mut reasons = vec![];
    for _ in 0..3 {
        let drive = drive(&world, &owner(), &story.desired);
        reasons.push(drive.last.plan.blocks.first().map(|block| block.reason));
        world.meddle(|picture, _| {
            let web = picture.observed.services.get_mut("web").and_then(Reading::present_mut).unwrap();
            web.egress = Egress::Vpc(CONNECTOR.into());
        });
    }
    assert_eq!(reasons, [None, None, Some(Reason::Contested)]);
    assert_eq!(world.updates()["web"], 4, "two deployments each time: the variables, then the egress");
}

#[test]
fn what_the_checks_of_the_way_back_came_to_is_written_down() {
    let story = stories().into_iter().find(|story| story.name == "a check fails after the switch").unwrap();
    let (world, drive) = run(&story, Faults::default());
    assert_eq!(phase(&drive), Phase::RolledBack);
    let migration = world.picture().journal.migration.unwrap();
    assert!(migration.rollback.as_ref().is_some_and(|rollback| rollback.validated.is_some()));
    assert!(migration.last_checks().is_some());
}

/// Drives to rest, lets `undo` happen, and so on; what each round came to.
fn undone_again(story: &Story, rounds: usize, undo: impl Fn(&mut Picture)) -> (SimWorld, Vec<Option<Reason>>) {
    let world = start(story.picture.clone(), Faults::default());
    let mut reasons = vec![];
    for round in 0..rounds {
        let drive = drive(&world, &owner(), &story.desired);
        reasons.push(drive.last.plan.blocks.first().map(|block| block.reason));
        if round + 1 < rounds {
            world.meddle(|picture, _| undo(picture));
        }
    }
    (world, reasons)
}

#[test]
fn variables_that_somebody_puts_back_twice_are_left_until_a_person_says_retry() {
    let mut story = story("nothing is retired", &["web"]);
    story.desired = edited(&story.desired, |target| {
        target.services[0].egress = EgressPolicy::Keep;
        target.migration.retire = Retire::default();
    });
    let before = story.picture.observed.clone();
    let (world, reasons) = undone_again(&story, 3, |picture| {
        let web = picture.observed.services.get_mut("web").and_then(Reading::present_mut).unwrap();
        web.variables = before.services["web"].present().unwrap().variables.clone();
        picture.observed.source = before.source.clone();
    });
    assert_eq!(reasons, [None, None, Some(Reason::Contested)]);
    let id = world.picture().journal.migration.unwrap().id;
    let answer = answer_to(&world.picture().journal, &story.desired, &id, &Word::Retry);
    assert_eq!(answer, Answer::Say(Entry::Retry));
    world.meddle(|picture, now| picture.journal = picture.journal.apply(&Entry::Retry, now));
    let drive = drive(&world, &owner(), &story.desired);
    assert!(drive.last.plan.is_converged(), "{:#?}", drive.last.plan);
    assert_eq!(world.updates()["web"], 3);
}

#[test]
fn secrets_that_somebody_deletes_are_made_anew_until_it_is_no_accident() {
    let story = story("secrets go", &["web"]);
    let (_, reasons) = undone_again(&story, 4, |picture| {
        for secret in picture.observed.secrets.values_mut() {
            *secret = Reading::Absent;
        }
    });
    assert_eq!(reasons, [None, None, None, Some(Reason::Contested)]);
}

/// The store a service was moved away from is let go by spec and person, and another service, `billing`, still uses it.
fn still_used_by_another(mut story: Story) -> Story {
    story.desired = edited(&story.desired, |target| {
        target.migration.retire = Retire { delete_old_store: true, ..Retire::default() };
    });
    let web = story.picture.observed.services["web"].present().unwrap();
    let variables = [("CACHE_URL".to_owned(), web.variables["REDIS_URL"].clone())].into();
    let egress = web.egress.clone();
    let billing = Bystander { name: "billing".into(), egress, source: ServiceSource::Image, variables };
    story.picture.observed.bystanders = Reading::Present(vec![billing]);
    story
}

/// Pictures after a migration that left something which could not be removed yet.
fn with_a_leftover() -> [(&'static str, Picture, Desired, StoreId); 2] {
    let from = |name, mut story: Story| {
        if name == "a group" {
            story.desired = edited(&story.desired, |target| target.services[0].egress = EgressPolicy::Keep);
        }
        let story = still_used_by_another(story);
        let former = story.picture.observed.source.present().unwrap().id.clone();
        let mut picture = left_by(&story);
        // The clock begins anew, and so does the process.
        picture.observed.checks.clear();
        (name, picture, story.desired, former)
    };
    [from("a group", story("", &["web"])), from("a database", into_the_vpc())]
}

/// Everything that begins another migration, and how it ends.
fn second_migrations(picture: &Picture, desired: &Desired) -> Vec<(&'static str, Picture, Desired, Faults, Phase)> {
    let other_egress = |target: &mut Target| {
        target.services[0].egress = match target.services[0].egress {
            EgressPolicy::Keep => EgressPolicy::Default,
            _ => EgressPolicy::Connector(CONNECTOR.into()),
        };
    };
    let mut rotated = picture.clone();
    rotated.observed.target.present_mut().unwrap().credential = Some(Fingerprint::of(&owner(), "newer"));
    let third = |target: &mut Target| target.store = StoreSpec::External { tls: TlsPolicy::Required };
    let fails = || Faults { failing_stages: BTreeSet::from([Stage::AfterSwitch]), ..Faults::default() };
    let mut connected = picture.clone();
    let mut by_hand = connector(Some(true));
    if let Placement::Vpc { vpc, .. } = &connected.observed.target.present().unwrap().placement {
        by_hand.vpc.clone_from(vpc);
    }
    connected.observed.connectors.insert(CONNECTOR.into(), Reading::Present(by_hand));
    let other_form = |target: &mut Target| target.env.secrets = SecretDelivery::PlainText;
    let (none, ready) = (Faults::default, Phase::Ready);
    vec![
        ("the egress alone", connected.clone(), edited(desired, other_egress), none(), ready),
        ("the egress alone, which fails", connected, edited(desired, other_egress), fails(), Phase::RolledBack),
        ("a new password", rotated, desired.clone(), none(), ready),
        ("another form", picture.clone(), edited(desired, other_form), none(), ready),
        ("a third store", picture.clone(), edited(desired, third), none(), ready),
        ("a third store, which fails", picture.clone(), edited(desired, third), fails(), Phase::RolledBack),
    ]
}

/// A world in which the second migration runs, also to a third store.
fn second_world(picture: &Picture, faults: Faults) -> SimWorld {
    start(picture.clone(), faults).with_store(StoreSpec::External { tls: TlsPolicy::Required }, third_store())
}

fn lists(world: &SimWorld, id: &StoreId) -> bool {
    world.look(|picture| picture.observed.catalog.iter().any(|entry| entry.id == *id))
}

#[test]
fn a_store_that_was_let_go_goes_when_nobody_uses_it_whatever_migration_came_between() {
    for (left, picture, desired, former) in with_a_leftover() {
        assert_eq!(picture.journal.leftovers.len(), 1, "{left}: {:?}", picture.journal.leftovers);
        for (second, picture, desired, faults, ends) in second_migrations(&picture, &desired) {
            let begun = picture.journal.epoch;
            let undisturbed = second_world(&picture, faults.clone());
            let _ = drive(&undisturbed, &owner(), &desired);
            for number in (0..undisturbed.calls()).map(Some).chain([None]) {
                let calls = number.map(|number| (number, Fault::CrashAfter)).into_iter().collect();
                let world = second_world(&picture, Faults { calls, ..faults.clone() });
                let name = format!("{left}, then {second}, crash after {number:?}");
                let last = drive(&world, &owner(), &desired).last.plan;
                assert_eq!(last.phase, ends, "{name}: {last:#?}");
                assert!(world.picture().journal.epoch > begun, "{name}: no second migration");
                assert!(lists(&world, &former), "{name}: billing still uses it");
                world.meddle(|picture, _| picture.observed.bystanders = Reading::Present(vec![]));
                let last = drive(&world, &owner(), &desired).last.plan;
                assert_eq!(last.phase, ends, "{name}: {last:#?}");
                assert!(!lists(&world, &former), "{name}: it is left, and nothing says so");
                assert_eq!(world.picture().journal.leftovers.len(), 0, "{name}");
            }
        }
    }
}

#[test]
fn a_leftover_that_vanishes_during_another_migration_is_written_off_after_a_second_look() {
    for (left, picture, desired, former) in with_a_leftover() {
        for (second, picture, desired, faults, ends) in second_migrations(&picture, &desired) {
            let world = second_world(&picture, faults);
            lose(&world, &former);
            let name = format!("{left}, then {second}");
            let last = drive(&world, &owner(), &desired).last.plan;
            assert_eq!(last.phase, ends, "{name}: {last:#?}");
            assert_eq!(world.picture().journal.leftovers.len(), 0, "{name}");
        }
    }
}

#[test]
fn whoever_moves_back_to_a_store_that_was_let_go_keeps_it() {
    let (_, picture, desired, former) = with_a_leftover().into_iter().next().unwrap();
    let back = edited(&desired, |target| {
        target.store = old_store();
        target.migration.retire = Retire::default();
    });
    let away = edited(&desired, |target| {
        target.store = StoreSpec::External { tls: TlsPolicy::Required };
        target.migration.retire = Retire::default();
    });
    let world = second_world(&picture, Faults::default()).with_store(old_store(), elasticache());
    let _ = drive(&world, &owner(), &back);
    world.meddle(|picture, _| picture.observed.bystanders = Reading::Present(vec![]));
    for desired in [&back, &away] {
        let last = drive(&world, &owner(), desired).last.plan;
        assert_eq!(last.phase, Phase::Ready, "{last:#?}");
        assert!(lists(&world, &former), "the word that let it go was for the migration before");
    }
}

#[test]
fn a_change_that_failed_is_forgotten_when_nobody_asks_for_it_any_more_and_tried_when_somebody_does_again() {
    let story = stories().into_iter().find(|story| story.name == "the egress alone fails a check").unwrap();
    let failing = Faults { failing_stages: story.faults.failing_stages.clone(), ..Faults::default() };
    let put_back = edited(&story.desired, |target| target.services[0].egress = EgressPolicy::Keep);
    for stale in 0..80 {
        let world = start(story.picture.clone(), Faults { stale: BTreeSet::from([stale]), ..failing.clone() });
        let latched = drive(&world, &owner(), &story.desired).last;
        assert_eq!(latched.plan.phase, Phase::RolledBack);
        let remedy = &latched.plan.blocks[0].remedy;
        assert!(remedy.contains("egress") && !remedy.contains("another store"), "{remedy}");
        let (updates, tried) = (world.updates(), latched.journal.epoch);
        let rest = drive(&world, &owner(), &put_back).last;
        assert_eq!((rest.plan.phase, &rest.journal.latch), (Phase::Ready, &None), "{:#?}", rest.plan);
        assert_eq!(world.updates(), updates, "putting the spec back changes no service");
        let again = drive(&world, &owner(), &story.desired).last;
        assert_eq!(again.plan.phase, Phase::RolledBack, "{:#?}", again.plan);
        assert!(again.journal.epoch > tried, "it was not tried again");
    }
}
