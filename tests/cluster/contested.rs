//! Another tool that writes our variables again and again: after the second time nobody writes any more until a person has
//! said who is right.

use serde_json::json;

use super::ground::{Ground, NAME, SERVICE, adopted, created, object};
use super::operator::Operator;
use super::told::{message, ready_on, stalled};

#[test]
fn whoever_puts_our_variables_back_twice_is_named_and_no_longer_fought() {
    let Some(ground) = Ground::up("contested") else { return };
    let old = ground.database("old");
    ground.ask(&old.id, &["SET", "sess:early", "early", "EX", "7200"]);
    let arn = ground.service(SERVICE, Some(&old.url));
    let operator = Operator::alone(&ground);
    ground.apply(&object(NAME, &created("new"), &json!({})));
    ready_on(&ground, NAME, "Upstash new");
    let ours = || ground.variables(&arn)["RuntimeEnvironmentSecrets"]["REDIS_URL"].is_string();
    let put_back = || {
        ground.tell(&arn, |told| {
            told["RuntimeEnvironmentSecrets"] = json!({});
            told["RuntimeEnvironmentVariables"]["REDIS_URL"] = json!(old.url);
        });
    };
    let look = |at: &str| ground.annotate(NAME, "reconcile-at", at);
    let migrated = |nth: usize| {
        ground.until(NAME, "it is moved again", |object| {
            let id = object["status"]["migration"]["id"].as_str().unwrap_or_default();
            id.ends_with(&format!("-{nth}")) && object["status"]["phase"] == "Ready"
        });
        assert!(ours());
    };

    // Once may be an accident.
    put_back();
    look("first");
    migrated(2);
    put_back();
    look("second");
    let contested = stalled(&ground, NAME, "Contested");
    let operations = ground.sandbox.call("apprunner", "ListOperations", &json!({ "ServiceArn": arn }));
    let theirs = operations["OperationSummaryList"][0]["Id"].as_str().unwrap();
    let said = message(&contested, "Stalled");
    for part in [
        &format!("operation {theirs} on {SERVICE} of 20"),
        "is not ours",
        "ignore_changes = [",
        "image_configuration[0].runtime_environment_secrets[\"REDIS_URL\"]",
        "image_configuration[0].runtime_environment_variables[\"REDIS_URL\"]",
        "`retry`",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_eq!(contested["status"]["summary"]["store"], "Upstash old", "it says what serves");

    // No more writes.
    let changes = ground.changes();
    for force in 0..3 {
        // The first may have been under way before.
        let turned = || operator.metric("sessionbackend_reconcile_total", &["turned"]);
        let before = turned();
        for again in ["a", "b"] {
            let seen = turned();
            look(&format!("{force}{again}"));
            super::ground::until("it is looked at", || if turned() > seen { Ok(()) } else { Err(String::new()) });
        }
        assert!(turned() >= before + 2);
    }
    assert_eq!(ground.changes(), changes);

    // The word by which it is tried again, once the other one leaves it alone.
    let id = contested["status"]["migration"]["id"].as_str().unwrap();
    ground.annotate(NAME, "retry", id);
    migrated(3);

    // Or the other one is right.
    put_back();
    ground.apply(&object(NAME, &adopted(&old), &json!({})));
    ready_on(&ground, NAME, "Upstash old");
    assert!(!ours());
    ground.keeps_its_secrets();
}
