//! What comes in between: an edit while a visit waits for its turn, a journal that cannot be read in the middle of a migration.

use std::time::Duration;

use serde_json::{Value, json};
use sessionbackend::controller::FINALIZER;

use super::ground::{Ground, NAME, SERVICE, adopted, created, object, until};
use super::operator::Operator;
use super::told::{condition, ready_on, says};

/// The generations somebody has said something of in the status of an object, in the order of the writes.
fn generations_told(ground: &Ground, name: &str) -> Vec<u64> {
    let asked = ground.asked("sessionbackend").into_iter();
    let is_status = |event: &Value| {
        let about = &event["objectRef"];
        about["resource"] == "sessionbackends" && about["subresource"] == "status" && about["name"] == name
    };
    let told =
        asked.filter(is_status).filter_map(|event| event["requestObject"]["status"]["observedGeneration"].as_u64());
    told.collect()
}

#[test]
fn a_visit_that_has_waited_for_its_turn_looks_at_the_object_as_it_is_by_then() {
    let Some(ground) = Ground::up("waited") else { return };
    let old = ground.database("old");
    for service in [SERVICE, "billing"] {
        ground.service(service, Some(&old.url));
    }
    let operator = Operator::with(&ground, &["--concurrency=1".to_owned()]);
    // Held from the start: else what was seen too early is refused with the finalizer.
    let billing = |store: &Value| {
        let mut object = object("billing", store, &json!({ "services": [{ "name": "billing" }] }));
        object["metadata"]["finalizers"] = json!([FINALIZER]);
        object
    };
    ground.apply(&object(NAME, &adopted(&old), &json!({})));
    ready_on(&ground, NAME, "Upstash old");

    // The only turn there is hangs in a call for the other object.
    let hangs = json!({ "service": "secretsmanager", "call": "hang", "count": 1 });
    ground.sandbox.must(&["fault", "add", &hangs.to_string()]);
    ground.annotate(NAME, "reconcile-at", "now");
    until("a call hangs", || match ground.sandbox.json(&["fault", "list"]) {
        Value::Array(left) if left.is_empty() => Ok(()),
        left => Err(left.to_string()),
    });
    let visits = || operator.metric("sessionbackend_reconcile_total", &[]);
    let before = visits();
    ground.apply(&billing(&created("mistaken")));
    // Nothing shows that the visit has begun to wait; that it has is what makes this test sharp, not what makes it pass.
    std::thread::sleep(Duration::from_secs(1));
    ground.apply(&billing(&created("meant")));
    assert_eq!(visits(), before, "nobody was looked at meanwhile");

    ready_on(&ground, "billing", "Upstash meant");
    let told = generations_told(&ground, "billing");
    assert!(told.contains(&2) && !told.contains(&1), "{told:?}");
    let databases = ground.sandbox.call("upstash", "ListDatabases", &json!({}));
    let mut names: Vec<_> =
        databases.as_array().unwrap().iter().map(|database| database["database_name"].clone()).collect();
    names.sort_by_key(Value::to_string);
    assert_eq!(names, ["meant", "old"]);
    ground.keeps_its_secrets();
}

#[test]
fn a_journal_that_cannot_be_read_in_the_middle_of_a_migration_leaves_what_was_said_of_it() {
    let Some(ground) = Ground::up("unread") else { return };
    let old = ground.database("old");
    ground.service(SERVICE, Some(&old.url));
    let _operator = Operator::alone(&ground);
    ground.apply(&object(NAME, &created("new"), &json!({ "migration": { "bakeTime": "1h" } })));
    let baking = ground.until_phase(NAME, "Baking");
    let of = |object: &Value| {
        let Value::Object(mut migration) = object["status"]["migration"].clone() else { panic!("{object:#}") };
        // What moves all the time.
        for figure in ["lag", "copied", "conflicts"] {
            migration.remove(figure);
        }
        let status = &object["status"];
        (migration, status["summary"]["store"].clone(), status["services"].clone(), status["store"].clone())
    };
    let changes = ground.changes();
    for (fault, reason, phase, stalled) in
        [("500", "ApiUnavailable", "Baking", "False"), ("denied", "AccessDenied", "Blocked", "True")]
    {
        let fails = json!({ "service": "secretsmanager", "operation": "GetSecretValue", "call": fault });
        ground.sandbox.must(&["fault", "add", &fails.to_string()]);
        let unread = ground.until(NAME, "it says why", |object| says(object, "Ready", reason));
        assert_eq!(
            (&unread["status"]["phase"], &condition(&unread, "Stalled")["status"]),
            (&json!(phase), &json!(stalled))
        );
        assert_eq!(of(&unread), of(&baking));
        // The copier does not ask the journal.
        ground.ask("new", &["SET", fault, "logged-in", "EX", "7200"]);
        until("the other store follows", || match ground.ask("old", &["GET", fault]) {
            found if found.contains("logged-in") => Ok(()),
            found => Err(found),
        });
        ground.sandbox.must(&["fault", "clear"]);
        let again = ground.until(NAME, "it is read again", |object| {
            object["status"]["phase"] == "Baking" && !says(object, "Ready", reason)
        });
        assert_eq!(of(&again), of(&baking));
    }
    assert_eq!(ground.changes(), changes);
    ground.keeps_its_secrets();
}
