//! What somebody changes behind our back, with the cloud's own calls: noticed at the next look of an object at rest, put right
//! where that is safe, else said with what to do.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ground::{Database, Ground, NAME, SERVICE, adopted, created, in_vpc, object, through_vpc};
use super::operator::Operator;
use super::starter::network;
use super::told::{condition, message, ready_on, says};

/// The shortest that is admitted.
const INTERVAL: Duration = Duration::from_secs(10);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(30);

fn often(differs: &Value) -> Value {
    let mut often = json!({ "checks": { "interval": "10s" } });
    super::merge(&mut often, differs);
    often
}

/// The object once it says something of what was done, which must not take longer than an interval.
fn noticed(ground: &Ground, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let done = Instant::now();
    let object = ground.until(name, what, is);
    assert!(done.elapsed() < INTERVAL + SLACK, "{what}: {:?}", done.elapsed());
    object
}

/// A service of this name, and the object of the same name about it, which is Ready on a database somebody made.
fn at_rest(ground: &Ground, name: &str) -> (String, Database) {
    let database = ground.database(name);
    let arn = ground.service(name, None);
    ground.apply(&object(name, &adopted(&database), &often(&json!({ "services": [{ "name": name }] }))));
    (arn, database)
}

#[test]
fn a_variable_and_a_secret_that_are_taken_away_are_put_back_and_a_store_is_not_made_anew_empty() {
    let Some(ground) = Ground::up("drift") else { return };
    let _operator = Operator::alone(&ground);
    let [variable, secret, store] = ["variable", "secret", "store"].map(|name| (name, at_rest(&ground, name)));
    for (name, _) in [&variable, &secret, &store] {
        ready_on(&ground, name, &format!("Upstash {name}"));
    }
    let told = |arn: &str| ground.variables(arn)["RuntimeEnvironmentSecrets"]["REDIS_URL"].clone();
    let (first, lost) = (told(&variable.1.0), told(&secret.1.0));

    // Each of them is touched by another hand.
    ground.tell(&variable.1.0, |told| told["RuntimeEnvironmentSecrets"] = json!({}));
    let gone = json!({ "SecretId": lost, "ForceDeleteWithoutRecovery": true });
    ground.sandbox.call("secretsmanager", "DeleteSecret", &gone);
    ground.sandbox.call("upstash", "DeleteDatabase", &json!({ "id": store.1.1.id }));

    // Nobody can bring back a store with what was in it.
    let is_gone = |object: &Value| says(object, "Stalled", "StoreGone");
    let stopped = noticed(&ground, store.0, "the store is missed", is_gone);
    assert_eq!((&stopped["status"]["phase"], says(&stopped, "Ready", "StoreGone")), (&json!("Blocked"), true));
    assert!(message(&stopped, "Stalled").contains("somebody deleted it. "), "{stopped:#}");
    assert!(ground.events(store.0).iter().any(|(reason, _)| reason == "Blocked"), "{:?}", ground.events(store.0));

    for (name, (arn, _)) in [&variable, &secret] {
        let again = ground.until(name, "it is put right", |object| {
            let migration = &object["status"]["migration"];
            migration["id"].as_str().is_some_and(|id| id.ends_with("-2")) && says(object, "Ready", "AsDesired")
        });
        assert_eq!(again["status"]["summary"]["store"], format!("Upstash {name}"));
        let now = told(arn);
        assert!(now.is_string() && now != first && now != lost, "{name}: {now}");
        assert_eq!(ground.variables(arn)["RuntimeEnvironmentVariables"], json!({ "OWN": "kept" }));
        assert_eq!(ground.secrets().iter().filter(|secret| secret.contains(&format!("/{name}/epochs/"))).count(), 1);
    }
    let said = ground.events(secret.0).into_iter().find(|(reason, note)| reason == "Note" && note.contains("deleted"));
    assert!(said.is_some(), "{:?}", ground.events(secret.0));

    // The way out where a store is gone: another one, begun without what was in the former.
    let mut other = object(store.0, &created("other"), &often(&json!({ "services": [{ "name": store.0 }] })));
    ground.apply(&other);
    ground.until(store.0, "it says how to go on", |object| {
        says(object, "Stalled", "StoreGone")
            && message(object, "Stalled").contains("spec.migration.from: { disabled: {} }")
    });
    other["spec"]["migration"]["from"] = json!({ "disabled": {} });
    ground.apply(&other);
    ready_on(&ground, store.0, "Upstash other");
    ground.keeps_its_secrets();
}

