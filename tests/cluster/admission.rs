//! Admission: every rule that can be stated in the definition is judged by a real API server, with a value it admits and one
//! it refuses, and `sessionbackend validate` says the same in the same words.

use std::collections::BTreeSet;

use kube::Client;
use serde::Deserialize;
use serde_json::{Value, json};
use sessionbackend::api::{self, SessionBackend};
use sessionbackend::desired::parse_update;

use super::merge;
use super::plane::{OBJECTS, ask, client, plane};
use super::verdict::{Refusal, Server, validate};

/// `tests/bad_inputs/table.yaml`, as far as it is about objects.
#[derive(Deserialize)]
struct Table {
    base: Value,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    case: u32,
    #[serde(default, rename = "try")]
    tries: Vec<Try>,
}

#[derive(Deserialize)]
struct Try {
    patch: Option<Value>,
    old: Option<Value>,
}

/// `tests/cluster/good_inputs.yaml`.
#[derive(Deserialize)]
struct Good {
    objects: Vec<Value>,
    updates: Vec<Update>,
}

#[derive(Deserialize)]
struct Update {
    old: Value,
    new: Value,
}

fn table() -> Table {
    serde_yaml::from_str(include_str!("../bad_inputs/table.yaml")).unwrap()
}

fn good() -> Good {
    serde_yaml::from_str(include_str!("good_inputs.yaml")).unwrap()
}

/// The base with a patch over it, in a namespace and under a name of its own.
fn object(base: &Value, patch: &Value, namespace: &str, name: &str) -> Value {
    let mut object = base.clone();
    merge(&mut object, &json!({ "metadata": { "name": name, "namespace": namespace } }));
    merge(&mut object, patch);
    object
}

/// What only we refuse, and why no rule of the definition says it. The server stores it, and the operator says it then.
const AT_RECONCILE: [(&str, &str); 3] = [
    ("is never reached, because keys[", "a rule cannot tell which of two entries of a list comes first"),
    ("is the name of another check, at ", "the checks of runbooks are not in the object"),
    ("there is no check of ", "the checks of runbooks are not in the object"),
];

async fn create(client: &Client, namespace: &str, object: &Value) -> Server {
    let path = format!("namespaces/{namespace}/{OBJECTS}?dryRun=All&fieldValidation=Strict");
    Server::of(ask(client, "POST", &path, object).await)
}

/// What both say of one object, where they differ.
fn differences(server: &Server, ours: &[Refusal]) -> Vec<String> {
    let rules: BTreeSet<String> = messages(&api::schema());
    let mut different = Vec::new();
    for theirs in &server.refused {
        let same: Vec<_> = ours.iter().filter(|ours| theirs.field.is_empty() || ours.is_about(theirs)).collect();
        let rule = rules.iter().find(|rule| theirs.said.ends_with(rule.as_str()));
        if same.is_empty() {
            different.push(format!("the server alone refuses {}: {}", theirs.field, theirs.said));
        } else if let Some(rule) = rule.filter(|rule| !same.iter().any(|ours| ours.said == **rule)) {
            different.push(format!("the server says of {}: {rule}; we say {same:?}", theirs.field));
        }
    }
    let known_later = |ours: &Refusal| AT_RECONCILE.iter().any(|(words, _)| ours.said.contains(words));
    for ours in ours.iter().filter(|ours| !server.is_partial && !known_later(ours)) {
        if !server.refused.iter().any(|theirs| theirs.is_about(ours)) {
            different.push(format!("we alone refuse {}: {}", ours.field, ours.said));
        }
    }
    different
}

/// The messages of all rules.
fn messages(schema: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk(schema, "", &mut |_, rule| {
        found.insert(rule["message"].as_str().unwrap().to_owned());
    });
    found
}

/// Calls `visit` with the place of every rule, such as `spec.services[].name`, and the rule.
fn walk(schema: &Value, at: &str, visit: &mut impl FnMut(&str, &Value)) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        visit(at, rule);
    }
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        walk(child, &format!("{at}.{name}"), visit);
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(child) = schema.get(keyword) {
            walk(child, &format!("{at}[]"), visit);
        }
    }
}

/// The places a value fills, in the same form.
fn filled(schema: &Value, value: &Value, at: &str, found: &mut BTreeSet<String>) {
    found.insert(at.to_owned());
    for (name, child) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(schema) => filled(schema, child, &format!("{at}.{name}"), found),
            None => filled(&schema["additionalProperties"], child, &format!("{at}[]"), found),
        }
    }
    for child in value.as_array().into_iter().flatten() {
        filled(&schema["items"], child, &format!("{at}[]"), found);
    }
}

