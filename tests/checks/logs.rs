//! `logs` checks against a log group in memory.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use sessionbackend::checks::run::{Context, LogEvent, Logs};
use sessionbackend::checks::{CheckResult, Stage};
use sessionbackend::error::{Class, CloudError};

use crate::{CANARY, context, once, service, told};

/// Answers every filter with every event, as a pattern of terms may do.
struct Lines(Result<Vec<LogEvent>, CloudError>);

impl Logs for Lines {
    fn filter<'a>(
        &'a self,
        group: &'a str,
        _: Timestamp,
        _: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<LogEvent>, CloudError>> + Send + 'a>> {
        assert_eq!(group, "/aws/apprunner/web/application");
        Box::pin(std::future::ready(self.0.clone()))
    }
}

async fn looked(logs: Option<Arc<dyn Logs>>, check: Value) -> CheckResult {
    let context = Context { services: vec![service("web", "web.example".to_owned())], logs, ..context() };
    once(json!({ "logs": check }), Stage::AfterSwitch, &context).await
}

fn lines(lines: &[(&str, &str)]) -> Option<Arc<dyn Logs>> {
    let event = |(time, message): &(&str, &str)| LogEvent {
        timestamp: format!("2026-{time}Z").parse().unwrap(),
        message: (*message).to_owned(),
    };
    Some(Arc::new(Lines(Ok(lines.iter().map(event).collect()))))
}

fn fails(class: Class) -> Option<Arc<dyn Logs>> {
    Some(Arc::new(Lines(Err(CloudError::new(class, "CloudWatch Logs", "FilterLogEvents", "SomeException", "no")))))
}

#[tokio::test]
async fn texts_are_looked_for_since_the_cut_over_literally() {
    let log = lines(&[
        ("04-30T23:59:59", "Redis client error: Error: Connection timeout"),
        ("05-01T00:00:00", "[Redis] Connected successfully to Upstash"),
        ("05-01T00:00:03", "connection TIMEOUT of a foreign client"),
    ]);
    let check = json!({ "appear": ["[Redis] Connected successfully"], "absent": ["Connection timeout"] });
    let result = looked(log, check).await;
    assert_eq!(told(&result), ("Pass", "application log since 2026-05-01T00:00:00Z: 1 found, 1 absent"));
}

#[tokio::test]
async fn what_must_not_appear_fails_with_count_and_time_but_not_with_the_line() {
    let line = format!("Redis client error: Error: Connection timeout to redis://default:{CANARY}@127.0.0.1:6379");
    let log = lines(&[("05-01T00:02:00", &line), ("05-01T00:01:00.5", &line), ("05-01T00:03:00", "fine")]);
    let result = looked(log, json!({ "absent": ["ECONNREFUSED", "Redis client error"] })).await;
    assert_eq!(told(&result).0, "Fail");
    assert!(
        result
            .message
            .starts_with("\"Redis client error\" appears 2 times since 2026-05-01T00:01:00Z; NoNetworkPath: "),
        "{}",
        result.message
    );
}

#[tokio::test]
async fn what_must_appear_and_does_not_fails() {
    let result = looked(lines(&[]), json!({ "appear": ["[Redis] Client ready", "connected"] })).await;
    assert_eq!(told(&result), ("Fail", "\"[Redis] Client ready\", \"connected\" not found since 2026-05-01T00:00:00Z"));
}

#[tokio::test]
async fn a_control_plane_that_does_not_answer_decides_nothing() {
    let check = json!({ "absent": ["x"] });
    let result = looked(fails(Class::NotFound), check.clone()).await;
    assert_eq!(told(&result), ("Inconclusive", "there is no log group yet: App Runner makes it with the first line"));
    for class in [Class::Transient, Class::Throttled, Class::Denied] {
        let result = looked(fails(class), check.clone()).await;
        assert_eq!(
            told(&result),
            ("Inconclusive", "the log group cannot be read: CloudWatch Logs FilterLogEvents: SomeException: no")
        );
    }
    assert_eq!(told(&looked(None, check).await), ("Skipped", "logs cannot be read here"));
}
