//! Every file in `examples/` is admitted and understood, with every Secret it needs named or in it.
#![allow(clippy::pedantic)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};

use sessionbackend::desired::{Desired, StoreSpec};
use sessionbackend::manifest;

fn examples() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
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
