//! Bad inputs from `tests/bad_inputs/table.yaml`: every message word for word, each once, and never a secret.
#![allow(clippy::pedantic)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pretty_assertions::assert_eq;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use sessionbackend::api::{self, SessionBackend};
use sessionbackend::desired::{DeletionPolicy, Desired, parse_update};
use sessionbackend::identity::Owner;
use sessionbackend::manifest::{self, Secret};

/// Stands for a password wherever a case has one.
const CANARY: &str = "canary";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    base: Value,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(rename = "case")]
    id: u32,
    input: String,
    #[serde(default, rename = "try")]
    tries: Vec<Try>,
    #[serde(default)]
    plan: Option<Value>,
    #[serde(default)]
    waits_for: String,
    #[serde(default)]
    also: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Try {
    patch: Option<Value>,
    old: Option<Value>,
    second: Option<Value>,
    file: Option<String>,
    only: Option<String>,
    secret: Option<String>,
    secret_base64: Option<String>,
    key: Option<String>,
    tls: Option<String>,
    missing: bool,
    generated: Option<String>,
    paused: Option<bool>,
    deletion: Option<String>,
    messages: Vec<String>,
}

fn table() -> Table {
    serde_yaml::from_str(include_str!("bad_inputs/table.yaml")).unwrap()
}

/// RFC 7386.
fn merge(base: &mut Value, patch: &Value) {
    let (Some(base), Some(patch)) = (base.as_object_mut(), patch.as_object()) else {
        *base = patch.clone();
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            base.remove(key);
        } else if value.is_object() {
            merge(base.entry(key).or_insert(json!({})), value);
        } else {
            base.insert(key.clone(), value.clone());
        }
    }
}

fn patched(base: &Value, patch: Option<&Value>) -> Value {
    let mut value = base.clone();
    if let Some(patch) = patch {
        merge(&mut value, patch);
    }
    value
}

/// One document as a file has it, behind a Secret with the canary in it.
fn file(documents: &[&Value]) -> String {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "upstash-api", "namespace": "team" },
        "stringData": { "email": "you@example.com", "apiKey": CANARY },
    });
    let mut text = serde_yaml::to_string(&secret).unwrap();
    for document in documents {
        write!(text, "---\n{}", serde_yaml::to_string(document).unwrap()).unwrap();
    }
    text
}

/// What is said; the label of the usual document is left out.
fn read(text: &str) -> Vec<String> {
    let usual = "document 2 (SessionBackend web): ";
    let mistakes = manifest::read(text).err().unwrap_or_default();
    mistakes.iter().map(ToString::to_string).map(|text| text.strip_prefix(usual).unwrap_or(&text).to_owned()).collect()
}

fn external(tls: Option<&str>) -> api::spec::External {
    let mut value = json!({ "urlSecretKeyRef": { "name": "redis", "key": "url" } });
    if let Some(tls) = tls {
        value["tls"] = json!(tls);
    }
    serde_json::from_value(value).unwrap()
}

fn secret_messages(case: &Try, bytes: Vec<u8>) -> Vec<String> {
    let field = "spec.store.external.urlSecretKeyRef";
    let secret = Secret::new("team", "redis", [("url".to_owned(), bytes)]);
    let value = match secret.value(field, case.key.as_deref().unwrap_or("url")) {
        Ok(value) => value,
        Err(violation) => return vec![violation.to_string()],
    };
    let read = manifest::external_url(field, &external(case.tls.as_deref()), value);
    read.err().iter().map(ToString::to_string).collect()
}

fn object(base: &Value, patch: Option<&Value>) -> SessionBackend {
    let text = file(&[&patched(base, patch)]);
    let manifest = manifest::read(&text).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    manifest.objects[0].object.clone()
}

