//! The spec is edited, the object paused, deleted and made anew in the middle of a migration: what becomes of it, as the
//! status shows it.

use serde_json::{Value, json};

use super::ground::{Database, Ground, NAME, SERVICE, adopted, created, object};
use super::operator::Operator;
use super::told::{annotation, at_gate, condition, message, ready_on, retained, says, stalled};

/// A service that was wired by hand to a store where people are logged in, and what a person has asked for.
struct Waiting {
    ground: Ground,
    old: Database,
    arn: String,
    /// The migration that waits at the gate `switch`.
    id: String,
    _operator: Operator,
}

const SESSION: &str = "sess:early";

impl Waiting {
    fn begin(of: &str, differs: &Value) -> Option<Self> {
        let ground = Ground::up(of)?;
        let old = ground.database("old");
        ground.ask(&old.id, &["SET", SESSION, "early", "EX", "7200"]);
        let arn = ground.service(SERVICE, Some(&old.url));
        let operator = Operator::alone(&ground);
        ground.apply(&asks(&created("new"), differs));
        let (_, id) = at_gate(&ground, "switch", "");
        Some(Self { ground, old, arn, id, _operator: operator })
    }

    /// How often the service was changed.
    fn switched(&self) -> usize {
        self.ground.calls("UpdateService")
    }
}

fn asks(store: &Value, differs: &Value) -> Value {
    let mut asks = json!({ "migration": { "approval": { "switch": "Manual" } } });
    super::merge(&mut asks, differs);
    object(NAME, store, &asks)
}

/// The database of a name, as its maker knows it.
fn database(ground: &Ground, name: &str) -> Option<String> {
    let databases = ground.sandbox.call("upstash", "ListDatabases", &json!({}));
    let found = databases.as_array().unwrap().iter().find(|database| database["database_name"] == name).cloned();
    found.map(|database| database["database_id"].as_str().unwrap().to_owned())
}

#[test]
fn before_the_switch_the_spec_may_change_its_mind() {
    let Some(waiting) = Waiting::begin("edited", &json!({})) else { return };
    let (ground, before) = (&waiting.ground, waiting.ground.variables(&waiting.arn));

    // Back to the store in use: nothing was switched, and what was made is not forgotten.
    ground.apply(&asks(&adopted(&waiting.old), &json!({})));
    let back = ready_on(ground, NAME, "Upstash old");
    let migration = &back["status"]["migration"];
    assert_eq!((&migration["outcome"], &migration["reason"]), (&json!("Abandoned"), &json!("SpecReverted")));
    assert!(says(&back, "Migrated", "Aborted"), "{:#}", back["status"]);
    let new = database(ground, "new").unwrap();
    assert_eq!(retained(&back), [("upstash-database".to_owned(), new.clone())]);

    // There again: a migration of its own, to the same database.
    ground.apply(&asks(&created("new"), &json!({})));
    let (again, second) = at_gate(ground, "switch", &waiting.id);
    assert_eq!((&again["status"]["migration"]["to"], retained(&again)), (&json!("Upstash new"), vec![]));

    // To a third one in the middle of it: the second is given up, and the third waits at its own gate.
    ground.apply(&asks(&created("third"), &json!({})));
    let (third, id) = at_gate(ground, "switch", &second);
    assert_eq!(third["status"]["migration"]["to"], "Upstash third");
    assert_eq!(retained(&third), [("upstash-database".to_owned(), new.clone())]);
    assert_eq!((ground.variables(&waiting.arn), waiting.switched()), (before, 0));

    ground.annotate(NAME, "approve", &format!("{id}/switch"));
    let moved = ready_on(ground, NAME, "Upstash third");
    assert_eq!((waiting.switched(), ground.calls("CreateDatabase")), (1, 3));
    let mut kept = vec![waiting.old.id.clone(), new];
    kept.sort();
    let mut told: Vec<_> = retained(&moved).into_iter().map(|(_, id)| id).collect();
    told.sort();
    assert_eq!(told, kept, "{:#}", moved["status"]);
    let arrived = database(ground, "third").unwrap();
    assert!(ground.ask(&arrived, &["GET", SESSION]).contains("early"));
    ground.keeps_its_secrets();
}

