//! The operator is killed while a migration bakes and starts again with something in its way: the stores stay in step.

use control_plane::ControlPlane;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::definition::loose;
use super::ground::{Ground, NAME, SERVICE, created, object, until};
use super::operator::Operator;
use super::plane::define;
use super::told::{condition, message, says};

/// Writes a key into one store, and waits until the other one has it.
fn is_carried(ground: &Ground, from: &str, to: &str, key: &str) {
    ground.ask(from, &["SET", key, "logged-in", "EX", "7200"]);
    until("the other store has it", || match ground.ask(to, &["KEYS", key]) {
        found if found.contains(key) => Ok(()),
        _ => Err(format!("{key} in {to}: {:#}", ground.object(NAME)["status"])),
    });
    assert!(ground.ask(to, &["GET", key]).contains("logged-in"));
}

/// A service on its way from one store to the other, in a bake that is long enough for everything: its ARN, the object, and the
/// operator.
fn in_the_bake(ground: &Ground) -> (String, Value, Operator) {
    let old = ground.database("old");
    let arn = ground.service(SERVICE, Some(&old.url));
    let operator = Operator::alone(ground);
    let manifest = object(NAME, &created("new"), &json!({ "migration": { "bakeTime": "1h" } }));
    ground.apply(&manifest);
    ground.until_phase(NAME, "Baking");
    (arn, manifest, operator)
}

fn kill(mut operator: Operator) {
    operator.signal(Signal::SIGKILL);
    operator.ended();
}

