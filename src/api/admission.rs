//! The verdicts of an API server that has our definition, given here: the same schema, strictly, and the same rules.
//! Both runtimes ask again at every reconciliation: an object may have been stored before a rule existed.
//! A message never repeats a value: a secret may have been pasted anywhere.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use kube::core::cel::{CompiledSchema, ErrorKind, compile_schema};
use serde_json::{Value, json};

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
    let mut found = structure(object);
    let is_sound = found.is_empty();
    // As the API server does: what a rule may cost is known only within the bounds.
    if !found.iter().any(|violation| violation.problem.contains(UNBOUNDED)) {
        found.extend(rules(object, old, is_sound));
    }
    // Of a value of the wrong type nothing else is worth saying.
    let mistyped: BTreeSet<String> =
        found.iter().filter(|it| it.problem.starts_with(MISTYPED)).map(|it| it.field.clone()).collect();
    found.retain(|violation| violation.problem.starts_with(MISTYPED) || !mistyped.contains(&violation.field));
    ordered(found)
}

/// By field, each once.
pub(crate) fn ordered(mut found: Vec<Violation>) -> Vec<Violation> {
    let mut seen = BTreeSet::new();
    found.retain(|violation| seen.insert(violation.clone()));
    found.sort_by(|a, b| a.field.cmp(&b.field));
    found
}

/// What the problem of a value beyond its bounds contains.
const UNBOUNDED: &str = " more than ";
/// How the problem of a value of another type begins.
const MISTYPED: &str = "has the wrong type: ";

fn structure(object: &Value) -> Vec<Violation> {
    let Some(structure) = &GATE.structure else {
        return vec![Violation::new("", "the generated schema could not be compiled", "this is a defect; report it")];
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

fn worded(error: &jsonschema::ValidationError<'_>) -> Vec<Violation> {
    let field = path(error.instance_path().as_str());
    let at = |name: &str| if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") };
    let schema = schema_at(error.instance_path().as_str());
    let one = |problem: String, remedy: String| vec![Violation::new(field.clone(), problem, remedy)];
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => unexpected
            .iter()
            .map(|name| {
                Violation::new(
                    at(&printable(name)),
                    "is no known field",
                    suggestion(name, &known_fields(schema), "field"),
                )
            })
            .collect(),
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let description = schema.pointer(&format!("/properties/{name}/description")).and_then(Value::as_str);
            let first = description.and_then(|text| text.split(". ").next()).map(|text| text.trim_end_matches('.'));
            vec![Violation::new(
                at(name),
                "is required",
                first.map_or_else(|| "add it".to_owned(), |first| format!("add it: {}", lower(first))),
            )]
        }
        ValidationErrorKind::Enum { options } => {
            let options: Vec<String> =
                options.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
            let given = error.instance().as_str().unwrap_or_default();
            one("is none of the supported values".to_owned(), suggestion(given, &options, "value"))
        }
        ValidationErrorKind::Type { kind } => {
            let wanted = match kind {
                TypeKind::Single(kind) => kind.to_string(),
                TypeKind::Multiple(_) => "value of another type".to_owned(),
            };
            one(format!("{MISTYPED}{}", type_name(error.instance())), format!("write {}", article(&wanted)))
        }
        ValidationErrorKind::MaxLength { limit } => {
            one(format!("has{UNBOUNDED}{limit} characters"), "shorten it".to_owned())
        }
        ValidationErrorKind::MinLength { limit } => {
            one(format!("is shorter than {limit} characters"), "fill it in, or leave it out".to_owned())
        }
        ValidationErrorKind::MaxItems { limit } => {
            one(format!("has{UNBOUNDED}{limit} entries"), "remove some".to_owned())
        }
        ValidationErrorKind::MinItems { limit: 1 } | ValidationErrorKind::MinProperties { limit: 1 } => {
            one("is empty".to_owned(), "add an entry".to_owned())
        }
        ValidationErrorKind::MinItems { limit } => {
            one(format!("has fewer than {limit} entries"), "add some".to_owned())
        }
        ValidationErrorKind::MaxProperties { limit } => {
            one(format!("has{UNBOUNDED}{limit} entries"), "remove some".to_owned())
        }
        ValidationErrorKind::MinProperties { limit } => {
            one(format!("has fewer than {limit} entries"), "add one".to_owned())
        }
        ValidationErrorKind::Maximum { .. } | ValidationErrorKind::Minimum { .. } => {
            let limit = |name: &str| {
                schema.get(name).map(ToString::to_string).map(|text| text.trim_end_matches(".0").to_owned())
            };
            let range = match (limit("minimum"), limit("maximum")) {
                (Some(least), Some(most)) => format!("write a number between {least} and {most}"),
                (Some(least), None) => format!("write a number of at least {least}"),
                (None, most) => format!("write a number of at most {}", most.unwrap_or_default()),
            };
            one("is out of range".to_owned(), range)
        }
        // The generated schema has no other keyword; should one come, it is refused with the validator's keyword.
        other => {
            one(format!("does not satisfy {}", other.keyword()), "see `kubectl explain sessionbackend`".to_owned())
        }
    }
}

/// `/spec/services/0/name` → `spec.services[0].name`.
fn path(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")) {
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            path.push_str(&format!("[{part}]"));
        } else {
            let dot = if path.is_empty() { "" } else { "." };
            path.push_str(&format!("{dot}{}", printable(&part)));
        }
    }
    path
}

/// The schema of the value at `pointer`.
fn schema_at(pointer: &str) -> &'static Value {
    let mut schema = &GATE.schema;
    for part in pointer.split('/').skip(1) {
        let step = schema.get("properties").and_then(|properties| properties.get(part));
        let Some(next) = step.or_else(|| schema.get("items")).or_else(|| schema.get("additionalProperties")) else {
            return &Value::Null;
        };
        schema = next;
    }
    schema
}

fn known_fields(schema: &Value) -> Vec<String> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

/// The nearest of `known`, or all of them.
fn suggestion(given: &str, known: &[String], what: &str) -> String {
    let nearest = known.iter().map(|name| (distance(&given.to_lowercase(), &name.to_lowercase()), name)).min();
    match nearest {
        Some((far, name)) if far * 3 <= name.len().max(given.len()) => format!("did you mean {name}?"),
        Some((_, only)) if known.len() == 1 => {
            if what == "field" {
                format!("remove it; the only field here is {only}")
            } else {
                format!("write {only}")
            }
        }
        Some(_) => {
            let known = known.join(", ");
            if what == "field" {
                format!("remove it; the fields here are {known}")
            } else {
                format!("write one of {known}")
            }
        }
        None => "remove it; nothing is set here".to_owned(),
    }
}

/// Typing errors between two names: letters left out, added, replaced, or swapped with a neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least = (rows[i][j] + usize::from(x != y)).min(row[j] + 1).min(rows[i][j + 1] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// A name out of the manifest, safe to print.
fn printable(name: &str) -> String {
    crate::error::presentable(name, 80)
}

fn lower(sentence: &str) -> String {
    let mut chars = sentence.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain([second]).chain(chars).collect()
        }
        _ => sentence.to_owned(),
    }
}

fn article(kind: &str) -> String {
    match kind {
        "object" => "a map of fields".to_owned(),
        "array" => "a list".to_owned(),
        "string" => "text, in quotes where YAML would read something else".to_owned(),
        "integer" => "a whole number".to_owned(),
        "boolean" => "true or false".to_owned(),
        other => format!("a {other}"),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map of fields",
    }
}
