//! The report's shape, and for every condition a world in which it alone does not hold.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::tally::Requests;

const BOUNDS: Bounds = Bounds { sessions: 5000, requests: 10_000, overlap_ms: 5000 };

fn facts(scenario: Scenario) -> Facts {
    let mut findings = Findings::default();
    findings.sessions.before = 5010;
    findings.sessions.after = 5020;
    findings.requests.total = 12_000;
    findings.requests.refused_within_lag = 12;
    findings.worst_lag_ms = 340;
    let back = scenario != Scenario::Migrate;
    for (instance, store, seconds) in [("a", "old:6379", 0), ("n", "new:6379", 10), ("a", "old:6379", 16)] {
        findings.fleet.see(instance, store, Duration::from_secs(seconds));
    }
    findings.fleet.see("n", "new:6379", Duration::from_secs(40));
    findings.fleet.count(Some("n"), Some("n"));
    if back {
        findings.fleet.see("b", "old:6379", Duration::from_mins(1));
    }
    let named = vec!["arn:connector".to_owned(), "sgr-1".to_owned()];
    Facts {
        scenario,
        exit: Some(if back { 3 } else { 0 }),
        status: Status {
            phase: if back { "RolledBack" } else { "Ready" }.to_owned(),
            message: "redis: SETEX is refused".to_owned(),
            conflicts: 1,
            passed: 3,
            failed: 0,
            skipped: 1,
        },
        checked: Checked { passed: 7, failed: u64::from(scenario == Scenario::Rollback), skipped: 1 },
        findings,
        foreign: 13,
        foreign_changes: Vec::new(),
        removed: if back { Vec::new() } else { named.clone() },
        named,
        old_store_available: true,
        old_store: "old:6379".to_owned(),
        configuration_restored: back,
        plan_changes: Some(0),
        made: Made {
            databases: 1,
            epochs: if back { Vec::new() } else { vec!["arn:secret".to_owned()] },
            ..Made::default()
        },
        store_reference: "arn:secret".to_owned(),
        leaks: Vec::new(),
        kills: 0,
        path: CriticalPath { deployments: 24.0, drains: 5.0, bake: 20.0 },
        seconds: 51.234,
    }
}

fn broken(facts: &Facts) -> Vec<String> {
    let conditions = facts.conditions(BOUNDS).into_iter();
    conditions.filter(|condition| !condition.holds).map(|condition| condition.what).collect()
}

#[test]
fn the_report_has_the_agreed_shape_and_nothing_else() {
    let report = serde_json::to_value(facts(Scenario::Migrate).report()).unwrap();
    let shape = json!({
        "scenario": "migrate",
        "outcome": "Migrated",
        "sessions": { "before": 5010, "after": 5020, "lost": 0, "zombies": 0 },
        "conflicts": 1,
        "worstLagMs": 340,
        "requests": { "total": 12_000, "failed": 0, "refusedWithinLag": 12 },
        "checks": { "passed": 7, "failed": 0, "skipped": 1 },
        "foreignVariablesChanged": 0,
        "retired": ["arn:connector", "sgr-1"],
        "planAfter": { "changes": 0 },
        "seconds": 51.2,
        "kills": 0,
        "criticalPath": { "seconds": 49.0, "ratio": 1.046 },
    });
    assert_eq!(report, shape);
    let back = serde_json::to_value(facts(Scenario::PlatformRollback).report()).unwrap();
    assert_eq!((&back["scenario"], &back["outcome"]), (&json!("platform-rollback"), &json!("RolledBack")));
}

#[test]
fn each_scenario_holds_when_everything_is_as_it_should_be() {
    for scenario in [Scenario::Migrate, Scenario::Rollback, Scenario::PlatformRollback] {
        assert_eq!(broken(&facts(scenario)), Vec::<String>::new(), "{scenario:?}");
    }
}

