//! Errors of the structure in words: what is wrong and what to do, with the nearest name where one was misspelt.
//! Never a value of the manifest; names of fields are cut and stripped.

use std::fmt::Write as _;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use serde_json::Value;

use super::Violation;

/// What is said of a field the schema does not name.
pub(super) const UNKNOWN: &str = "is no known field";

/// What an error of the structure means for what is judged next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Of a value of another type nothing else is worth saying.
    Mistyped,
    /// Beyond the bounds nobody knows what a rule may cost.
    Unbounded,
    /// Nothing more.
    Other,
}

impl Fault {
    /// The fault of one error.
    pub(super) fn of(error: &jsonschema::ValidationError<'_>) -> Self {
        match error.kind() {
            ValidationErrorKind::Type { .. } => Self::Mistyped,
            ValidationErrorKind::MaxLength { .. }
            | ValidationErrorKind::MaxItems { .. }
            | ValidationErrorKind::MaxProperties { .. } => Self::Unbounded,
            _ => Self::Other,
        }
    }
}

/// What the user is told about one error of the structure.
pub(super) fn worded(error: &jsonschema::ValidationError<'_>, root: &Value) -> Vec<Violation> {
    let field = path(error.instance_path().as_str());
    let at = |name: &str| if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") };
    let schema = schema_at(error.instance_path().as_str(), root);
    let one = |problem: String, remedy: String| vec![Violation::new(field.clone(), problem, remedy)];
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => unexpected
            .iter()
            .map(|name| Violation::new(at(&printable(name)), UNKNOWN, suggestion(name, &known_fields(schema), "field")))
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
            one(format!("has the wrong type: {}", type_name(error.instance())), format!("write {}", article(&wanted)))
        }
        ValidationErrorKind::MaxLength { limit } => {
            one(format!("has more than {limit} characters"), "shorten it".to_owned())
        }
        ValidationErrorKind::MaxItems { limit } | ValidationErrorKind::MaxProperties { limit } => {
            one(format!("has more than {limit} entries"), "remove some".to_owned())
        }
        ValidationErrorKind::MinItems { .. } | ValidationErrorKind::MinProperties { .. } => {
            one("has too few entries".to_owned(), "add one".to_owned())
        }
        ValidationErrorKind::MinLength { .. } => {
            one("is too short".to_owned(), "fill it in, or leave it out".to_owned())
        }
        ValidationErrorKind::Pattern { pattern } => {
            one("has the wrong form".to_owned(), format!("write what matches {pattern}"))
        }
        ValidationErrorKind::Maximum { .. } | ValidationErrorKind::Minimum { .. } => {
            one("is out of range".to_owned(), range(schema))
        }
        // The generated schema has no other keyword; should one come, it is refused with the validator's keyword.
        other => {
            one(format!("does not satisfy {}", other.keyword()), "see `kubectl explain sessionbackend`".to_owned())
        }
    }
}

fn range(schema: &Value) -> String {
    let limit = |name: &str| schema.get(name).map(|limit| limit.to_string().trim_end_matches(".0").to_owned());
    match (limit("minimum"), limit("maximum")) {
        (Some(least), Some(most)) => format!("write a number between {least} and {most}"),
        (Some(least), None) => format!("write a number of at least {least}"),
        (None, most) => format!("write a number of at most {}", most.unwrap_or_default()),
    }
}

/// `/spec/services/0/name` → `spec.services[0].name`.
fn path(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")) {
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            let _ = write!(path, "[{part}]");
        } else {
            let dot = if path.is_empty() { "" } else { "." };
            let _ = write!(path, "{dot}{}", printable(&part));
        }
    }
    path
}

/// The schema of the value at `pointer`.
fn schema_at<'a>(pointer: &str, root: &'a Value) -> &'a Value {
    let mut schema = root;
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
