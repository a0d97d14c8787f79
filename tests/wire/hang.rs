//! A cloud that takes a call and never answers: every client gives up at its own deadline, tries a read again so many times
//! and a write never, and says what it cannot know.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use pretty_assertions::assert_eq;
use serde_json::json;
use sessionbackend::aws::Deadlines;
use sessionbackend::aws::apprunner::Update;
use sessionbackend::aws::logs::Query;
use sessionbackend::error::{Class, CloudError};

use super::ground::{ByHand, Sandbox, secret};

const SHORT: Deadlines = Deadlines { read: Duration::from_millis(300), write: Duration::from_millis(700), attempts: 2 };

/// What a call came to, and how long that took.
async fn ended(call: BoxFuture<'_, Result<(), CloudError>>) -> (CloudError, Duration) {
    let begun = Instant::now();
    let error = call.await.unwrap_err();
    (error, begun.elapsed())
}

/// How often each operation was asked for.
fn asked(sandbox: &Sandbox) -> BTreeMap<String, u32> {
    let mut asked = BTreeMap::new();
    for call in sandbox.json(&["log", "-o", "json"]).as_array().unwrap() {
        *asked.entry(call["operation"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_gives_up_on_a_cloud_that_hangs_at_its_own_deadline() {
    let sandbox = Sandbox::up();
    let by_hand = ByHand::make(&sandbox);
    let (aws, upstash) = (sandbox.aws_within(SHORT).await, sandbox.upstash().within(SHORT));
    let source = aws.apprunner.service(&by_hand.arn.as_str().into()).await.unwrap().source_configuration.unwrap();
    let before = asked(&sandbox);
    sandbox.fault(&json!({ "call": "hang" }));

    let (arn, group) = (by_hand.arn.as_str().into(), by_hand.cache_group.as_str().into());
    let (role, name) = (by_hand.role.as_str(), ["*".to_owned()]);
    let (rule, value) = ("sgr-0123456789abcdef0".into(), secret("value"));
    let query =
        Query { group: "g".into(), since: None, stream_prefix: String::new(), pattern: String::new(), limit: 1 };
    let update = Update { source, health_check: None, network: None };
    let rows: [(&str, BoxFuture<'_, Result<(), CloudError>>); 12] = [
        ("ListServices", Box::pin(async { aws.apprunner.services().await.map(drop) })),
        (
            "DescribeSecurityGroupRules",
            Box::pin(async { aws.ec2.rules_of(&["sg-0123456789abcdef0".into()]).await.map(drop) }),
        ),
        ("DescribeReplicationGroups", Box::pin(async { aws.elasticache.replication_groups().await.map(drop) })),
        ("SimulatePrincipalPolicy", Box::pin(async { aws.iam.may(role, "a:B", &name).await.map(drop) })),
        ("FilterLogEvents", Box::pin(async { aws.logs.lines(&query).await.map(drop) })),
        ("GetSecretValue", Box::pin(async { aws.secretsmanager.get("x").await.map(drop) })),
        ("GetCallerIdentity", Box::pin(async { aws.sts.account().await.map(drop) })),
        ("ListDatabases", Box::pin(async { upstash.databases().await.map(drop) })),
        ("UpdateService", Box::pin(async { aws.apprunner.update(&arn, update).await.map(drop) })),
        ("RevokeSecurityGroupIngress", Box::pin(aws.ec2.revoke(&group, &rule))),
        ("CreateSecret", Box::pin(async { aws.secretsmanager.create("a", "", &value, None, &[]).await.map(drop) })),
        ("CreateDatabase", Box::pin(async { upstash.create("liberty", "us-east-1", None).await.map(drop) })),
    ];
    let (operations, calls): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    let outcomes = futures::future::join_all(calls.into_iter().map(ended)).await;
    let after = asked(&sandbox);
    for (operation, (error, took)) in operations.into_iter().zip(outcomes) {
        let is_write = ["Update", "Revoke", "Create"].iter().any(|verb| operation.starts_with(verb));
        let (deadline, attempts) = if is_write { (SHORT.write, 1) } else { (SHORT.read, SHORT.attempts) };
        assert_eq!((error.class, error.operation.as_str()), (Class::Transient, operation), "{error}");
        assert!(error.class.is_ambiguous(), "nobody can know whether it was executed: {error}");
        assert!(error.message.contains(&format!("no answer within {} s", deadline.as_secs_f64())), "{error}");
        assert!(took >= deadline * attempts, "{operation} gave up after {took:?}");
        let made = after[operation] - before.get(operation).copied().unwrap_or_default();
        assert_eq!(made, attempts, "{operation}");
    }
    assert_eq!(
        Deadlines::default(),
        Deadlines { read: Duration::from_secs(10), write: Duration::from_secs(30), attempts: 3 }
    );
}
