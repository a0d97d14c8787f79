//! Every file in `examples/` is admitted and understood, with every Secret it needs named or in it, and in a world such as it
//! is written for it leads to what it asks for.
#![allow(clippy::pedantic)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may panic")]

mod support;

use std::path::{Path, PathBuf};

use sessionbackend::desired::{Desired, StoreSpec};
use sessionbackend::forecast::End;
use sessionbackend::identity::Owner;
use sessionbackend::manifest;
use sessionbackend::render::plan::Preview;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn examples() -> Vec<PathBuf> {
    let mut files: Vec<_> = ["", "cluster"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(directory().join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_example_is_admitted_and_understood() {
    let files = examples();
    assert!(files.len() >= 5, "{files:?}");
    let mut kinds = std::collections::BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let manifest = manifest::read(&text).unwrap_or_else(|mistakes| {
            let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
            panic!("{}:\n{}", file.display(), lines.join("\n"))
        });
        for entry in &manifest.objects {
            let Desired::Present(target) = &entry.desired else { panic!("{} asks for nothing", file.display()) };
            kinds.insert(match target.store {
                StoreSpec::Upstash { .. } => "Upstash",
                StoreSpec::ReplicationGroup { .. } | StoreSpec::ServerlessCache { .. } => "ElastiCache",
                StoreSpec::External { .. } => "External",
                StoreSpec::Disabled => "Disabled",
            });
            for reference in manifest::references(&entry.object.spec) {
                let Some(secret) = manifest.secret(manifest::namespace(&entry.object), &reference.secret) else {
                    assert!(
                        !text.contains("kind: Secret"),
                        "{}: {} is not in the file",
                        file.display(),
                        reference.secret
                    );
                    continue;
                };
                for key in &reference.keys {
                    let value = secret.value(&reference.field, key).unwrap();
                    if let Some(external) =
                        entry.object.spec.store.external.as_ref().filter(|_| reference.field.contains("store.external"))
                    {
                        manifest::external_url(&reference.field, external, value).unwrap();
                    }
                }
            }
        }
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["Disabled", "ElastiCache", "External", "Upstash"]);
}

/// The world an example is written for, in the words of `tests/support/world.rs`.
const WORLDS: [(&str, &str); 8] = [
    (
        "cluster/elasticache.yaml",
        "{ services: { liberty-web: { on: elasticache } }, source: elasticache, target: elasticache }",
    ),
    ("cluster/upstash.yaml", LIBERTY),
    (
        "disabled-with-dynamodb.yaml",
        "{ services: { audio-conversion: { on: &old { like: elasticache, id: audio-conversion-redis } } }, \
         source: *old, target: disabled }",
    ),
    ("elasticache-to-upstash.yaml", LIBERTY),
    (
        "look-only.yaml",
        "{ services: { billing: { on: &store { like: elasticache, id: billing-sessions } } }, \
         source: *store, target: *store }",
    ),
    (
        "redis-cloud.yaml",
        "{ services: { bridge-api: { on: elasticache }, bridge-web: { on: elasticache } }, \
         source: elasticache, target: external }",
    ),
    ("upstash-new.yaml", "{ services: { lab-terminal: { on: nothing, egress: default } }, target: absent }"),
    (
        "upstash-to-elasticache.yaml",
        "{ services: { shop-web: &web { on: upstash, egress: default }, shop-checkout: *web }, \
         source: upstash, target: absent }",
    ),
];

const LIBERTY: &str = "{ services: { liberty-web: { on: elasticache } }, source: elasticache, target: absent, \
     rules: { sgr-0123456789abcdef0: {} }, connectors: \
     { 'arn:aws:apprunner:us-east-1:123456789012:vpcconnector/liberty-vpc/1/0123456789abcdef0123456789abcdef': {} } }";

#[test]
fn every_example_leads_to_what_it_asks_for() {
    let told: Vec<_> = WORLDS.iter().map(|(example, _)| directory().join(example)).collect();
    assert_eq!(told, examples(), "an example without a world");
    for (example, world) in WORLDS {
        let manifest = manifest::read(&std::fs::read_to_string(directory().join(example)).unwrap()).unwrap();
        let entry = &manifest.objects[0];
        let Desired::Present(target) = &entry.desired else { panic!("{example}") };
        let owner = Owner {
            installation: "default".into(),
            account: "123456789012".into(),
            region: entry.object.spec.aws.region.to_string(),
            namespace: manifest::namespace(&entry.object).into(),
            name: entry.object.metadata.name.clone().unwrap(),
        };
        let teller = support::world::Teller { owner: &owner, target: Some(target) };
        let mut picture = teller.quiet();
        teller.tell(&mut picture, &serde_yaml::from_str(world).unwrap(), support::at(0));
        let preview = Preview::of(&owner, &entry.desired, &picture, support::at(0));
        assert_eq!(preview.forecast.end, End::Converged, "{example}:\n{}", preview.text());
        assert!(preview.forecast.changes().next().is_some(), "{example} asks for nothing that is not so");
    }
}

#[test]
fn the_second_object_of_the_cluster_is_the_first_one_edited() {
    let read = |file: &str| {
        let text = std::fs::read_to_string(directory().join("cluster").join(file)).unwrap();
        let value: serde_json::Value = serde_yaml::from_str(&text).unwrap();
        value
    };
    let (before, after) = (read("elasticache.yaml"), read("upstash.yaml"));
    for same in ["apiVersion", "kind", "metadata"] {
        assert_eq!(before[same], after[same]);
    }
    for same in ["aws", "env", "app", "checks"] {
        assert_eq!(before["spec"][same], after["spec"][same]);
    }
    assert_ne!(before["spec"]["store"], after["spec"]["store"]);
}
