//! The checks against real servers: redis-server with and without TLS, and an HTTPS server with several instances.
//! Servers listen on loopback at a port of their own and end with the test that started them.

#![cfg(feature = "shell")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::pedantic, clippy::disallowed_methods)]

mod authority;
mod http;
mod logs;
mod redis;
mod runs;
mod server;
mod session;
mod store;

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::Value;
use sessionbackend::checks::budget::Figures;
use sessionbackend::checks::run::{Client, Context, RedisTarget, ServiceUnderCheck, run};
use sessionbackend::checks::{Check, CheckResult, LogGroup, Stage, Verdict, resolve};

/// A password that must never be seen again.
const CANARY: &str = "canary-7f3a9c";

/// A context that trusts the tests' own authority and holds nothing else.
fn context() -> Context {
    Context {
        services: Vec::new(),
        store: None,
        since: "2026-05-01T00:00:00Z".parse().unwrap(),
        http: Client::new(Some(authority::AUTHORITY.as_bytes())).unwrap(),
        secrets: BTreeMap::new(),
        logs: None,
        figures: Figures::default(),
    }
}

fn service(name: &str, host: String) -> ServiceUnderCheck {
    let groups = [(LogGroup::Application, format!("/aws/apprunner/{name}/application"))];
    ServiceUnderCheck { name: name.to_owned(), host: Some(host), log_groups: groups.into() }
}

fn on_store(store: RedisTarget) -> Context {
    Context { store: Some(store), ..context() }
}

/// The checks as a manifest would hold them.
fn checks(extra: &Value) -> Vec<Check> {
    resolve(&[], extra.as_array().unwrap()).unwrap()
}

/// Runs one check that is tried once, and sees that nothing secret is in what it says.
async fn once(mut check: Value, stage: Stage, context: &Context) -> CheckResult {
    check["name"] = "it".into();
    check["attempts"] = check.get("attempts").cloned().unwrap_or(1.into());
    let told = Mutex::new(Vec::new());
    let mut results =
        run(&checks(&Value::Array(vec![check])), stage, context, |result| told.lock().unwrap().push(result)).await;
    assert_eq!(results.len(), 1, "{results:?}");
    assert_eq!(*told.lock().unwrap(), results);
    let result = results.remove(0);
    let shown = format!("{result:?}");
    assert!(!shown.contains(CANARY), "{shown}");
    assert!(!shown.contains("127.0.0.1") && !shown.contains("::1"), "{shown}");
    assert!(result.message.len() <= 483, "{}", result.message);
    result
}

/// The verdict as a word, and the message.
fn told(result: &CheckResult) -> (&str, &str) {
    let word = match &result.verdict {
        Verdict::Pass => "Pass",
        Verdict::Fail => "Fail",
        Verdict::Inconclusive => "Inconclusive",
        Verdict::Skipped(_) => "Skipped",
    };
    (word, &result.message)
}