#[test]
fn after_the_switch_a_third_store_waits_and_the_former_one_is_the_way_back() {
    let Some(waiting) = Waiting::begin("edited-late", &json!({ "migration": { "bakeTime": "1h" } })) else { return };
    let ground = &waiting.ground;
    let before = ground.variables(&waiting.arn);
    ground.annotate(NAME, "approve", &format!("{}/switch", waiting.id));
    ground.until_phase(NAME, "Baking");

    let late = json!({ "migration": { "bakeTime": "1h" } });
    ground.apply(&asks(&created("third"), &late));
    let told = ground.until(NAME, "the third is noted", |object| {
        object["status"]["notes"].as_array().is_some_and(|notes| {
            notes.iter().any(|note| note.as_str().unwrap().contains("this migration goes to Upstash"))
        })
    });
    assert_eq!((&told["status"]["phase"], database(ground, "third")), (&json!("Baking"), None), "{told:#}");

    ground.apply(&asks(&adopted(&waiting.old), &late));
    let back = ready_on(ground, NAME, "Upstash old");
    let migration = &back["status"]["migration"];
    assert_eq!((&migration["outcome"], &migration["reason"]), (&json!("RolledBack"), &json!("SpecReverted")));
    assert_eq!((ground.variables(&waiting.arn), waiting.switched()), (before, 2));
    ground.keeps_its_secrets();
}

#[test]
fn a_migration_that_is_paused_keeps_the_stores_in_step_and_goes_on_where_it_was() {
    let Some(waiting) = Waiting::begin("paused", &json!({})) else { return };
    let (ground, id) = (&waiting.ground, &waiting.id);
    ground.annotate(NAME, "paused", "true");
    ground.until_phase(NAME, "Paused");
    let changes = ground.changes();
    ground.annotate(NAME, "approve", &format!("{id}/switch"));
    let paused = ground.until(NAME, "the word waits", |object| says(object, "Accepted", "AnnotationIgnored"));
    assert!(message(&paused, "Accepted").contains("is taken up when the object is not paused any more"), "{paused:#}");
    assert_eq!(condition(&paused, "Stalled")["status"], "False", "who pauses an object means it");
    // People log in meanwhile.
    ground.ask(&waiting.old.id, &["SET", "sess:late", "late", "EX", "7200"]);
    let new = database(ground, "new").unwrap();
    super::ground::until("the new store follows", || {
        let found = ground.ask(&new, &["GET", "sess:late"]);
        if found.contains("late") { Ok(()) } else { Err(found) }
    });
    assert_eq!(ground.changes(), changes, "paused");

    ground.kubectl(&format!("annotate sb {NAME} sessionbackend.dev/paused-"));
    let moved = ready_on(ground, NAME, "Upstash new");
    assert_eq!((&moved["status"]["migration"]["id"], annotation(&moved, "approve")), (&json!(id), Value::Null));
    assert_eq!(waiting.switched(), 1);
    ground.keeps_its_secrets();
}