#[tokio::test]
async fn the_server_and_the_command_line_refuse_the_same_in_the_same_words() {
    let Some(plane) = plane() else { return };
    let (client, namespace) = (client(plane).await, plane.namespace("refused").unwrap());
    let table = table();
    let mut tried = Vec::new();
    for case in &table.cases {
        let patches = case.tries.iter().enumerate().filter(|(_, attempt)| attempt.old.is_none());
        for (index, patch) in patches.filter_map(|(index, attempt)| Some((index, attempt.patch.as_ref()?))) {
            let name = format!("case-{}-{}", case.case, index + 1);
            tried.push((name.clone(), object(&table.base, patch, &namespace, &name)));
        }
    }
    let documents: Vec<_> = tried.iter().map(|(_, object)| object.clone()).collect();
    let ours = validate(&documents);
    let (mut wrong, mut refused) = (Vec::new(), 0);
    for (index, (name, object)) in tried.iter().enumerate() {
        let mut server = create(&client, &namespace, object).await;
        refused += usize::from(!server.refused.is_empty());
        let ours = ours.get(&index).map(Vec::as_slice).unwrap_or_default();
        if object["apiVersion"] != table.base["apiVersion"] {
            // Another kind of thing at another place: all the server can say is that this is not it.
            assert_eq!((server.refused.is_empty(), ours.is_empty()), (false, false), "{name}");
            server = Server { refused: Vec::new(), is_partial: true };
        }
        wrong.extend(differences(&server, ours).into_iter().map(|difference| format!("{name}: {difference}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refused > 100, "{refused} of {}", tried.len());
}

#[tokio::test]
async fn what_cannot_change_is_refused_by_both_and_what_can_by_neither() {
    let Some(plane) = plane() else { return };
    let (client, namespace) = (client(plane).await, plane.namespace("updated").unwrap());
    let (table, good) = (table(), good());
    let tries = table.cases.iter().flat_map(|case| &case.tries);
    let bad = tries.filter_map(|attempt| Some((attempt.old.as_ref()?, attempt.patch.as_ref()?)));
    let updates: Vec<_> = bad.chain(good.updates.iter().map(|update| (&update.old, &update.new))).collect();
    let path = format!("namespaces/{namespace}/{OBJECTS}");
    let (mut wrong, mut refused) = (Vec::new(), 0);
    for (index, (old, new)) in updates.into_iter().enumerate() {
        let name = format!("update-{index}");
        let [old, new] = [old, new].map(|patch| object(&table.base, patch, &namespace, &name));
        let stored = ask(&client, "POST", &path, &old).await.unwrap();
        let mut update = new.clone();
        update["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"].clone();
        let place = format!("{path}/{name}?dryRun=All&fieldValidation=Strict");
        let server = Server::of(ask(&client, "PUT", &place, &update).await);
        refused += usize::from(!server.refused.is_empty());
        let [old, new] = [old, new].map(|object| serde_json::from_value::<SessionBackend>(object).unwrap());
        let violations = parse_update(&new, Some(&old)).err().unwrap_or_default();
        let ours: Vec<_> = violations.iter().map(Refusal::from).collect();
        wrong.extend(differences(&server, &ours).into_iter().map(|difference| format!("{name}: {difference}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refused >= 5, "{refused}");
}

#[tokio::test]
async fn every_rule_admits_a_value_it_has_judged() {
    let Some(plane) = plane() else { return };
    let (client, namespace) = (client(plane).await, plane.namespace("admitted").unwrap());
    let (base, good, schema) = (table().base, good(), api::schema());
    let mut judged = BTreeSet::new();
    let objects = good.objects.iter().enumerate();
    let objects: Vec<_> =
        objects.map(|(index, patch)| object(&base, patch, &namespace, &format!("good-{index}"))).collect();
    assert_eq!(validate(&objects), std::collections::BTreeMap::new());
    for object in &objects {
        let server = create(&client, &namespace, object).await;
        assert!(server.refused.is_empty(), "{object:#}: {:?}", server.refused);
        filled(&schema["properties"]["spec"], &object["spec"], ".spec", &mut judged);
    }
    let mut compared = BTreeSet::new();
    for update in &good.updates {
        let mut places = [&update.old, &update.new].map(|patch| {
            let mut places = BTreeSet::new();
            let object = object(&base, patch, &namespace, "any");
            filled(&schema["properties"]["spec"], &object["spec"], ".spec", &mut places);
            places
        });
        let [old, new] = &mut places;
        compared.extend(old.intersection(new).cloned());
    }
    let mut idle = Vec::new();
    walk(&schema, "", &mut |at, rule| {
        let text = rule["rule"].as_str().unwrap();
        let places = if text.contains("oldSelf") { &compared } else { &judged };
        // A list of queues is refused whole while they are not moved.
        if !places.contains(at) && !at.starts_with(".spec.migration.queues[]") {
            idle.push(format!("{at}: {text}"));
        }
    });
    assert!(idle.is_empty(), "no good input reaches these:\n{}", idle.join("\n"));
}

#[test]
fn kubectl_shows_a_person_what_is_wrong_and_what_to_do() {
    let Some(plane) = plane() else { return };
    let namespace = plane.namespace("shown").unwrap();
    let base = table().base;
    let refused = |line: &str, patch: &Value| {
        let object = object(&base, patch, &namespace, "web").to_string();
        plane.must_with(line, &object).unwrap_err().to_string()
    };
    let dry = "apply --dry-run=server -f -";
    let misspelt = refused(dry, &json!({ "spec": { "stroe": {} } }));
    assert!(misspelt.contains("unknown field \"spec.stroe\""), "{misspelt}");
    let two = refused(dry, &json!({ "spec": { "store": { "disabled": {} } } }));
    assert!(two.contains("says which store serves; keep one of them"), "{two}");
    plane.must_with("apply -f -", &object(&base, &json!({}), &namespace, "web").to_string()).unwrap();
    let moved = refused("apply -f -", &json!({ "spec": { "aws": { "region": "eu-west-1" } } }));
    let words =
        "spec.aws.region: Invalid value: cannot change; create a SessionBackend for the services of the other region";
    assert!(moved.contains(words), "{moved}");
}
