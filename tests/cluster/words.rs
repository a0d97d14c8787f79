//! What people say to the operator: by annotations, by the mode, by naming a service somebody else has.

use serde_json::{Value, json};

use super::ground::{Ground, NAME, SERVICE, adopted, created, object};
use super::operator::Operator;
use super::told::{annotation, at_gate, condition, says};

#[test]
fn nothing_is_changed_while_an_object_is_paused_or_only_looks() {
    let Some(ground) = Ground::up("looks") else { return };
    ground.service(SERVICE, None);
    let _operator = Operator::alone(&ground);
    let before = ground.changes();

    let mut looks = object(NAME, &created("web-sessions"), &json!({ "mode": "Plan" }));
    ground.apply(&looks);
    let looked = ground.until(NAME, "it has looked", |object| says(object, "Ready", "PlanOnly"));
    assert_eq!(
        (&looked["status"]["phase"], condition(&looked, "Stalled")["status"].as_str()),
        (&json!("Planning"), Some("False"))
    );
    assert_eq!(ground.changes(), before, "mode: Plan");

    ground.annotate(NAME, "paused", "maybe");
    let odd = ground.until_phase(NAME, "Paused");
    assert!(
        condition(&odd, "Accepted")["message"].as_str().unwrap().contains("is neither \"true\" nor \"false\""),
        "{odd:#}"
    );
    looks["spec"]["mode"] = json!("Apply");
    ground.apply(&looks);
    ground.annotate(NAME, "paused", "true");
    let paused = ground.until(NAME, "the new spec is seen", |object| object["status"]["observedGeneration"] == 2);
    assert!(says(&paused, "Ready", "Paused") && paused["status"]["phase"] == "Paused", "{paused:#}");
    assert_eq!(ground.changes(), before, "paused");

    ground.kubectl(&format!("annotate sb {NAME} sessionbackend.dev/paused-"));
    ground.until_phase(NAME, "Ready");
    assert_eq!((ground.calls("CreateDatabase"), ground.calls("UpdateService")), (1, 1));
    ground.keeps_its_secrets();
}

#[test]
fn a_migration_is_approved_aborted_and_retried_by_annotations() {
    let Some(ground) = Ground::up("words") else { return };
    let old = ground.database("old");
    let arn = ground.service(SERVICE, Some(&old.url));
    let before = ground.variables(&arn);
    let _operator = Operator::alone(&ground);
    let asks = json!({ "migration": { "approval": { "switch": "Manual" } } });
    ground.apply(&object(NAME, &created("new"), &asks));
    let (waiting, first) = at_gate(&ground, "switch", "");
    assert!(says(&waiting, "Ready", "ApprovalNeeded"), "{:#}", waiting["status"]);

    // A word to another migration is not taken up, and it is said why.
    ground.annotate(NAME, "approve", "0123456789-7/switch");
    let ignored = ground.until(NAME, "the word is answered", |object| says(object, "Accepted", "AnnotationIgnored"));
    let said = condition(&ignored, "Accepted")["message"].as_str().unwrap();
    assert!(said.contains("there is no migration 0123456789-7") && said.contains(&first), "{said}");
    assert_eq!(annotation(&ignored, "approve"), "0123456789-7/switch");

    // Nor is one to a gate that this manifest does not have.
    ground.annotate(NAME, "approve", &format!("{first}/handover"));
    ground.until(NAME, "the gate is refused", |object| {
        let said = condition(object, "Accepted")["message"].as_str().unwrap_or_default();
        said.contains(&format!("migration {first} has no gate handover: by its manifest nothing waits there"))
    });
    ground.kubectl(&format!("annotate sb {NAME} sessionbackend.dev/approve-"));

    ground.annotate(NAME, "abort", &first);
    let aborted = ground.until_phase(NAME, "RolledBack");
    assert_eq!(annotation(&aborted, "abort"), Value::Null, "it was taken up");
    assert!(says(&aborted, "Migrated", "Aborted"), "{:#}", aborted["status"]);
    assert_eq!((ground.variables(&arn), ground.calls("UpdateService")), (before, 0));

    ground.annotate(NAME, "retry", &first);
    let (_, second) = at_gate(&ground, "switch", &first);
    ground.annotate(NAME, "approve", &format!("{second}/switch"));
    ground.kubectl(&format!("wait --for=condition=Ready --timeout=120s sb/{NAME}"));
    let moved = ground.object(NAME);
    assert_eq!((annotation(&moved, "approve"), annotation(&moved, "retry")), (Value::Null, Value::Null));
    assert_eq!(moved["status"]["summary"]["store"], "Upstash new");
    assert_eq!((ground.calls("CreateDatabase"), ground.calls("UpdateService")), (2, 1), "theirs and ours");
    let events = ground.events(NAME);
    assert_eq!(events.iter().filter(|(reason, _)| reason == "WordTakenUp").count(), 3, "{events:#?}");
    ground.keeps_its_secrets();
}