#[test]
fn an_object_that_is_deleted_before_the_switch_comes_back_with_its_journal_or_anew_without() {
    let Some(waiting) = Waiting::begin("deleted", &json!({})) else { return };
    let (ground, before) = (&waiting.ground, waiting.ground.variables(&waiting.arn));
    let traces = |store: &str| {
        let keys = ground.ask(store, &["KEYS", "*"]);
        keys.lines().filter(|key| !key.is_empty() && !key.contains(SESSION)).count()
    };
    let new = database(ground, "new").unwrap();
    assert!(traces(&waiting.old.id) + traces(&new) > 0, "a copier is at work");

    // Retain: our traces go, what was made stays and is named.
    ground.kubectl(&format!("delete sb {NAME} --timeout=60s"));
    let released = ground.events(NAME).into_iter().find(|(reason, _)| reason == "Released");
    assert!(released.as_ref().is_some_and(|(_, note)| note.contains("upstash-database new")), "{released:?}");
    assert_eq!((traces(&waiting.old.id), traces(&new), database(ground, "new")), (0, 0, Some(new.clone())));
    let ours = || ground.secrets().into_iter().filter(|name| name.contains(&format!("/{NAME}/"))).collect::<Vec<_>>();
    let [journal] = &ours()[..] else { panic!("{:?}", ours()) };
    assert!(journal.ends_with("/journal"), "{journal}");

    // The same name again: it goes on from the journal, with the database that was made and another migration.
    ground.apply(&asks(&created("new"), &json!({ "deletionPolicy": "Delete" })));
    let (_, second) = at_gate(ground, "switch", &waiting.id);
    assert_eq!((database(ground, "new"), ground.calls("CreateDatabase")), (Some(new), 2), "theirs and ours");
    assert_eq!(second.split('-').next(), waiting.id.split('-').next());

    // Delete: nothing is left, but that the journal can be had back for some days.
    let delete = || {
        ground.kubectl(&format!("delete sb {NAME} --timeout=60s"));
        assert_eq!((database(ground, "new"), traces(&waiting.old.id), ours()), (None, 0, vec![]));
    };
    delete();
    ground.apply(&asks(&created("new"), &json!({ "deletionPolicy": "Delete" })));
    let (_, third) = at_gate(ground, "switch", "");
    assert_eq!((third.rsplit('-').next(), ground.calls("CreateDatabase")), (Some("3"), 3));

    // Without it nothing of before is remembered.
    delete();
    let gone = json!({ "SecretId": journal, "ForceDeleteWithoutRecovery": true });
    ground.sandbox.call("secretsmanager", "DeleteSecret", &gone);
    ground.apply(&asks(&created("new"), &json!({})));
    let (_, anew) = at_gate(ground, "switch", "");
    assert_eq!((&anew, ground.calls("CreateDatabase")), (&waiting.id, 4));
    assert_eq!((ground.variables(&waiting.arn), waiting.switched()), (before, 0));
    ground.keeps_its_secrets();
}

#[test]
fn an_object_that_is_deleted_after_the_switch_touches_neither_store_and_says_which_one_serves() {
    let late = json!({ "migration": { "bakeTime": "1h" }, "deletionPolicy": "Delete" });
    let Some(waiting) = Waiting::begin("frozen-deletion", &late) else { return };
    let ground = &waiting.ground;
    ground.annotate(NAME, "approve", &format!("{}/switch", waiting.id));
    ground.until_phase(NAME, "Baking");
    let (variables, changes) = (ground.variables(&waiting.arn), ground.changes());

    ground.kubectl(&format!("delete sb {NAME} --wait=false"));
    let frozen = stalled(ground, NAME, "DeletionFrozen");
    let new = database(ground, "new").unwrap();
    let said = message(&frozen, "Stalled");
    assert!(said.contains(&format!("{SERVICE} is on Upstash {new}")) && said.contains("abandon"), "{said}");
    assert_eq!(frozen["status"]["phase"], "Deleting");
    // Both stores are in step as long as it is not decided.
    ground.ask(&new, &["SET", "sess:late", "late", "EX", "7200"]);
    super::ground::until("the former store follows", || {
        let found = ground.ask(&waiting.old.id, &["GET", "sess:late"]);
        if found.contains("late") { Ok(()) } else { Err(found) }
    });
    assert_eq!((ground.variables(&waiting.arn), ground.changes()), (variables.clone(), changes.clone()));

    ground.annotate(NAME, "abandon", "true");
    ground.kubectl(&format!("wait --for=delete sb/{NAME} --timeout=60s"));
    assert_eq!((ground.variables(&waiting.arn), ground.changes()), (variables, changes));
    ground.keeps_its_secrets();
}