#[test]
fn a_variable_that_is_led_elsewhere_is_not_followed() {
    let Some(ground) = Ground::up("led-astray") else { return };
    let _operator = Operator::alone(&ground);
    let (arn, _) = at_rest(&ground, SERVICE);
    ready_on(&ground, SERVICE, &format!("Upstash {SERVICE}"));
    let changes = ground.calls("UpdateService");
    ground.tell(&arn, |told| {
        told["RuntimeEnvironmentSecrets"] = json!({});
        told["RuntimeEnvironmentVariables"]["REDIS_URL"] = json!("redis://nowhere.example.com:6379/0");
    });
    // Sessions may be there: it is not left without a word, and not believed to be empty.
    let stopped = noticed(&ground, SERVICE, "it is seen", |object| condition(object, "Stalled")["status"] == "True");
    assert!(message(&stopped, "Stalled").contains("nowhere.example.com"), "{:#}", stopped["status"]);
    assert_eq!(ground.calls("UpdateService"), changes + 1, "theirs");

    let own = ground.variables(&arn);
    assert_eq!(own["RuntimeEnvironmentVariables"]["OWN"], "kept");
    let mut anew = object(
        SERVICE,
        &json!({}),
        &often(&json!({ "migration": { "from": { "disabled": {} } }, "env": { "takeover": "Always" } })),
    );
    anew["spec"]["store"] = ground.object(SERVICE)["spec"]["store"].clone();
    ground.apply(&anew);
    ready_on(&ground, SERVICE, &format!("Upstash {SERVICE}"));
    assert!(ground.variables(&arn)["RuntimeEnvironmentSecrets"]["REDIS_URL"].is_string());
    ground.keeps_its_secrets();
}

#[test]
fn a_connector_that_is_detached_is_attached_again_where_the_spec_asks_for_it_else_it_is_said() {
    let Some(ground) = Ground::up("detached") else { return };
    let network = network(&ground.sandbox);
    let arn = ground.service(SERVICE, None);
    let _operator = Operator::alone(&ground);
    let asks = often(&through_vpc(&network));
    ground.apply(&object(NAME, &in_vpc(&network), &asks));
    let egress = || {
        let service = super::starter::running(&ground.sandbox, &arn);
        service["Service"]["NetworkConfiguration"]["EgressConfiguration"].clone()
    };
    let is_ready = |object: &Value| {
        says(object, "Ready", "AsDesired")
            && condition(object, "Ready")["observedGeneration"] == object["metadata"]["generation"]
    };
    ground.until(NAME, "it is Ready", is_ready);
    let through = egress();
    assert_eq!(through["EgressType"], "VPC");
    let detach = || {
        let public = json!({ "NetworkConfiguration": { "EgressConfiguration": { "EgressType": "DEFAULT" } } });
        ground.update(&arn, &public);
    };

    detach();
    noticed(&ground, NAME, "it is missed", |object| !is_ready(object));
    ground.until(NAME, "it is put right", is_ready);
    assert_eq!(egress(), through);
    assert_eq!((ground.calls("CreateVpcConnector"), ground.calls("CreateReplicationGroup")), (1, 1));

    // Where the egress is to stay as it is, it stays, and Ready does not.
    ground.apply(&object(NAME, &in_vpc(&network), &often(&json!({}))));
    ground.until(NAME, "it keeps what it has", is_ready);
    detach();
    let stopped = noticed(&ground, NAME, "it is said", |object| says(object, "Stalled", "Unreachable"));
    assert_eq!(stopped["status"]["phase"], "Blocked");
    let said = message(&stopped, "Stalled");
    assert!(said.contains(&network.vpc) && said.contains("egress.type: VPC"), "{said}");
    assert_eq!(egress()["EgressType"], "DEFAULT");
    ground.apply(&object(NAME, &in_vpc(&network), &asks));
    ground.until(NAME, "it is as the spec says", is_ready);
    assert_eq!(egress(), through);
    ground.keeps_its_secrets();
}
