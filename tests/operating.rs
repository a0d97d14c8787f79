//! What `docs/operating.md` says of metrics, annotations and files is so.
#![allow(clippy::pedantic)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::Path;

use sessionbackend::api::annotation;

fn text(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The metrics as they are registered, by the names under which they are served.
fn registered() -> BTreeSet<String> {
    let code: String = text("src/metrics.rs").split_whitespace().collect();
    let mut names = BTreeSet::new();
    for (mark, unit) in [("register(\"", ""), ("register_with_unit(\"", "_seconds")] {
        for call in code.split(mark).skip(1) {
            let name = call.split('"').next().unwrap();
            let field = call.split("metrics.").nth(1).unwrap().split('.').next().unwrap();
            let kind = code.split(&format!("{field}:")).nth(1).unwrap();
            let is_counter = kind.starts_with("Counter") || kind.split(",Counter>").next().unwrap().len() < 20;
            let total = if is_counter { "_total" } else { "" };
            names.insert(format!("sessionbackend_{name}{unit}{total}"));
        }
    }
    names
}

#[test]
fn the_metrics_are_those_that_are_served() {
    let document = text("docs/operating.md");
    let table = document.lines().filter_map(|line| line.strip_prefix("| `sessionbackend_"));
    let named: BTreeSet<_> = table.map(|row| format!("sessionbackend_{}", row.split('`').next().unwrap())).collect();
    assert_eq!(named, registered());
    let word = |text: &str| text[..text.find(|c: char| !(c.is_ascii_lowercase() || c == '_')).unwrap()].to_owned();
    for name in document.split("sessionbackend_").skip(1).map(word) {
        assert!(named.contains(&format!("sessionbackend_{name}")), "sessionbackend_{name}");
    }
}

#[test]
fn every_annotation_is_explained() {
    use annotation::{ABANDON, ABORT, APPROVE, PAUSED, RECONCILE_AT, RETRY};
    let document = text("docs/operating.md");
    for annotation in [ABANDON, ABORT, APPROVE, PAUSED, RECONCILE_AT, RETRY] {
        let name = annotation.strip_prefix("sessionbackend.dev/").unwrap();
        assert!(document.contains(&format!("\n| `{name}` | ")), "{annotation}");
    }
}

#[test]
fn every_statement_of_the_policy_that_may_be_left_out_is_there() {
    let policy = text("manifests/iam-policy.json");
    for statement in ["MakeCaches", "LookForCaches", "ConnectCaches", "RemoveWhatTheSpecNames"] {
        assert!(text("docs/operating.md").contains(&format!("`{statement}`")), "{statement}");
        assert!(policy.contains(&format!("\"Sid\": \"{statement}\"")), "{statement}");
    }
}

#[test]
fn every_link_and_every_file_leads_somewhere() {
    let document = text("docs/operating.md");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for link in document.split("](").skip(1) {
        let target = link.split(')').next().unwrap();
        assert!(docs.join(target).exists(), "{target}");
    }
    for file in document.split_whitespace().filter(|word| word.starts_with("manifests/")) {
        assert!(docs.join("..").join(file).exists(), "{file}");
    }
}
