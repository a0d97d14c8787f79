//! Two services that share one store, by the real planner on the real clients: both move, one after the other, or neither.

use std::time::Duration;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use sessionbackend::desired::{Desired, EgressPolicy, ServiceRef, Writer};
use sessionbackend::journal::Outcome;
use sessionbackend::plan::Phase;

use super::ground::{ByHand, PASSWORD, Sandbox, running};
use super::job::{at_rest, drive, driver, variables};
use super::serve::{present, target};

/// A pair as their owner has them, and the wish to move both.
fn pair(sandbox: &Sandbox) -> (ByHand, [String; 2], Desired) {
    let by_hand = ByHand::make_with(sandbox, variables());
    let mut own = variables();
    own.insert("QUEUES".to_owned(), json!("mail, \"slow\""));
    let worker = by_hand.another(sandbox, "worker-app", own);
    let mut wanted = target(&by_hand);
    wanted.services.push(ServiceRef {
        name: "worker-app".into(),
        arn: None,
        egress: EgressPolicy::Default,
        writer: Writer::Operator,
    });
    wanted.app.longest_request = Duration::from_millis(500);
    wanted.migration.bake_time = Duration::from_millis(500);
    let arns = [by_hand.arn.clone(), worker];
    (by_hand, arns, present(wanted))
}

/// What may change of a service, once it runs.
fn configured(sandbox: &Sandbox, arn: &str) -> [Value; 4] {
    let service = running(sandbox, arn)["Service"].clone();
    ["SourceConfiguration", "NetworkConfiguration", "HealthCheckConfiguration", "InstanceConfiguration"]
        .map(|part| service[part].clone())
}

/// The services in the order in which they were updated.
fn updated(sandbox: &Sandbox) -> Vec<String> {
    let log = sandbox.json(&["log", "-o", "json", "--mutating"]);
    let updates = log.as_array().unwrap().iter().filter(|call| call["operation"] == "UpdateService");
    updates.map(|call| call["resource"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_services_move_one_after_the_other_and_what_both_used_is_retired_once() {
    let sandbox = Sandbox::up();
    let (_by_hand, arns, desired) = pair(&sandbox);
    let before = arns.each_ref().map(|arn| configured(&sandbox, arn));
    let hand = driver(&sandbox, None).await;
    let story = drive(&hand, &desired, at_rest).await.join("\n");
    assert!(!story.contains("FAILED") && !story.contains(PASSWORD), "{story}");

    let settings = "/ImageRepository/ImageConfiguration";
    let mut told = Vec::new();
    for (arn, before) in arns.iter().zip(before) {
        let [source, network, ..] = configured(&sandbox, arn);
        let (now, mut theirs) = (source.pointer(settings).unwrap(), before[0].pointer(settings).unwrap().clone());
        theirs["RuntimeEnvironmentVariables"].as_object_mut().unwrap().remove("REDIS_URL");
        assert_eq!(now["RuntimeEnvironmentVariables"], theirs["RuntimeEnvironmentVariables"], "{arn}");
        assert_eq!(network["EgressConfiguration"]["EgressType"], "DEFAULT", "{arn}");
        told.push(now["RuntimeEnvironmentSecrets"]["REDIS_URL"].clone());
    }
    assert!(told[0].is_string() && told[0] == told[1], "one secret tells both: {told:?}");
    assert_eq!(updated(&sandbox), arns);
    for (operation, times) in [("CreateDatabase", 1), ("DeleteVpcConnector", 1), ("RevokeSecurityGroupIngress", 1)] {
        assert_eq!(sandbox.calls(operation), times, "{operation}");
    }
    let journal = hand.journal().await;
    assert_eq!(journal.migration.unwrap().ended.unwrap().outcome, Outcome::Completed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_second_service_fails_to_deploy_both_are_as_they_were() {
    let sandbox = Sandbox::up();
    let (_by_hand, arns, desired) = pair(&sandbox);
    let before = arns.each_ref().map(|arn| configured(&sandbox, arn));
    sandbox.fault(&json!({ "deployment": "rollback", "name": "worker-app", "count": 1 }));
    let hand = driver(&sandbox, None).await;
    let story = drive(&hand, &desired, |plan| plan.phase == Phase::RolledBack && plan.steps.is_empty()).await;
    let [web, worker] = &arns;
    assert_eq!(updated(&sandbox), [web, worker, web].map(String::as_str), "{}", story.join("\n"));
    assert_eq!(arns.each_ref().map(|arn| configured(&sandbox, arn)), before);
    assert_eq!(sandbox.calls("DeleteVpcConnector") + sandbox.calls("RevokeSecurityGroupIngress"), 0);
    let journal = hand.journal().await;
    assert_eq!(journal.migration.unwrap().ended.unwrap().outcome, Outcome::RolledBack);
    assert!(journal.latch.is_some_and(|latch| latch.message.contains("worker-app")));
}
