//! The built-in runbooks, and how they and the object's own checks become one list.
//! Pure: the files are part of the binary. What a document says is data there, never a constant in code.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::parse::check;
use super::{Check, CheckSpec};
use crate::error::presentable;

/// A built-in runbook taken into an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunbookRef {
    /// Its name, such as `DjangoChannels`.
    #[schemars(length(min = 1, max = 63), extend("enum" = FILES.map(|(name, _)| name)))]
    pub name: String,
    /// Changes by the name of the check: what is set here wins, what is not stays.
    #[serde(default, rename = "override", skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "changes")]
    pub overrides: BTreeMap<String, Map<String, Value>>,
}

/// A structural schema cannot say "any part of a check"; [`resolve`] says what is wrong in a change.
fn changes(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
    })
}

/// A runbook as it stands in its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Runbook {
    name: String,
    checks: Vec<CheckSpec>,
}

const FILES: [(&str, &str); 4] = [
    ("WebSocketSessions", include_str!("../../runbooks/web_socket_sessions.yaml")),
    ("DjangoChannels", include_str!("../../runbooks/django_channels.yaml")),
    ("FallbackFailover", include_str!("../../runbooks/fallback_failover.yaml")),
    ("TokenBridge", include_str!("../../runbooks/token_bridge.yaml")),
];

static BUILT_IN: LazyLock<BTreeMap<&'static str, Result<Runbook, String>>> = LazyLock::new(|| {
    let read = |text: &str| serde_yaml::from_str::<Runbook>(text).map_err(|error| error.to_string());
    FILES.iter().map(|(name, text)| (*name, read(text))).collect()
});

/// The names of the built-in runbooks.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// The checks of an object: those of its runbooks (`{ name, override: { check: … } }`) with their overrides, then its own
/// (each a [`CheckSpec`]). All or nothing.
///
/// # Errors
/// Every violation, as `field: problem; remedy`, the field counted from `spec.checks`. No value is repeated.
pub fn resolve(runbooks: &[Value], extra: &[Value]) -> Result<Vec<Check>, Vec<String>> {
    let mut violations = Vec::new();
    let mut checks: Vec<(String, Check)> = Vec::new();
    for (index, runbook) in runbooks.iter().enumerate() {
        let at = format!("runbooks[{index}]");
        match read(runbook, &at).and_then(|reference| overridden(&reference, &at)) {
            Ok(specs) => {
                for (spec, at) in specs {
                    admit(&spec, &at, &mut checks, &mut violations);
                }
            }
            Err(found) => violations.extend(found),
        }
    }
    for (index, spec) in extra.iter().enumerate() {
        let at = format!("extra[{index}]");
        match read(spec, &at) {
            Ok(spec) => admit(&spec, &at, &mut checks, &mut violations),
            Err(found) => violations.extend(found),
        }
    }
    if violations.is_empty() { Ok(checks.into_iter().map(|(_, check)| check).collect()) } else { Err(violations) }
}

fn read<T: DeserializeOwned>(value: &Value, at: &str) -> Result<T, Vec<String>> {
    T::deserialize(value).map_err(|error| vec![format!("{at}: {}", readable(&error))])
}

/// The reader's words in ours. Its own repeat the value that is wrong, which may be a secret in the wrong place.
fn readable(error: &serde_json::Error) -> String {
    let words = error.to_string();
    let (problem, expected) = words.split_once(", expected ").unwrap_or((&words, ""));
    let name = |prefix: &str| problem.strip_prefix(prefix).map(|name| presentable(name, 63));
    let expected = presentable(expected, 400);
    if let Some(field) = name("unknown field ") {
        format!("has an unknown field {field}; use {expected}")
    } else if let Some(value) = name("unknown variant ") {
        format!("has an unknown value {value}; use {expected}")
    } else if let Some(field) = name("missing field ") {
        format!("is missing field {field}; set it")
    } else {
        format!("has a value of the wrong type; use {expected}")
    }
}

fn admit(spec: &CheckSpec, at: &str, checks: &mut Vec<(String, Check)>, violations: &mut Vec<String>) {
    if spec.disabled == Some(true) {
        return;
    }
    match check(spec, at) {
        Ok(check) => match checks.iter().find(|(_, earlier)| earlier.name == check.name) {
            // Two runbooks may well ask for the same thing.
            Some((_, earlier)) if *earlier == check => {}
            Some((first, _)) => violations.push(format!(
                "{at}.name: {} is the name of another check, at {first}; rename it, or set disabled: true for one of them",
                check.name
            )),
            None => checks.push((at.to_owned(), check)),
        },
        Err(found) => violations.extend(found),
    }
}

/// The runbook's checks with the overrides applied, each with the field that a violation of it should name.
fn overridden(reference: &RunbookRef, at: &str) -> Result<Vec<(CheckSpec, String)>, Vec<String>> {
    let runbook = match BUILT_IN.get(reference.name.as_str()) {
        Some(Ok(runbook)) => runbook,
        Some(Err(error)) => {
            let name = &reference.name;
            return Err(vec![format!("{at}.name: {name} cannot be read ({error}); this is a defect, report it")]);
        }
        None => return Err(vec![unknown(&format!("{at}.name"), "runbook", &reference.name, names())]),
    };
    let mut violations = Vec::new();
    let mut specs: Vec<_> =
        runbook.checks.iter().map(|spec| (spec.clone(), format!("{at}({}).{}", runbook.name, spec.name))).collect();
    for (name, change) in &reference.overrides {
        let shown = presentable(name, 63);
        let at = format!("{at}.override.{shown}");
        match specs.iter_mut().find(|(spec, _)| spec.name == *name) {
            Some(_) if change.contains_key("name") => {
                violations.push(format!("{at}.name: must not be set; the key of the override is the check's name"));
            }
            Some(entry) => match merged(&entry.0, change) {
                Ok(spec) => *entry = (spec, at),
                Err(error) => violations.push(format!("{at}: {}", readable(&error))),
            },
            None => {
                let known = runbook.checks.iter().map(|spec| spec.name.as_str());
                violations.push(unknown(&at, &format!("check of {}", runbook.name), name, known));
            }
        }
    }
    if violations.is_empty() { Ok(specs) } else { Err(violations) }
}

/// `change` laid over `base`: maps are merged, everything else is replaced.
fn merged(base: &CheckSpec, change: &Map<String, Value>) -> Result<CheckSpec, serde_json::Error> {
    fn lay(base: &mut Value, change: &Value) {
        match (base, change) {
            (Value::Object(base), Value::Object(change)) => {
                for (key, value) in change {
                    lay(base.entry(key).or_insert(Value::Null), value);
                }
            }
            (base, change) => *base = change.clone(),
        }
    }
    let mut value = serde_json::to_value(base)?;
    for (key, change) in change {
        lay(&mut value[key], change);
    }
    serde_json::from_value(value)
}

fn unknown<'a>(field: &str, what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<_> = known.collect();
    let near = known.iter().map(|candidate| (distance(name, candidate), *candidate)).min();
    let shown = presentable(name, 63);
    match near {
        Some((distance, candidate)) if distance <= candidate.len() / 3 => {
            format!("{field}: there is no {what} named {shown}; did you mean {candidate}?")
        }
        _ => format!("{field}: there is no {what} named {shown}; use one of {}", known.join(", ")),
    }
}

/// Edits between two names, case ignored.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    // A name this long is no slip of the pen.
    if a.len() > 128 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
