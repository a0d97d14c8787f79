//! One object's life: made, Ready, at rest, let go.

use serde_json::{Value, json};

use super::ground::{Ground, NAME, SERVICE, adopted, created, object};
use super::operator::Operator;

/// How often an object at rest is forced to be reconciled.
const FORCED: usize = 100;

#[test]
fn a_service_gets_its_store_and_kubectl_shows_it() {
    let Some(ground) = Ground::up("made") else { return };
    let arn = ground.service(SERVICE, None);
    let operator = Operator::alone(&ground);
    ground.apply(&object(NAME, &created("web-sessions"), &json!({})));
    ground.kubectl(&format!("wait --for=condition=Ready --timeout=120s sb/{NAME}"));

    // It is true: the service is told, by reference, and what was its own is as it was.
    let variables = ground.variables(&arn);
    assert_eq!(variables["RuntimeEnvironmentVariables"], json!({ "OWN": "kept" }));
    assert!(variables["RuntimeEnvironmentSecrets"]["REDIS_URL"].is_string(), "{variables:#}");
    assert_eq!((ground.calls("CreateDatabase"), ground.calls("UpdateService")), (1, 1));

    let table = ground.kubectl(&format!("get sb {NAME}"));
    let [head, row] = table.lines().collect::<Vec<_>>()[..] else { panic!("{table}") };
    assert_eq!(head.split_whitespace().collect::<Vec<_>>(), ["NAME", "STORE", "PHASE", "READY", "CHECKS", "AGE"]);
    let row: Vec<_> = row.split_whitespace().collect();
    assert_eq!(row[..6], ["web", "Upstash", "web-sessions", "Ready", "True", "1/1"], "{table}");
    let wide = ground.kubectl(&format!("get sb {NAME} -o wide"));
    assert!(wide.lines().next().unwrap().ends_with("SERVICES   MESSAGE   AGE") && wide.contains("1/1"), "{wide}");
    let one_list = ground.kubectl("get sessionbackends.sessionbackend.dev --no-headers");
    assert_eq!(one_list.lines().count(), 1, "{one_list}");

    let status = ground.object(NAME)["status"].clone();
    assert_eq!(status["observedGeneration"], 1);
    let condition = |kind: &str| {
        let all = status["conditions"].as_array().unwrap();
        all.iter().find(|condition| condition["type"] == kind).unwrap_or_else(|| panic!("{kind}: {all:#?}"))
    };
    for (kind, is) in [("Ready", "True"), ("Reconciling", "False"), ("Stalled", "False"), ("Migrated", "True")] {
        assert_eq!((condition(kind)["status"].as_str(), &condition(kind)["observedGeneration"]), (Some(is), &json!(1)));
    }
    let reasons: Vec<_> = ground.events(NAME).into_iter().map(|(reason, _)| reason).collect();
    for reason in ["Provisioning", "Switching", "Ready"] {
        assert!(reasons.iter().any(|said| said == reason), "{reason} in {reasons:?}");
    }

    // Deleted with Retain: what it holds is let go, what is there stays, and a person is told what that is.
    let before = ground.variables(&arn);
    ground.kubectl(&format!("delete sb {NAME} --timeout=60s"));
    assert_eq!(ground.variables(&arn), before);
    assert_eq!(ground.calls("DeleteDatabase"), 0);
    let released = ground.events(NAME).into_iter().find(|(reason, _)| reason == "Released");
    assert!(released.as_ref().is_some_and(|(_, note)| note.contains("web-sessions")), "{released:?}");
    assert_eq!(operator.metric("sessionbackend_phase", &[]), 0, "no series of an object that is gone");
    assert_eq!(ground.calls("CreateDatabase"), 1);
    ground.keeps_its_secrets();
}

#[test]
fn at_rest_a_hundred_reconciliations_change_nothing_and_write_nothing() {
    let Some(ground) = Ground::up("rest") else { return };
    let database = ground.database("by-hand");
    let arn = ground.service(SERVICE, Some(&database.url));
    let operator = Operator::alone(&ground);
    ground.apply(&object(NAME, &adopted(&database), &json!({})));
    ground.kubectl(&format!("wait --for=condition=Ready --timeout=120s sb/{NAME}"));
    // The checks at rest are made once after it is Ready, and shown.
    ground.until(NAME, "the checks are shown", |object| object["status"]["summary"]["checks"] == "1/1");
    let turned = || operator.metric("sessionbackend_reconcile_total", &[]);
    let written = || operator.metric("sessionbackend_status_writes_total", &[]);
    let status = ground.object(NAME)["status"].clone();
    let variables = ground.variables(&arn);
    let (changes, writes, asked) = (ground.changes(), written(), ground.asked("sessionbackend").len());

    for force in 0..FORCED {
        let before = turned();
        ground.annotate(NAME, "reconcile-at", &force.to_string());
        super::ground::until("it is reconciled", || if turned() > before { Ok(()) } else { Err(String::new()) });
    }

    assert_eq!(ground.changes(), changes, "no cloud call that may change something");
    assert_eq!(ground.variables(&arn), variables);
    assert_eq!(written(), writes, "no status was written");
    assert_eq!(ground.object(NAME)["status"], status);
    let asked = ground.asked("sessionbackend").split_off(asked);
    let wrote = |event: &&Value| !["get", "list", "watch"].contains(&event["verb"].as_str().unwrap());
    let writes: Vec<_> =
        asked.iter().filter(wrote).filter(|event| event["objectRef"]["resource"] != "leases").collect();
    assert!(writes.is_empty(), "{writes:#?}");
    let reading = ["Describe", "List", "Get", "Filter", "Simulate"];
    let (_, metrics) = operator.get("/metrics");
    assert!(reading.iter().any(|word| metrics.contains(&format!("operation=\"{word}"))), "{metrics}");
}
