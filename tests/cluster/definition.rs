//! The definition that is not there yet, and objects that were stored before it was what it is.

use control_plane::ControlPlane;
use serde_json::{Value, json};

use super::ground::{Ground, NAME, SERVICE, adopted, object, until};
use super::operator::Operator;
use super::plane::{OBJECTS, define};

/// The definition without anything it says about a spec.
pub(crate) fn loose() -> String {
    let mut definition = serde_json::to_value(sessionbackend::api::crd()).unwrap();
    let open = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = open;
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["required"] = json!([]);
    definition.to_string()
}

#[test]
fn the_definition_may_come_later_and_what_was_stored_before_it_stops_nobody() {
    if super::plane::plane().is_none() {
        return;
    }
    // Its own: the definition is everybody's. What is leaked ends with this process.
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().unwrap()));
    let ground = Ground::on(plane, "later");
    let database = ground.database("by-hand");
    ground.service(SERVICE, Some(&database.url));
    let operator = Operator::of(&ground, "sessionbackend");
    until("it says what is missing", || match operator.get("/readyz") {
        (503, why) if why.contains("sessionbackends.sessionbackend.dev is not installed") => Ok(()),
        (code, why) => Err(format!("{code} {why}")),
    });
    assert_eq!(operator.get("/livez").0, 200);
    assert!(operator.leads(), "it waits, it does not exit");

    define(plane, &loose());
    operator.until_ready();
    // While it is loose: one that cannot be decoded, one that is against a rule.
    let mut undecodable = object("undecodable", &adopted(&database), &json!({}));
    undecodable["spec"]["services"] = json!("web-app");
    let against = object("against", &adopted(&database), &json!({ "env": { "writer": "ConfigFile" } }));
    for (object, name, reason, words) in [
        (&undecodable, "undecodable", "Undecodable", "spec.services: has the wrong type: text; write a list"),
        (&against, "against", "InvalidSpec", "spec.env.writer: is ConfigFile, which this version cannot wait for"),
    ] {
        ground.apply(object);
        let blocked = ground.until_phase(name, "Blocked");
        let conditions = blocked["status"]["conditions"].as_array().unwrap();
        let accepted = conditions.iter().find(|condition| condition["type"] == "Accepted").unwrap();
        assert_eq!((&accepted["status"], &accepted["reason"]), (&json!("False"), &json!(reason)), "{accepted:#}");
        assert!(accepted["message"].as_str().unwrap().contains(words), "{accepted:#}");
    }

    // The definition is tightened, and the operator of the next version meets what is stored, one of it for the first time.
    drop(operator);
    let mut unseen = undecodable.clone();
    unseen["metadata"]["name"] = json!("unseen");
    ground.apply(&unseen);
    define(plane, &sessionbackend::api::crd_yaml().unwrap());
    let operator = Operator::alone(&ground);
    ground.apply(&object(NAME, &adopted(&database), &json!({})));
    ground.kubectl(&format!("wait --for=condition=Ready --timeout=120s sb/{NAME}"));

    // Of what cannot be decoded the API server lets nobody write anything, a status included.
    until("an event says what is wrong", || {
        let events = ground.events("unseen");
        let told =
            events.iter().any(|(_, note)| note.contains("spec.services: has the wrong type: text; write a list"));
        if told { Ok(()) } else { Err(format!("{events:#?} {:#?}", operator.warnings())) }
    });
    ground.kubectl("delete sb unseen --timeout=60s");

    // A spec need not be valid to be let go; one that cannot be decoded a person corrects first.
    ground.kubectl("delete sb against --timeout=60s");
    ground.kubectl("delete sb undecodable --wait=false");
    ground.apply(&object("undecodable", &adopted(&database), &json!({})));
    ground.kubectl("wait --for=delete --timeout=60s sb/undecodable");
    let left: Value = serde_json::from_str(&ground.kubectl(&format!("get {OBJECTS} -o json"))).unwrap();
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    drop(operator);
    plane.stop_api_server();
}
