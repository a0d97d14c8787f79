//! What many objects at rest cost one replica: memory, and cloud calls an hour. As many as `SCALE` says, which `make scale` sets
//! to 1,000; a few otherwise. An account has 30 services at most, so objects share services and hold a variable each.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ground::{Ground, adopted, object, until_within};
use super::operator::Operator;

/// Objects where nothing else is said.
const FEW: usize = 30;
/// Services at most, as in an account.
const SERVICES: usize = 25;
/// Turns of all objects in a second, so that more of them are looked at as often as fewer.
const PACE: usize = 4;
/// The interval of the checks where a spec says none.
const INTERVAL: Duration = Duration::from_mins(5);
/// What 1,000 objects may hold, in KiB.
const RESIDENT: u64 = 128 * 1024;
/// What one look at an object with one service and one store may cost in cloud calls, one at rest.
const CALLS: f64 = 16.0;

/// The cloud calls so far, by provider and operation, and the turns.
fn spent(operator: &Operator) -> (BTreeMap<String, u64>, u64) {
    let mut calls: BTreeMap<String, u64> = BTreeMap::new();
    for (series, count) in operator.series("sessionbackend_cloud_requests_total") {
        let label =
            |name: &str| series.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap().to_owned();
        *calls.entry(format!("{} {}", label("provider"), label("operation"))).or_default() += count;
    }
    (calls, operator.metric("sessionbackend_reconcile_total", &["turned"]))
}

fn ready(ground: &Ground) -> usize {
    let phases = ground.kubectl("get sb -o jsonpath={.items[*].status.phase}");
    phases.split_whitespace().filter(|phase| *phase == "Ready").count()
}

#[test]
fn many_objects_at_rest_cost_little_memory_and_few_calls() {
    let objects: usize = std::env::var("SCALE").map_or(FEW, |scale| scale.parse().unwrap());
    let Some(ground) = Ground::up("scale") else { return };
    let database = ground.database("shared");
    let services = objects.div_ceil(10).min(SERVICES);
    for service in 0..services {
        let variables = (service..objects).step_by(services).map(|of| (format!("URL_{of}"), json!(database.url)));
        let variables: serde_json::Map<_, _> = variables.collect();
        ground.service_with(&format!("web-{service}"), &Value::Object(variables));
    }
    let interval = (objects / PACE).max(10);
    let items: Vec<_> = (0..objects)
        .map(|of| {
            let differs = json!({
                "services": [{ "name": format!("web-{}", of % services) }],
                "env": { "names": { "url": format!("URL_{of}") } },
                "checks": { "interval": format!("{interval}s") },
            });
            object(&format!("web-{of}"), &adopted(&database), &differs)
        })
        .collect();
    let operator = Operator::alone(&ground);
    let empty = operator.resident();
    let began = Instant::now();
    ground.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": items }));
    until_within(Duration::from_secs(120 + objects as u64), "all are Ready", || match ready(&ground) {
        ready if ready == objects => Ok(()),
        ready => Err(format!("{ready} of {objects}")),
    });
    let took = began.elapsed();

    // Every object is looked at twice with nothing to do: what the first looks have kept counts for the second.
    let seen = |rounds: usize, from: u64| {
        until_within(Duration::from_secs(120 + 3 * interval as u64), "all are looked at", || {
            let turns = spent(&operator).1 - from;
            if turns >= (rounds * objects) as u64 { Ok(()) } else { Err(format!("{turns} turns")) }
        });
    };
    seen(1, spent(&operator).1);
    let (changes, writes) = (ground.changes(), operator.metric("sessionbackend_status_writes_total", &[]));
    let (before, from) = spent(&operator);
    seen(2, from);
    let (after, to) = spent(&operator);

    let turns = (to - from) as f64;
    let cost = |operation: &String| (after[operation] - before.get(operation).copied().unwrap_or(0)) as f64 / turns;
    let each: f64 = after.keys().map(cost).sum();
    let hourly = each * 3600.0 / INTERVAL.as_secs_f64();
    let resident = operator.resident();
    println!("scale: {objects} objects Ready after {} s, {empty} KiB before, {resident} KiB at rest", took.as_secs());
    println!(
        "scale: one object at rest costs {each:.1} cloud calls a look, {hourly:.0} an hour with checks.interval 5m:"
    );
    for operation in after.keys().filter(|operation| cost(operation) > 0.005) {
        println!("scale:   {:6.2} {operation}", cost(operation));
    }
    assert_eq!(ready(&ground), objects);
    let since = ground.changes().split_off(changes.len());
    assert!(since.is_empty(), "no cloud call that may change something: {since:#?}");
    assert_eq!(operator.metric("sessionbackend_status_writes_total", &[]), writes, "no status was written");
    assert!(each <= CALLS, "{each:.1} calls a look");
    assert!(resident <= RESIDENT, "{resident} KiB");
}
