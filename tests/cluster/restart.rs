//! The operator is killed while a migration bakes and starts again with something in its way: the stores stay in step.

use nix::sys::signal::Signal;
use serde_json::json;

use super::ground::{Ground, NAME, SERVICE, created, object, until};
use super::operator::Operator;
use super::told::{condition, says};

/// Writes a key into one store, and waits until the other one has it.
fn is_carried(ground: &Ground, from: &str, to: &str, key: &str) {
    ground.ask(from, &["SET", key, "logged-in", "EX", "7200"]);
    until("the other store has it", || match ground.ask(to, &["KEYS", key]) {
        found if found.contains(key) => Ok(()),
        _ => Err(format!("{key} in {to}: {:#}", ground.object(NAME)["status"])),
    });
    assert!(ground.ask(to, &["GET", key]).contains("logged-in"));
}

#[test]
fn an_operator_that_starts_again_without_the_secret_of_the_spec_keeps_both_stores_in_step() {
    let Some(ground) = Ground::up("lost-key") else { return };
    let old = ground.database("old");
    ground.service(SERVICE, Some(&old.url));
    let mut operator = Operator::alone(&ground);
    let mut manifest = object(NAME, &created("new"), &json!({ "migration": { "bakeTime": "1h" } }));
    ground.apply(&manifest);
    ground.until_phase(NAME, "Baking");
    is_carried(&ground, "new", "old", "sess:before");

    ground.kubectl("delete secret upstash-api");
    operator.signal(Signal::SIGKILL);
    operator.ended();
    let operator = Operator::alone(&ground);
    let stalled = ground.until(NAME, "it says what is missing", |object| says(object, "Stalled", "SecretNotFound"));
    let said = condition(&stalled, "Stalled")["message"].as_str().unwrap();
    for words in ["Secret", "/upstash-api is not found", "both stores are kept in step", "create it with the keys"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(stalled["status"]["phase"], "Baking");
    is_carried(&ground, "new", "old", "sess:after");
    is_carried(&ground, "old", "new", "sess:late");

    // Once it is there again the migration goes on to its end.
    ground.apply(&ground.upstash_secret());
    manifest["spec"]["migration"]["bakeTime"] = json!("1s");
    ground.apply(&manifest);
    ground.kubectl(&format!("wait --for=condition=Ready --timeout=120s sb/{NAME}"));
    assert_eq!((ground.calls("CreateDatabase"), ground.calls("UpdateService")), (2, 1), "theirs and ours");
    drop(operator);
    ground.keeps_its_secrets();
}

#[test]
fn an_operator_that_starts_again_keeps_the_stores_of_a_paused_object_in_step_and_changes_nothing() {
    let Some(ground) = Ground::up("paused-again") else { return };
    let old = ground.database("old");
    ground.service(SERVICE, Some(&old.url));
    let mut operator = Operator::alone(&ground);
    ground.apply(&object(NAME, &created("new"), &json!({ "migration": { "bakeTime": "1h" } })));
    ground.until_phase(NAME, "Baking");
    ground.annotate(NAME, "paused", "true");
    ground.until_phase(NAME, "Paused");
    let changes = ground.changes();

    operator.signal(Signal::SIGKILL);
    operator.ended();
    let operator = Operator::alone(&ground);
    is_carried(&ground, "new", "old", "sess:after");
    is_carried(&ground, "old", "new", "sess:late");
    assert_eq!(ground.object(NAME)["status"]["phase"], "Paused");
    assert_eq!(ground.changes(), changes, "no cloud call that may change something");

    ground.kubectl(&format!("annotate sb {NAME} sessionbackend.dev/paused-"));
    ground.until_phase(NAME, "Baking");
    drop(operator);
}

#[test]
fn an_operator_that_starts_again_and_finds_no_journal_of_an_open_migration_asks_a_person() {
    let Some(ground) = Ground::up("no-journal") else { return };
    let old = ground.database("old");
    let arn = ground.service(SERVICE, Some(&old.url));
    let mut operator = Operator::alone(&ground);
    ground.apply(&object(NAME, &created("new"), &json!({ "migration": { "bakeTime": "1h" } })));
    ground.until_phase(NAME, "Baking");
    operator.signal(Signal::SIGKILL);
    operator.ended();
    let journal = ground.secrets().into_iter().find(|name| name.ends_with("/journal")).unwrap();
    let gone = json!({ "SecretId": journal, "ForceDeleteWithoutRecovery": true });
    ground.sandbox.call("secretsmanager", "DeleteSecret", &gone);
    let (variables, changes) = (ground.variables(&arn), ground.changes());

    let _operator = Operator::alone(&ground);
    let lost = ground.until(NAME, "it says so", |object| says(object, "Stalled", "JournalLost"));
    let said = condition(&lost, "Stalled")["message"].as_str().unwrap();
    assert!(said.contains(&journal) && said.contains("sessionbackend.dev/abandon"), "{said}");
    assert!(lost["status"]["migration"]["id"].is_string(), "what was known of it stays: {:#}", lost["status"]);
    assert_eq!((ground.variables(&arn), ground.changes()), (variables, changes));

    ground.annotate(NAME, "abandon", "true");
    ground.kubectl(&format!("delete sb {NAME} --timeout=60s"));
}
