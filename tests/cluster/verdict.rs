//! Two verdicts on one object: the API server's and the command line's, brought into one form.

use std::collections::BTreeMap;
use std::process::Command;

use control_plane::fed;
use kube::core::Status;
use serde_json::Value;
use sessionbackend::api::admission::Violation;

/// One thing somebody refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Of which field; empty where nobody says.
    pub(crate) field: String,
    /// In which words.
    pub(crate) said: String,
}

impl Refusal {
    /// Whether both are about the same.
    pub(crate) fn is_about(&self, other: &Self) -> bool {
        self.field == other.field
    }
}

impl From<&Violation> for Refusal {
    fn from(violation: &Violation) -> Self {
        Self { field: violation.field.clone(), said: format!("{}; {}", violation.problem, violation.remedy) }
    }
}

/// What the API server said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Server {
    /// What it refuses.
    pub(crate) refused: Vec<Refusal>,
    /// It looked no further: a rule may have more to say.
    pub(crate) is_partial: bool,
}

impl Server {
    pub(crate) fn of(answer: Result<Value, Status>) -> Self {
        let Err(status) = answer else { return Self::default() };
        let causes = status.details.map(|details| details.causes).unwrap_or_default();
        let of_cause = |field: &str, said: &str| {
            // Where a number has a fraction, the server names the field in its words only.
            let field = if field == "<nil>" { said.rsplit(" in ").next().unwrap_or_default() } else { field };
            Refusal { field: dotted(field), said: said.to_owned() }
        };
        let mut refused: Vec<_> = causes.iter().map(|cause| of_cause(&cause.field, &cause.message)).collect();
        // The strict decoder comes first, and has its own form.
        let mut unknown = status.message.split("unknown field \"").skip(1);
        refused.extend(
            unknown
                .by_ref()
                .filter_map(|rest| rest.split_once('"'))
                .map(|(field, _)| Refusal { field: dotted(field), said: "unknown field".to_owned() }),
        );
        let is_partial = causes.is_empty() || status.message.contains("some validation rules were not checked");
        refused.retain(|refusal| !refusal.said.contains("some validation rules were not checked"));
        if refused.is_empty() {
            refused.push(Refusal { field: String::new(), said: status.message.clone() });
        }
        Self { refused, is_partial }
    }
}

/// A key of a map stands in brackets in some of the server's messages, and behind a dot in ours.
fn dotted(field: &str) -> String {
    let mut out = String::new();
    for (index, part) in field.split('[').enumerate() {
        let key = part.split(']').next().unwrap_or_default();
        match index {
            0 => out.push_str(part),
            _ if key.bytes().all(|byte| byte.is_ascii_digit()) => {
                out.push('[');
                out.push_str(part);
            }
            _ => {
                out.push('.');
                out.push_str(&part.replacen(']', "", 1));
            }
        }
    }
    out
}

/// What `sessionbackend validate -f -` refuses of each of the documents, all in one file.
pub(crate) fn validate(documents: &[Value]) -> BTreeMap<usize, Vec<Refusal>> {
    let file: Vec<_> = documents.iter().map(|document| serde_yaml::to_string(document).unwrap()).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sessionbackend"));
    let output = fed(command.args(["validate", "-o", "json", "-f", "-"]), &file.join("---\n")).unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let mut found: BTreeMap<usize, Vec<Refusal>> = BTreeMap::new();
    for mistake in answer["mistakes"].as_array().into_iter().flatten() {
        let text = |member: &str| mistake[member].as_str().unwrap().to_owned();
        // Two objects of one file that write one variable: nothing an API server knows of.
        let Some(number) = text("document").strip_prefix("document ").map(str::to_owned) else { continue };
        let number: usize = number.split(' ').next().unwrap().parse().unwrap();
        let said = format!("{}; {}", text("problem"), text("remedy"));
        found.entry(number - 1).or_default().push(Refusal { field: text("field"), said });
    }
    found
}

#[test]
fn a_key_in_brackets_is_the_same_as_one_behind_a_dot() {
    assert_eq!(dotted("spec.env.template[URL]"), "spec.env.template.URL");
    assert_eq!(dotted("spec.services[0].name"), "spec.services[0].name");
}