#[test]
fn an_operator_that_starts_again_without_the_secret_of_the_spec_keeps_both_stores_in_step() {
    let Some(ground) = Ground::up("lost-key") else { return };
    let (_, mut manifest, operator) = in_the_bake(&ground);
    is_carried(&ground, "new", "old", "sess:before");

    ground.kubectl("delete secret upstash-api");
    kill(operator);
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
    let (_, _, operator) = in_the_bake(&ground);
    ground.annotate(NAME, "paused", "true");
    ground.until_phase(NAME, "Paused");
    let changes = ground.changes();

    kill(operator);
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
    let (arn, _, operator) = in_the_bake(&ground);
    kill(operator);
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

#[test]
fn an_operator_that_starts_again_keeps_the_stores_of_an_object_in_step_that_is_paused_in_its_deletion() {
    let Some(ground) = Ground::up("paused-deletion") else { return };
    let (_, _, operator) = in_the_bake(&ground);
    ground.annotate(NAME, "paused", "true");
    ground.until_phase(NAME, "Paused");
    ground.kubectl(&format!("delete sb {NAME} --wait=false"));
    let changes = ground.changes();

    kill(operator);
    let operator = Operator::alone(&ground);
    is_carried(&ground, "new", "old", "sess:after");
    is_carried(&ground, "old", "new", "sess:late");
    let paused = ground.object(NAME);
    assert_eq!((&paused["status"]["phase"], says(&paused, "Ready", "Paused")), (&json!("Paused"), true));
    assert_eq!(ground.changes(), changes, "no cloud call that may change something");

    // Its deletion goes on where it was, which is in the middle of a migration.
    ground.kubectl(&format!("annotate sb {NAME} sessionbackend.dev/paused-"));
    ground.until(NAME, "it is deleted", |object| says(object, "Stalled", "DeletionFrozen"));
    is_carried(&ground, "new", "old", "sess:frozen");
    ground.annotate(NAME, "abandon", "true");
    ground.kubectl(&format!("wait --for=delete --timeout=60s sb/{NAME}"));
    // Whoever copies next need not wait: the heartbeat of a copier that let go is negative.
    let beat = "return redis.call('GET', redis.call('KEYS', '*:heartbeat')[1])";
    until("its copier has let go", || match ground.ask("new", &["EVAL", beat, "0"]) {
        beat if beat.contains('-') => Ok(()),
        beat => Err(beat),
    });
    drop(operator);
}

#[test]
fn an_operator_that_starts_again_and_does_not_understand_the_spec_keeps_the_stores_in_step_and_says_what_is_wrong() {
    if super::plane::plane().is_none() {
        return;
    }
    // Its own, with a definition that takes any spec: so stands an object that was stored under another one.
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().unwrap()));
    define(plane, &loose());
    let ground = Ground::on(plane, "not-understood");
    let (_, manifest, mut operator) = in_the_bake(&ground);
    let mut again = |key: &str| {
        operator.signal(Signal::SIGKILL);
        operator.ended();
        operator = Operator::alone(&ground);
        is_carried(&ground, "new", "old", &format!("{key}:new"));
        is_carried(&ground, "old", "new", &format!("{key}:old"));
    };
    let changes = ground.changes();
    for (mistake, reason, words) in [
        (json!({ "env": { "writer": "ConfigFile" } }), "InvalidSpec", "spec.env.writer: is ConfigFile"),
        (json!({ "services": "web-app" }), "Undecodable", "spec.services: has the wrong type"),
    ] {
        let mut mistaken = manifest.clone();
        super::merge(&mut mistaken["spec"], &mistake);
        ground.apply(&mistaken);
        let is_told = |object: &Value| {
            let said = message(object, "Stalled");
            says(object, "Stalled", reason) && said.contains(words) && said.contains("both stores are kept in step")
        };
        ground.until(NAME, "it says what is wrong", is_told);
        again(reason);
        ground.until(NAME, "it says so still", is_told);
    }

    // A copier that fails of something is started again, and nobody calls that in step.
    ground.sandbox.must(&["fault", "deny", "new", "scan"]);
    let visits = || operator.metric("sessionbackend_reconcile_total", &["stopped"]);
    let mut looks = 0;
    let failing = until("it says that its copier fails", || {
        looks += 1;
        let before = visits();
        ground.annotate(NAME, "reconcile-at", &format!("failing-{looks}"));
        until("it is looked at", || if visits() > before { Ok(()) } else { Err(String::new()) });
        let object = ground.object(NAME);
        let said = message(&object, "Stalled");
        let fails = said.contains("its stores are not in step, since its copier fails: AccessDenied");
        if fails { Ok(object) } else { Err(said.to_owned()) }
    });
    assert!(!message(&failing, "Stalled").contains("kept in step"), "{:#}", failing["status"]);
    ground.sandbox.must(&["fault", "allow", "new", "scan"]);
    let in_step = |object: &Value| message(object, "Stalled").contains("both stores are kept in step");
    ground.until(NAME, "it is in step again", in_step);

    // A copier that runs does not ask the journal, and nobody says that it does.
    let fails = json!({ "service": "secretsmanager", "operation": "GetSecretValue", "call": "denied" });
    ground.sandbox.must(&["fault", "add", &fails.to_string()]);
    let before = visits();
    ground.annotate(NAME, "reconcile-at", "unread");
    until("it is looked at", || if visits() > before { Ok(()) } else { Err(String::new()) });
    is_carried(&ground, "new", "old", "unread:new");
    let unread = ground.object(NAME);
    assert!(message(&unread, "Stalled").contains("both stores are kept in step"), "{:#}", unread["status"]);

    // Mended while nobody could start it again, it goes on: whoever is connected takes it over.
    ground.apply(&manifest);
    ground.until(NAME, "it is understood", |object| says(object, "Ready", "AccessDenied"));
    is_carried(&ground, "new", "old", "mended:new");
    is_carried(&ground, "old", "new", "mended:old");

    // Where it does not even say which cloud it lives in, nobody can help, and that is told.
    let mut nowhere = manifest.clone();
    nowhere["spec"]["aws"] = json!({ "region": "us-east-1", "roleArn": "nobody" });
    nowhere["spec"]["services"] = json!("web-app");
    ground.apply(&nowhere);
    ground.until(NAME, "the copier runs on", |object| message(object, "Stalled").contains("spec.aws.roleArn"));
    is_carried(&ground, "new", "old", "nowhere:new");
    ground.sandbox.must(&["fault", "clear"]);
    operator.signal(Signal::SIGKILL);
    operator.ended();
    operator = Operator::alone(&ground);
    let alone = ground.until(NAME, "it says that nobody keeps them in step", |object| {
        message(object, "Stalled").contains("nobody keeps its stores in step until this is mended")
    });
    let id = alone["status"]["migration"]["id"].as_str().unwrap();
    assert!(message(&alone, "Stalled").contains(&format!("migration {id} from Upstash old to Upstash new is open")));
    let told = |what: &str| {
        let all = ground.events(NAME).into_iter();
        all.filter(|(reason, note)| reason == "NotInStep" && note.contains(what)).collect::<Vec<_>>()
    };
    assert!(matches!(&told("nobody keeps")[..], [(_, note)] if note.contains(id)), "{:?}", told(""));
    assert!(!told("since its copier fails").is_empty(), "{:?}", told(""));
    ground.annotate(NAME, "reconcile-at", "now");
    assert_eq!(ground.changes(), changes, "no cloud call that may change something");

    // Once the spec is mended the migration goes on, and to its end.
    let mut mended = manifest.clone();
    mended["spec"]["migration"]["bakeTime"] = json!("1s");
    ground.apply(&mended);
    ground.kubectl(&format!("wait --for=condition=Ready --timeout=120s sb/{NAME}"));
    assert_eq!((ground.calls("CreateDatabase"), ground.calls("UpdateService"), told("nobody keeps").len()), (2, 1, 1));
    drop(operator);
    ground.keeps_its_secrets();
    plane.stop_api_server();
}
