//! Crash after every step, lose every reply, serve every read stale once: the end is the undisturbed one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::pedantic, reason = "in a test a panic is the message")]
mod support;

use std::collections::BTreeSet;

use sessionbackend::checks::Stage;
use sessionbackend::desired::{DeletionPolicy, Desired};
use sessionbackend::effect::Picture;
use sessionbackend::journal::{Outcome, Resource};
use sessionbackend::observed::{Egress, Reading};
use sessionbackend::plan::Phase;
use sessionbackend::sim::{Fault, Faults, SimWorld};

use support::*;

/// What must be the same however a run was disturbed: everything but times, numbers and what lives in a process.
fn end(world: &SimWorld) -> String {
    let Picture { mut observed, journal } = world.picture();
    observed.copy = Reading::Absent;
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

fn stories() -> Vec<Story> {
    let migrate = |faults: Faults, phase: Phase, name: &'static str, services: &[&str]| Story {
        name,
        picture: on_elasticache(services),
        desired: present(target(services)),
        faults,
        phase,
    };
    let second_fails = Faults { failing_updates: BTreeSet::from([("worker".to_owned(), 0)]), ..Faults::default() };
    let check_fails = Faults { failing_stages: BTreeSet::from([Stage::AfterSwitch]), ..Faults::default() };
    let mut without_nat = migrate(Faults::default(), Phase::Ready, "migrate without NAT", &["web"]);
    without_nat.picture.observed.connectors.insert(CONNECTOR.into(), Reading::Present(connector(Some(false))));
    let settled = {
        let world = start(on_elasticache(&["web"]), Faults::default());
        let _ = drive(&world, &owner(), &present(target(&["web"])));
        world.picture()
    };
    let delete = |policy, name| Story {
        name,
        picture: settled.clone(),
        desired: Desired::Absent { policy },
        faults: Faults::default(),
        phase: Phase::Deleted,
    };
    vec![
        migrate(Faults::default(), Phase::Ready, "migrate", &["web"]),
        migrate(Faults::default(), Phase::Ready, "migrate two services", &["web", "worker"]),
        without_nat,
        migrate(second_fails, Phase::RolledBack, "the second of two services fails", &["web", "worker"]),
        migrate(check_fails, Phase::RolledBack, "a check fails after the switch", &["web"]),
        delete(DeletionPolicy::Retain, "delete, retaining"),
        // The service still points to the store we made, so it is kept.
        Story { phase: Phase::Deleting, ..delete(DeletionPolicy::Delete, "delete what serves") },
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
    let story = &stories()[0];
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
