//! The verdicts of an API server that has our definition, given here: the same schema, strictly, and the same rules.
//! Both runtimes ask again at every reconciliation: an object may have been stored before a rule existed.
//! A message never repeats a value: a secret may have been pasted anywhere.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;

use kube::core::cel::{CompiledSchema, ErrorKind, compile_schema};
use serde_json::{Value, json};

mod words;

use words::{Fault, UNKNOWN, worded};

/// What is wrong with one field, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub struct Violation {
    /// Its path, such as `spec.services[0].name`.
    pub field: String,
    /// What is wrong; never the value.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl Violation {
    /// Names field, problem and remedy.
    #[must_use]
    pub fn new(field: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into(), remedy: remedy.into() }
    }

    /// Takes a message of the form `problem; remedy` apart.
    #[must_use]
    pub fn from_message(field: impl Into<String>, message: &str) -> Self {
        let (problem, remedy) = message.split_once("; ").unwrap_or((message, "see `kubectl explain sessionbackend`"));
        Self::new(field, problem, remedy)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.field, self.problem, self.remedy)
    }
}

struct Gate {
    schema: Value,
    structure: Option<jsonschema::Validator>,
    rules: CompiledSchema,
}

static GATE: LazyLock<Gate> = LazyLock::new(|| {
    let mut schema = super::schema();
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("apiVersion".into(), json!({ "type": "string", "enum": [super::API_VERSION] }));
        properties.insert("kind".into(), json!({ "type": "string", "enum": [super::KIND] }));
        properties.insert("metadata".into(), metadata_schema());
    }
    let rules = compile_schema(&schema);
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("required".into(), json!(["apiVersion", "kind", "metadata", "spec"]));
    }
    close(&mut schema);
    let structure = jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .with_pattern_options(jsonschema::PatternOptions::regex())
        .build(&schema)
        .ok();
    Gate { schema, structure, rules }
});

/// What the API server knows of `metadata` and a manifest may contain.
fn metadata_schema() -> Value {
    let texts = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    json!({
        "type": "object",
        "required": ["name"],
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "name": {
                "type": "string",
                "maxLength": 253,
                "description": "The object's name.",
                "x-kubernetes-validations": [{
                    "rule": "self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*$')",
                    "message": "is no name for an object; use lower-case letters, digits, hyphens and dots",
                }],
            },
            "namespace": {
                "type": "string",
                "maxLength": 63,
                "x-kubernetes-validations": [{
                    "rule": "self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
                    "message": "is no name for a namespace; use lower-case letters, digits and hyphens",
                }],
            },
            "labels": texts,
            "annotations": texts,
        },
    })
}

/// Refuses every field the schema does not name, as strict field validation does.
fn close(schema: &mut Value) {
    let Value::Object(schema) = schema else { return };
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(close);
    }
    for child in ["items", "additionalProperties"] {
        if let Some(child) = schema.get_mut(child) {
            close(child);
        }
    }
    let is_object = schema.get("type").and_then(Value::as_str) == Some("object");
    let is_open = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    if is_object && !is_open && !schema.contains_key("additionalProperties") {
        schema.insert("additionalProperties".into(), Value::Bool(false));
    }
}

/// Every verdict on `object`, in the order of its fields; with `old`, those of the transition from it too.
#[must_use]
pub fn admit(object: &Value, old: Option<&Value>) -> Vec<Violation> {
    let structure = structure(object);
    let mut found: Vec<Violation> = Vec::new();
    // As the API server does: what a rule may cost is known only within the bounds.
    if !structure.iter().any(|(fault, _)| *fault == Fault::Unbounded) {
        found.extend(rules(object, old, structure.is_empty()));
    }
    let (mistyped, other): (Vec<_>, Vec<_>) = structure.into_iter().partition(|(fault, _)| *fault == Fault::Mistyped);
    found.extend(other.into_iter().map(|(_, violation)| violation));
    found.retain(|violation| !mistyped.iter().any(|(_, mistyped)| mistyped.field == violation.field));
    found.extend(mistyped.into_iter().map(|(_, violation)| violation));
    ordered(found)
}

/// By field, each once.
pub(crate) fn ordered(mut found: Vec<Violation>) -> Vec<Violation> {
    let mut seen = BTreeSet::new();
    found.retain(|violation| seen.insert(violation.clone()));
    found.sort_by(|a, b| a.field.cmp(&b.field));
    found
}

/// The fields of a status that the schema does not name. Nothing else of it is judged: it is never taken from a manifest.
pub(crate) fn unknown_in_status(status: &Value) -> Vec<Violation> {
    let all = structure(&json!({ "status": status })).into_iter().map(|(_, violation)| violation);
    all.filter(|violation| violation.field.starts_with("status.") && violation.problem == UNKNOWN).collect()
}

fn structure(object: &Value) -> Vec<(Fault, Violation)> {
    let Some(structure) = &GATE.structure else {
        let problem = "the generated schema could not be compiled";
        return vec![(Fault::Other, Violation::new("", problem, "this is a defect; report it"))];
    };
    let worded = |error: &jsonschema::ValidationError<'_>| {
        let fault = Fault::of(error);
        worded(error, &GATE.schema).into_iter().map(move |violation| (fault, violation)).collect::<Vec<_>>()
    };
    structure.iter_errors(object).flat_map(|error| worded(&error)).collect()
}

/// Where the structure is unsound a rule may trip over it; that says nothing new and is left out.
fn rules(object: &Value, old: Option<&Value>, is_sound: bool) -> Vec<Violation> {
    let errors = match kube::core::cel::Validator::new().validate_compiled(&GATE.rules, object, old) {
        Ok(()) => return Vec::new(),
        Err(errors) => errors.into_vec(),
    };
    errors
        .into_iter()
        .filter(|error| is_sound || error.kind == ErrorKind::ValidationFailure)
        .map(|error| match error.kind {
            ErrorKind::ValidationFailure => Violation::from_message(error.field_path, &error.message),
            // Not the rule's verdict but ours: fail closed, without the value the evaluator may have put into its text.
            _ => Violation::new(
                error.field_path,
                "could not be judged by an admission rule",
                "check its form and that of its neighbours",
            ),
        })
        .collect()
}
