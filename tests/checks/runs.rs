//! Runs of several checks: which are made, in what order they are told, and whole runbooks.

use std::sync::Mutex;

use pretty_assertions::assert_eq;
use serde_json::json;
use sessionbackend::checks::run::{Context, run};
use sessionbackend::checks::{Judgement, Stage, Verdict, judge, resolve, runbook};

use crate::server::{Reply, Server};
use crate::store::Store;
use crate::{checks, context, on_store, service, told};

#[tokio::test]
async fn results_are_in_the_order_of_checks_and_services_whichever_comes_first() {
    let slow = Server::start(|_| async {
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        Reply::new(200, "")
    })
    .await;
    let fast = Server::start(|_| std::future::ready(Reply::new(200, ""))).await;
    let services = vec![service("slow", slow.host()), service("fast", fast.host())];
    let context = Context { services, ..context() };
    let checks = checks(&json!([
        { "name": "b", "http": { "path": "/" } },
        { "name": "not-now", "stages": ["Rest"], "http": { "path": "/" } },
        { "name": "a", "services": ["fast", "other"], "interval": "0s", "http": { "path": "/" } },
        { "name": "off", "store": "Redis", "http": { "path": "/" } },
    ]));
    let told_first = Mutex::new(None);
    let results = run(&checks, Stage::Bake, &context, |result| {
        told_first.lock().unwrap().get_or_insert((result.name, result.service));
    })
    .await;
    let order: Vec<_> = results
        .iter()
        .map(|result| (result.name.as_str(), result.service.as_deref().unwrap(), told(result).0))
        .collect();
    assert_eq!(
        order,
        [
            ("b", "slow", "Pass"),
            ("b", "fast", "Pass"),
            ("a", "fast", "Pass"),
            ("a", "other", "Inconclusive"),
            ("off", "slow", "Skipped"),
            ("off", "fast", "Skipped"),
        ]
    );
    assert_ne!(told_first.into_inner().unwrap(), Some(("b".to_owned(), Some("slow".to_owned()))));
}

#[tokio::test]
async fn every_built_in_runbook_runs_at_every_stage() {
    let store = Store::start_tls(&[]);
    let server = Server::start(|_| std::future::ready(Reply::new(200, r#"{"status":"ok"}"#))).await;
    let context = Context { services: vec![service("web", server.host())], ..on_store(store.target(None)) };
    for name in runbook::names() {
        let mut checks = resolve(&[json!({ "name": name })], &[]).unwrap();
        // The verdicts are looked at, not the patience.
        for check in &mut checks {
            check.attempts = check.consecutive;
            check.interval = std::time::Duration::ZERO;
        }
        for stage in Stage::ALL {
            let results = run(&checks, stage, &context, |_| {}).await;
            assert!(!results.is_empty(), "{name} has nothing for {stage}");
            let redis = results.iter().find(|result| result.name == "redis").unwrap();
            assert_eq!(redis.verdict, Verdict::Pass, "{name}, {stage}: {}", redis.message);
        }
    }
}

#[tokio::test]
async fn a_regression_is_told_from_what_was_broken_before() {
    let store = Store::start(&["user default on nopass ~* +@all -setex"]);
    let old = Store::start(&[]);
    let server = Server::start(|_| std::future::ready(Reply::new(500, ""))).await;
    let services = || vec![service("web", server.host())];
    let checks = checks(&json!([
        { "name": "redis", "attempts": 1, "redis": {} },
        { "name": "health", "attempts": 1, "http": { "path": "/" } },
        { "name": "needed", "attempts": 1, "required": true, "http": { "path": "/" } },
    ]));
    let before = Context { services: services(), ..on_store(old.target(None)) };
    let after = Context { services: services(), ..on_store(store.target(None)) };
    let baseline = run(&checks, Stage::Baseline, &before, |_| {}).await;
    let results = run(&checks, Stage::AfterSwitch, &after, |_| {}).await;
    let Judgement::Regressed(regressed) = judge(&baseline, &results) else { panic!("{results:?}") };
    assert_eq!(regressed.iter().map(|result| result.name.as_str()).collect::<Vec<_>>(), ["redis", "needed"]);
    // What was broken before is no reason to hold what has come back.
    let healed = run(&checks, Stage::AfterRollback, &before, |_| {}).await;
    assert_eq!(judge(&baseline, &healed), Judgement::Passed);
}
