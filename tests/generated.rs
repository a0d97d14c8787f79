//! What is generated is up to date. `UPDATE_GENERATED=1 cargo test --test generated` writes it anew.
#![allow(clippy::pedantic)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::path::Path;

use serde_json::Value;
use sessionbackend::{api, render};

fn is_up_to_date(file: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&path, generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "{file} is out of date: UPDATE_GENERATED=1 cargo test --test generated");
}

#[test]
fn the_definition_in_crds_is_up_to_date() {
    is_up_to_date("crds/sessionbackends.yaml", &api::crd_yaml().unwrap());
}

#[test]
fn the_words_in_docs_are_up_to_date() {
    is_up_to_date("docs/conditions.md", &render::conditions::text());
}

/// Calls `look` for every schema below `schema` with its path.
fn walk(schema: &Value, path: &str, look: &mut impl FnMut(&str, &Value)) {
    look(path, schema);
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        walk(child, &format!("{path}.{name}"), look);
    }
    for (keyword, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(child) = schema.get(keyword) {
            walk(child, &format!("{path}{mark}"), look);
        }
    }
}

#[test]
fn everything_in_the_spec_is_bounded() {
    // The API server estimates what a rule costs from these bounds, and refuses a definition that could cost too much.
    walk(&api::schema()["properties"]["spec"], "spec", &mut |path, schema| {
        if schema["x-kubernetes-preserve-unknown-fields"] == true {
            return; // no rule can look into it
        }
        let bounded = match schema["type"].as_str() {
            Some("string") => schema.get("maxLength").is_some() || schema.get("enum").is_some(),
            Some("array") => schema.get("maxItems").is_some(),
            Some("object") => schema.get("additionalProperties").is_none() || schema.get("maxProperties").is_some(),
            Some("integer") => schema.get("minimum").is_some() && schema.get("maximum").is_some(),
            Some("boolean") => true,
            other => panic!("{path} has type {other:?}"),
        };
        assert!(bounded, "{path} has no bound");
    });
}

#[test]
fn the_schema_is_structural_and_plain() {
    walk(&api::schema(), "", &mut |path, schema| {
        for keyword in ["$ref", "oneOf", "anyOf", "allOf", "not", "default", "nullable"] {
            assert!(schema.get(keyword).is_none(), "{path} has {keyword}");
        }
        assert!(schema.get("properties").is_none() || schema.get("additionalProperties").is_none(), "{path} has both");
    });
}

#[test]
fn every_rule_says_what_is_wrong_and_what_to_do() {
    let mut rules = 0;
    walk(&api::schema(), "", &mut |path, schema| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let message = rule["message"].as_str().unwrap_or_default();
            let (problem, remedy) =
                message.split_once("; ").unwrap_or_else(|| panic!("{path}: {message:?} has no remedy"));
            assert!(!problem.is_empty() && !remedy.is_empty() && !message.contains('\n'), "{path}: {message}");
            rules += 1;
        }
    });
    assert!(rules > 60, "{rules} rules");
}

#[test]
fn the_columns_are_strings_of_the_summary() {
    let crd = serde_json::to_value(api::crd()).unwrap();
    let columns = crd["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap();
    let shown = |wide: bool| -> Vec<_> {
        let is_wide = |column: &&Value| column["priority"].as_i64().unwrap_or(0) > 0;
        columns
            .iter()
            .filter(|column| wide || !is_wide(column))
            .map(|column| column["name"].as_str().unwrap())
            .collect()
    };
    assert_eq!(shown(false), ["Store", "Phase", "Ready", "Checks", "Age"]);
    assert_eq!(shown(true), ["Store", "Phase", "Ready", "Checks", "Services", "Message", "Age"]);
}
