//! Two replicas: one acts; one that was frozen past its lease does no harm when it wakes.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use super::ground::{Ground, NAME, SERVICE, created, object, until};
use super::operator::Operator;

/// How long nobody may act.
const FAILOVER: Duration = Duration::from_secs(20);

fn leads(operator: &Operator) {
    until("it leads", || if operator.leads() { Ok(()) } else { Err(operator.get("/readyz").1) });
}

/// The verbs by which an account has changed something of the API server since.
fn writes(ground: &Ground, account: &str, since: usize) -> Vec<String> {
    let asked = ground.asked(account).split_off(since);
    // A call that was under way when it was frozen is refused: others have written since.
    let taken = |event: &&serde_json::Value| event["responseStatus"]["code"] != 409;
    let name = |event: &serde_json::Value| {
        let object = &event["objectRef"];
        format!("{} {} {}", event["verb"], object["resource"], object["name"]).replace('"', "")
    };
    asked
        .iter()
        .filter(taken)
        .map(name)
        .filter(|name| !["get", "list", "watch"].iter().any(|verb| name.starts_with(verb)))
        .collect()
}

#[test]
fn a_leader_that_was_frozen_past_its_lease_wakes_and_does_no_harm() {
    let Some(ground) = Ground::up("frozen") else { return };
    let old = ground.database("old");
    let arn = ground.service(SERVICE, Some(&old.url));
    for account in ["a", "b"] {
        ground.permit(account);
    }
    let mut first = Operator::of(&ground, "a");
    leads(&first);
    let mut second = Operator::of(&ground, "b");
    // In the middle of a migration: both stores are in step by a copier of the first.
    let baking = json!({ "migration": { "bakeTime": "5s" } });
    ground.apply(&object(NAME, &created("new"), &baking));
    until("the service is being switched", || {
        if ground.calls("UpdateService") == 1 { Ok(()) } else { Err(format!("{:#}", ground.object(NAME)["status"])) }
    });
    assert!(!second.leads() && second.get("/readyz").0 == 200);
    let idle = writes(&ground, "b", 0);
    assert_eq!(idle, Vec::<String>::new(), "the second only looks at the lease");

    let frozen = Instant::now();
    first.signal(Signal::SIGSTOP);
    let asked = ground.asked("a").len();
    leads(&second);
    let took = frozen.elapsed();
    assert!(took <= FAILOVER, "{took:?}");
    // It wakes while the other one acts.
    first.signal(Signal::SIGCONT);
    assert_eq!(first.ended(), Some(1), "{}", first.said());
    assert!(first.said().contains("another replica acts"), "{}", first.said());
    assert_eq!(writes(&ground, "a", asked), Vec::<String>::new(), "nothing was written after it woke");

    ground.kubectl(&format!("wait --for=condition=Ready --timeout=120s sb/{NAME}"));
    assert_eq!((ground.calls("CreateDatabase"), ground.calls("UpdateService")), (2, 1), "theirs and ours, each once");
    assert_eq!(ground.object(NAME)["status"]["summary"]["store"], "Upstash new");
    assert!(ground.variables(&arn)["RuntimeEnvironmentSecrets"]["REDIS_URL"].is_string());

    // One that is told to stop hands over at once.
    let third = Operator::of(&ground, "a");
    assert!(!third.leads());
    let told = Instant::now();
    second.signal(Signal::SIGTERM);
    leads(&third);
    assert!(told.elapsed() < Duration::from_secs(8), "{:?}", told.elapsed());
    assert_eq!(second.ended(), Some(0), "{}", second.said());
    ground.keeps_its_secrets();
}

#[test]
fn a_lease_that_somebody_deletes_is_made_again_by_who_held_it() {
    let Some(ground) = Ground::up("no-lease") else { return };
    let mut operator = Operator::alone(&ground);
    leads(&operator);
    ground.kubectl("delete lease sessionbackend");
    until("the lease is there again", || {
        let line = format!("-n {} get lease sessionbackend -o jsonpath={{.spec.holderIdentity}}", ground.namespace);
        match ground.plane.must(&line) {
            Ok(holder) if holder == "sessionbackend" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert!(operator.leads(), "it acts as before");
    operator.signal(Signal::SIGTERM);
    assert_eq!(operator.ended(), Some(0));
}