fn generated(base: &Value, what: &str) -> Vec<String> {
    match what {
        "templates" => {
            let variables: serde_json::Map<_, _> = (0..21).map(|n| (format!("V{n}"), json!("{url}"))).collect();
            let patch = json!({ "spec": { "env": { "format": "Template", "template": variables } } });
            read(&file(&[&patched(base, Some(&patch))]))
        }
        "long_path" => {
            let checks =
                json!({ "extra": [{ "name": "health", "http": { "path": format!("/{}", "x".repeat(2048)) } }] });
            read(&file(&[&patched(base, Some(&json!({ "spec": { "checks": checks } })))]))
        }
        "long_name" => {
            let object = object(base, Some(&json!({ "metadata": { "name": "x".repeat(253) } })));
            assert!(owner(manifest::name(&object)).short_name("vpc").len() <= 40);
            Vec::new()
        }
        "colliding_names" => {
            let names: BTreeSet<_> = ["a", "b", "c"]
                .map(|end| owner(&format!("{}{end}", "x".repeat(60))).short_name("vpc"))
                .into_iter()
                .collect();
            assert_eq!(names.len(), 3);
            Vec::new()
        }
        "bytes" => read(&format!("{}\n# {}", file(&[base]), "x".repeat(manifest::MAX_BYTES))),
        "items" => {
            let keys: Vec<_> = (0..100_000 / 8).map(|n| json!({ "prefix": n.to_string() })).collect();
            read(&file(&[&patched(
                base,
                Some(&json!({ "spec": { "otherConsumers": [], "migration": { "keys": keys } } })),
            )]))
            .into_iter()
            .filter(|message| !message.contains("].strategy"))
            .collect()
        }
        "depth" => {
            let mut messages =
                read(&format!("{}spec: {}{}\n", "kind: SessionBackend\n", "[".repeat(100), "]".repeat(100)));
            messages.extend(read(&format!("a: {}{}\n", "[".repeat(5_000), "]".repeat(5_000))));
            messages
        }
        other => panic!("{other}"),
    }
}

fn owner(name: &str) -> Owner {
    Owner {
        installation: "default".into(),
        account: "123456789012".into(),
        region: "us-east-1".into(),
        namespace: "team".into(),
        name: name.into(),
    }
}

fn outcome(base: &Value, case: &Try) -> Vec<String> {
    if let Some(what) = &case.generated {
        return generated(base, what);
    }
    if case.missing {
        let object = object(base, None);
        return manifest::references(&object.spec)
            .iter()
            .map(|reference| reference.not_found("team").to_string())
            .collect();
    }
    if let Some(text) = &case.secret {
        return secret_messages(case, text.clone().into_bytes());
    }
    if let Some(text) = &case.secret_base64 {
        use base64::Engine as _;
        return secret_messages(case, base64::engine::general_purpose::STANDARD.decode(text).unwrap());
    }
    if case.key.is_some() {
        return secret_messages(case, b"rediss://h".to_vec());
    }
    if let Some(text) = &case.only {
        return read(text);
    }
    if let Some(text) = &case.file {
        return read(&format!("{text}{}", file(&[base])));
    }
    if let Some(second) = &case.second {
        return read(&file(&[base, &patched(base, Some(second))]));
    }
    if let Some(old) = &case.old {
        let (old, new) = (object(base, Some(old)), object(base, case.patch.as_ref()));
        return parse_update(&new, Some(&old)).err().unwrap_or_default().iter().map(ToString::to_string).collect();
    }
    let messages = read(&file(&[&patched(base, case.patch.as_ref())]));
    if let Some(expected) = case.paused {
        let paused = api::paused(&object(base, case.patch.as_ref()).metadata.annotations.unwrap_or_default());
        assert_eq!(paused.as_ref().copied().unwrap_or(true), expected);
        return paused.err().into_iter().collect();
    }
    if let Some(expected) = &case.deletion {
        let manifest = manifest::read(&file(&[&patched(base, case.patch.as_ref())])).unwrap();
        let Desired::Present(target) = &manifest.objects[0].desired else { panic!("nothing is desired") };
        let policy = if expected == "Retain" { DeletionPolicy::Retain } else { DeletionPolicy::Delete };
        assert_eq!(target.deletion, policy);
    }
    messages
}

#[test]
fn the_base_is_good() {
    assert_eq!(read(&file(&[&table().base])), Vec::<String>::new());
}

#[test]
fn every_bad_input_has_its_message() {
    let table = table();
    let mut wrong = String::new();
    for case in &table.cases {
        for (index, attempt) in case.tries.iter().enumerate() {
            let messages = outcome(&table.base, attempt);
            for message in &messages {
                assert!(!message.contains(CANARY), "case {}: {message}", case.id);
            }
            if messages != attempt.messages {
                writeln!(wrong, "case {} ({}), try {}:", case.id, case.input, index + 1).unwrap();
                for message in messages {
                    writeln!(wrong, "        - {}", serde_json::to_string(&message).unwrap()).unwrap();
                }
            }
        }
    }
    assert!(wrong.is_empty(), "these are the messages now:\n{wrong}");
}