#[test]
fn every_broken_promise_is_one_broken_condition() {
    type Break = fn(&mut Facts);
    let breaks: [Break; 17] = [
        |facts| facts.findings.sessions.before = 4999,
        |facts| facts.findings.sessions.lost = 1,
        |facts| facts.findings.sessions.zombies = 1,
        |facts| facts.findings.sessions.shortened = 1,
        |facts| facts.findings.sessions.open = 1,
        |facts| facts.findings.requests.failed = 1,
        |facts| facts.findings.requests.stale_late = 1,
        |facts| facts.findings.requests.accepted_after_logout_late = 1,
        |facts| facts.findings.requests.refused_within_lag = 13,
        |facts| facts.foreign_changes.push("A".to_owned()),
        |facts| facts.made.others.push("sgr-2".to_owned()),
        |facts| facts.made.traces.push("__sessionbackend:m:fence in liberty".to_owned()),
        |facts| facts.made.notifying.push("liberty".to_owned()),
        |facts| facts.leaks.push("the API key in apply.log".to_owned()),
        |facts| facts.old_store_available = false,
        |facts| facts.plan_changes = Some(1),
        |facts| facts.plan_changes = None,
    ];
    for scenario in [Scenario::Migrate, Scenario::Rollback] {
        for (number, harm) in breaks.iter().enumerate() {
            let mut facts = facts(scenario);
            harm(&mut facts);
            assert_eq!(broken(&facts).len(), 1, "{scenario:?}: break {number}: {:?}", broken(&facts));
        }
    }
}

#[test]
fn a_migration_must_migrate_check_and_clean_up() {
    let breaks: [fn(&mut Facts); 11] = [
        |facts| facts.findings.requests = Requests { total: 9999, ..Requests::default() },
        |facts| facts.made.databases = 2,
        |facts| facts.made.epochs.push("arn:leaked".to_owned()),
        |facts| facts.store_reference = "arn:other".to_owned(),
        |facts| facts.exit = Some(3),
        |facts| facts.exit = None,
        |facts| facts.status.failed = 1,
        |facts| facts.status.passed = 0,
        |facts| facts.checked.failed = 1,
        |facts| facts.checked.passed = 0,
        |facts| drop(facts.removed.pop()),
    ];
    for (number, harm) in breaks.iter().enumerate() {
        let mut facts = facts(Scenario::Migrate);
        harm(&mut facts);
        assert_eq!(broken(&facts).len(), 1, "break {number}");
    }
    let mut still_old = facts(Scenario::Migrate);
    still_old.findings.fleet.see("b", "old:6379", Duration::from_secs(90));
    assert_eq!(still_old.outcome(), Outcome::Failed);
}

#[test]
fn a_rollback_must_be_complete_and_say_why() {
    let breaks: [fn(&mut Facts); 8] = [
        |facts| facts.exit = Some(0),
        |facts| facts.status.message.clear(),
        |facts| facts.status.phase = "Ready".to_owned(),
        |facts| facts.configuration_restored = false,
        |facts| facts.checked.failed = 0,
        |facts| facts.removed = vec!["sgr-1".to_owned()],
        |facts| facts.made.databases = 2,
        |facts| facts.made.epochs.push("arn:leaked".to_owned()),
    ];
    for (number, harm) in breaks.iter().enumerate() {
        let mut facts = facts(Scenario::Rollback);
        harm(&mut facts);
        assert_eq!(broken(&facts).len(), 1, "break {number}");
    }
    let mut never_there = facts(Scenario::Rollback);
    never_there.findings.fleet = crate::fleet::Fleet::default();
    assert!(broken(&never_there).iter().any(|what| what.contains("born on the new store")));
}

#[test]
fn people_read_every_condition_and_what_went_wrong() {
    let mut facts = facts(Scenario::Migrate);
    facts.findings.sessions.lost = 2;
    facts.findings.examples.push("at the end: session 0123: Refused".to_owned());
    let text = facts.text(&facts.conditions(BOUNDS));
    assert!(text.contains("✗ no sessions lost") && text.contains("✓ plan has nothing left to do"));
    assert!(text.contains("at the end: session 0123: Refused"));
}

#[test]
fn the_pace_is_told_only_of_an_undisturbed_move() {
    let mut facts = facts(Scenario::Migrate);
    assert!(
        facts.text(&[]).contains("1.046 × the critical path of 49.0 s (deployments 24.0 s, drains 5.0 s, bake 20.0 s)")
    );
    facts.kills = 2;
    assert_eq!(facts.pace(), None);
    assert!(facts.text(&[]).contains("2 times"));
    assert_eq!(serde_json::to_value(facts.report()).unwrap()["criticalPath"]["ratio"], serde_json::Value::Null);
}