#[test]
fn an_object_that_is_abandoned_goes_and_touches_nothing() {
    let Some(ground) = Ground::up("abandoned") else { return };
    let old = ground.database("old");
    let arn = ground.service(SERVICE, Some(&old.url));
    let operator = Operator::alone(&ground);
    let asks = json!({ "migration": { "approval": { "switch": "Manual" } }, "deletionPolicy": "Delete" });
    ground.apply(&object(NAME, &created("new"), &asks));
    at_gate(&ground, "switch", "");
    let (variables, changes) = (ground.variables(&arn), ground.changes());
    ground.annotate(NAME, "abandon", "true");
    ground.kubectl(&format!("delete sb {NAME} --timeout=60s"));
    assert_eq!(ground.variables(&arn), variables);
    let now = ground.changes();
    // The copier of the migration ends; until it does it keeps its own marks in the stores, and nothing in the clouds.
    assert_eq!(now, changes);
    assert!(ground.events(NAME).iter().any(|(reason, _)| reason == "Abandoned"), "{:?}", ground.events(NAME));
    assert_eq!(operator.metric("sessionbackend_phase", &[]), 0);
}

#[test]
fn the_second_object_that_wants_a_service_says_who_has_it_and_touches_nothing() {
    let Some(ground) = Ground::up("rivals") else { return };
    let database = ground.database("by-hand");
    let arn = ground.service(SERVICE, Some(&database.url));
    let _operator = Operator::alone(&ground);
    ground.apply(&object(NAME, &adopted(&database), &json!({})));
    ground.kubectl(&format!("wait --for=condition=Ready --timeout=120s sb/{NAME}"));
    let (variables, changes) = (ground.variables(&arn), ground.changes());

    ground.apply(&object("web-two", &created("other"), &json!({})));
    let second = ground.until_phase("web-two", "Blocked");
    let said = condition(&second, "Stalled");
    assert_eq!((said["status"].as_str(), said["reason"].as_str()), (Some("True"), Some("Claimed")), "{second:#}");
    let holder = format!("claimed by default/{}/{NAME}", ground.namespace);
    assert!(said["message"].as_str().unwrap().contains(&holder), "{said:#}");
    assert_eq!((ground.variables(&arn), ground.changes()), (variables, changes));
    let rows = ground.kubectl("get sb --no-headers");
    assert_eq!(rows.lines().filter(|row| row.contains(" Ready ")).count(), 1, "{rows}");

    // Once the first lets go, the second may have it.
    ground.kubectl(&format!("delete sb {NAME} --timeout=60s"));
    ground.annotate("web-two", "reconcile-at", "now");
    ground.kubectl("wait --for=condition=Ready --timeout=120s sb/web-two");
    assert_eq!(ground.object("web-two")["status"]["summary"]["store"], "Upstash other");
    ground.keeps_its_secrets();
}

#[test]
fn a_word_that_is_said_again_counts_again() {
    let Some(ground) = Ground::up("again") else { return };
    let old = ground.database("old");
    ground.service(SERVICE, Some(&old.url));
    let _operator = Operator::alone(&ground);
    let fails = json!({ "deployment": "rollback", "name": SERVICE });
    ground.sandbox.must(&["fault", "add", &fails.to_string()]);
    ground.apply(&object(NAME, &created("new"), &json!({ "migration": { "onFailure": "Hold" } })));
    let held = ground.until_phase(NAME, "Held");
    let id = held["status"]["migration"]["id"].as_str().unwrap();
    for time in 1..=2 {
        let calls = ground.calls("UpdateService");
        ground.annotate(NAME, "retry", id);
        super::ground::until(&format!("retry {time} calls again"), || match ground.calls("UpdateService") {
            now if now > calls => Ok(()),
            _ => Err(format!("{:#}", ground.object(NAME)["status"])),
        });
        ground.until(NAME, "it holds again, and the word is taken off", |object| {
            object["status"]["phase"] == "Held" && annotation(object, "retry").is_null()
        });
    }
}