/// A try as a file that `apply` can be given; nothing where it is about something else than a file.
fn as_a_file(base: &Value, case: &Try) -> Option<String> {
    let is_file = [&case.generated, &case.secret_base64, &case.key, &case.tls].iter().all(|about| about.is_none())
        && case.old.is_none()
        && case.paused.is_none();
    if !is_file || case.messages.is_empty() {
        return None;
    }
    let external = json!({ "spec": { "store": {
        "upstash": null, "external": { "urlSecretKeyRef": { "name": "redis", "key": "url" } },
    } } });
    Some(match (&case.only, &case.file, &case.secret, &case.second) {
        (Some(text), ..) => text.clone(),
        (_, Some(text), ..) => format!("{text}{}", file(&[base])),
        (_, _, Some(value), _) => {
            let secret = json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "redis", "namespace": "team" },
                "stringData": { "url": value },
            });
            file(&[&secret, &patched(base, Some(&external))])
        }
        (_, _, _, Some(second)) => file(&[base, &patched(base, Some(second))]),
        _ if case.missing => serde_yaml::to_string(base).unwrap(),
        _ => file(&[&patched(base, case.patch.as_ref())]),
    })
}

/// A cloud that nobody should call; true once somebody has.
fn trap() -> (String, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, called) = (format!("http://{}", listener.local_addr().unwrap()), Arc::new(AtomicBool::new(false)));
    let heard = Arc::clone(&called);
    std::thread::spawn(move || listener.incoming().for_each(|_| heard.store(true, Ordering::SeqCst)));
    (url, called)
}

#[test]
fn apply_refuses_every_bad_file_before_it_calls_any_cloud() {
    let (table, dir, (cloud, called)) = (table(), tempfile::tempdir().unwrap(), trap());
    let mut refused = 0;
    for case in &table.cases {
        for text in case.tries.iter().filter_map(|attempt| as_a_file(&table.base, attempt)) {
            let path = dir.path().join("bad.yaml");
            std::fs::write(&path, &text).unwrap();
            let mut apply = Command::new(env!("CARGO_BIN_EXE_sessionbackend"));
            apply.arg("apply").arg("-f").arg(&path).env_clear().env("HOME", dir.path());
            let keys = [("AWS_ACCESS_KEY_ID", "AKIABAD"), ("AWS_SECRET_ACCESS_KEY", "bad")];
            apply.envs(keys).env("AWS_ENDPOINT_URL", &cloud).env("UPSTASH_API_URL", &cloud);
            let output = apply.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(1), "case {}: {said}\n{text}", case.id);
            assert!(!said.contains(CANARY), "case {}: {said}", case.id);
            assert!(!called.load(Ordering::SeqCst), "case {}: a cloud was called: {said}\n{text}", case.id);
            refused += 1;
        }
    }
    assert!(refused > 100, "only {refused} files");
}

#[test]
fn the_list_is_complete_and_most_of_it_is_tested() {
    let cases = table().cases;
    assert!(cases.iter().map(|case| case.id).eq(1..=72));
    for case in &cases {
        let tested = !case.tries.is_empty() || case.plan.is_some();
        assert!(tested == case.waits_for.is_empty(), "case {} is neither tested nor waiting, or both", case.id);
        assert!(case.waits_for.is_empty() || case.also.is_empty());
    }
    let waiting = cases.iter().filter(|case| !case.waits_for.is_empty()).map(|case| case.id);
    assert_eq!(waiting.collect::<Vec<_>>(), [45, 48, 64]);
}

/// A rule nobody has seen refuse may refuse nothing. That each admits something, the examples and the base show.
#[test]
fn every_rule_of_the_definition_refuses_something() {
    fn collect(schema: &Value, into: &mut BTreeSet<String>) {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            into.insert(rule["message"].as_str().unwrap().to_owned());
        }
        for child in schema["properties"].as_object().into_iter().flatten().map(|(_, child)| child) {
            collect(child, into);
        }
        for child in ["items", "additionalProperties"].iter().filter_map(|keyword| schema.get(keyword)) {
            collect(child, into);
        }
    }
    let mut rules = BTreeSet::new();
    collect(&api::schema(), &mut rules);
    let table = table();
    let said: String =
        table.cases.iter().flat_map(|case| &case.tries).map(|attempt| attempt.messages.join("\n")).collect();
    rules.retain(|message| !said.contains(message.as_str()));
    assert!(rules.is_empty(), "no case makes these speak: {rules:#?}");
}

#[test]
fn debug_output_of_a_manifest_shows_no_secret() {
    let manifest = manifest::read(&file(&[&table().base])).unwrap();
    assert!(!format!("{manifest:?}").contains(CANARY));
    let value = manifest.secret("team", "upstash-api").unwrap().value("spec", "apiKey").unwrap();
    assert!(secrecy::ExposeSecret::expose_secret(value) == CANARY, "it is there");
    assert!(!format!("{:?}", SecretString::from(CANARY)).contains(CANARY));
}
