//! What an object says of itself, and how long one waits for it.

use serde_json::Value;

use super::ground::{Ground, NAME};

pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let all = object["status"]["conditions"].as_array();
    all.and_then(|all| all.iter().find(|condition| condition["type"] == kind)).unwrap_or(&Value::Null)
}

pub(crate) fn says(object: &Value, kind: &str, reason: &str) -> bool {
    condition(object, kind)["reason"] == reason
}

/// The message of a condition.
pub(crate) fn message<'a>(object: &'a Value, kind: &str) -> &'a str {
    condition(object, kind)["message"].as_str().unwrap_or_default()
}

pub(crate) fn annotation(object: &Value, name: &str) -> Value {
    object["metadata"]["annotations"][format!("sessionbackend.dev/{name}")].clone()
}

/// What is kept though nothing uses it, as kind and id.
pub(crate) fn retained(object: &Value) -> Vec<(String, String)> {
    let text = |kept: &Value, member: &str| kept[member].as_str().unwrap_or_default().to_owned();
    let all = object["status"]["retained"].as_array().into_iter().flatten();
    all.map(|kept| (text(kept, "kind"), text(kept, "id"))).collect()
}

/// The object once it waits for a person at this gate, in another migration than `but`, and that migration.
pub(crate) fn at_gate(ground: &Ground, gate: &str, but: &str) -> (Value, String) {
    let waiting = ground.until(NAME, gate, |object| {
        let migration = &object["status"]["migration"];
        object["status"]["phase"] == "AwaitingApproval" && migration["gate"] == gate && migration["id"] != but
    });
    let id = waiting["status"]["migration"]["id"].as_str().unwrap().to_owned();
    (waiting, id)
}

/// The object once it is at rest as its spec says, on this store.
pub(crate) fn ready_on(ground: &Ground, name: &str, store: &str) -> Value {
    ground.until(name, &format!("{name} is Ready on {store}"), |object| {
        says(object, "Ready", "AsDesired")
            && condition(object, "Ready")["observedGeneration"] == object["metadata"]["generation"]
            && object["status"]["summary"]["store"] == store
    })
}

/// The object once nothing moves for this reason.
pub(crate) fn stalled(ground: &Ground, name: &str, reason: &str) -> Value {
    ground.until(name, &format!("{name} stands still: {reason}"), |object| {
        condition(object, "Stalled")["status"] == "True" && says(object, "Stalled", reason)
    })
}
