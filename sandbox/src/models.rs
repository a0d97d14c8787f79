//! The vendors' own service descriptions (`sandbox/models/*.json`): names on the wire, list members, limits, error codes.
//! Read once; nothing here knows what an operation does.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;

/// How a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// awsJson1_0 and 1_1.
    Json,
    /// awsQuery: form in, XML with a result wrapper out.
    Query,
    /// ec2Query: flattened lists, no wrapper.
    Ec2,
}

/// One service.
#[derive(Debug, Deserialize)]
pub struct Model {
    /// Name used throughout the sandbox, such as `secretsmanager`.
    pub service: String,
    /// Wire protocol.
    pub protocol: Protocol,
    /// API version, as the query protocols send it.
    pub version: String,
    /// `1.0` or `1.1` for the JSON protocols.
    pub json: Option<String>,
    /// Prefix of `X-Amz-Target`.
    pub target: Option<String>,
    /// Namespace of XML answers.
    pub xmlns: Option<String>,
    /// Service name in a credential scope.
    pub signing: String,
    /// By name.
    pub operations: BTreeMap<String, Operation>,
    /// HTTP status by error code.
    pub errors: BTreeMap<String, u16>,
    /// By name.
    pub shapes: BTreeMap<String, Shape>,
}

/// One operation.
#[derive(Debug, Deserialize)]
pub struct Operation {
    /// Input shape.
    #[serde(rename = "i")]
    pub input: Option<String>,
    /// Output shape.
    #[serde(rename = "o")]
    pub output: Option<String>,
    /// Element around the result (awsQuery).
    #[serde(rename = "w")]
    pub wrapper: Option<String>,
}

/// One shape.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Shape {
    /// structure, list, map, string, integer, long, double, float, boolean, timestamp, blob.
    #[serde(rename = "t")]
    pub kind: String,
    /// Members of a structure.
    #[serde(rename = "m")]
    pub members: BTreeMap<String, Reference>,
    /// Members that must be there.
    #[serde(rename = "r")]
    pub required: Vec<String>,
    /// Element of a list.
    #[serde(rename = "e")]
    pub element: Option<Reference>,
    /// Key of a map.
    #[serde(rename = "k")]
    pub key: Option<Reference>,
    /// Value of a map.
    #[serde(rename = "v")]
    pub value: Option<Reference>,
    /// Least length or number.
    pub min: Option<f64>,
    /// Greatest length or number.
    pub max: Option<f64>,
    /// Allowed words.
    #[serde(rename = "enum")]
    pub words: Vec<String>,
    /// A list without an element around it.
    pub flattened: bool,
}

/// A use of a shape.
#[derive(Debug, Deserialize)]
pub struct Reference {
    /// Name of the shape.
    #[serde(rename = "s")]
    pub shape: String,
    /// `locationName`.
    #[serde(rename = "n")]
    pub location: Option<String>,
    /// `queryName` (ec2Query).
    #[serde(rename = "q")]
    pub query: Option<String>,
    /// Flattened at this use.
    #[serde(rename = "f", default)]
    pub flattened: bool,
}

impl Model {
    /// The shape of that name; an empty one if the description has none.
    pub fn shape(&self, name: &str) -> &Shape {
        static NONE: OnceLock<Shape> = OnceLock::new();
        self.shapes.get(name).unwrap_or_else(|| NONE.get_or_init(Shape::default))
    }
}

/// Every service with a description.
pub fn all() -> &'static [Model] {
    static MODELS: OnceLock<Vec<Model>> = OnceLock::new();
    MODELS.get_or_init(|| {
        [
            include_str!("../models/apprunner.json"),
            include_str!("../models/ec2.json"),
            include_str!("../models/elasticache.json"),
            include_str!("../models/iam.json"),
            include_str!("../models/secretsmanager.json"),
            include_str!("../models/logs.json"),
            include_str!("../models/sts.json"),
        ]
        .iter()
        .filter_map(|text| serde_json::from_str(text).ok())
        .collect()
    })
}

/// The service of that name (ours, not the signing name).
pub fn by_name(service: &str) -> Option<&'static Model> {
    all().iter().find(|m| m.service == service)
}

/// What is wrong with an input: the member's path and the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A member of the wrong JSON type.
    Type(String),
    /// A required member is missing.
    Missing(String),
    /// A value outside its limits; the second is the rule in the vendor's words.
    Constraint(String, String),
}

impl Model {
    /// Drops nulls and unknown members (as the vendors do) and checks types, required members, words and limits.
    ///
    /// # Errors
    /// The first violation, in the order of the description.
    pub fn admit(&self, shape: &str, value: Value) -> Result<Value, Violation> {
        self.admit_at(shape, value, "")
    }

    fn admit_at(&self, name: &str, value: Value, path: &str) -> Result<Value, Violation> {
        let shape = self.shape(name);
        let wrong = || Violation::Type(path.to_owned());
        match (shape.kind.as_str(), value) {
            ("structure", Value::Object(mut given)) => {
                let mut kept = serde_json::Map::new();
                for (member, reference) in &shape.members {
                    let at = if path.is_empty() { member.clone() } else { format!("{path}.{member}") };
                    match given.remove(member) {
                        None | Some(Value::Null) if shape.required.contains(member) => {
                            return Err(Violation::Missing(at));
                        }
                        None | Some(Value::Null) => {}
                        Some(value) => {
                            kept.insert(member.clone(), self.admit_at(&reference.shape, value, &at)?);
                        }
                    }
                }
                Ok(Value::Object(kept))
            }
            ("list", Value::Array(items)) => {
                limits(shape, size(items.len()), "length", path)?;
                let element = shape.element.as_ref().map_or("", |e| e.shape.as_str());
                let admit = |(i, item)| self.admit_at(element, item, &format!("{path}.{}", i + 1));
                Ok(Value::Array(items.into_iter().enumerate().map(admit).collect::<Result<_, _>>()?))
            }
            ("map", Value::Object(entries)) => {
                let (key, value) =
                    (shape.key.as_ref().map_or("", |k| &k.shape), shape.value.as_ref().map_or("", |v| &v.shape));
                let mut kept = serde_json::Map::new();
                for (name, entry) in entries {
                    let at = format!("{path}.{name}");
                    self.admit_at(key, Value::String(name.clone()), &at)?;
                    kept.insert(name, self.admit_at(value, entry, &at)?);
                }
                Ok(Value::Object(kept))
            }
            ("string", Value::String(text)) => {
                limits(shape, size(text.chars().count()), "length", path)?;
                if !shape.words.is_empty() && !shape.words.contains(&text) {
                    let rule = format!("Member must satisfy enum value set: [{}]", shape.words.join(", "));
                    return Err(Violation::Constraint(path.to_owned(), rule));
                }
                Ok(Value::String(text))
            }
            ("blob", value @ Value::String(_)) | ("boolean", value @ Value::Bool(_)) => Ok(value),
            ("integer" | "long", Value::Number(number)) if number.is_i64() || number.is_u64() => {
                limits(shape, number.as_f64().unwrap_or_default(), "value", path)?;
                Ok(Value::Number(number))
            }
            ("double" | "float" | "timestamp", Value::Number(number)) => Ok(Value::Number(number)),
            _ => Err(wrong()),
        }
    }
}

impl Model {
    /// Members of an answer that the description of `shape` has not: a mistake of ours, which clients would not see.
    pub fn strangers(&self, shape: &str, value: &Value) -> Vec<String> {
        let shape = self.shape(shape);
        match (shape.kind.as_str(), value) {
            ("structure", Value::Object(members)) => members
                .iter()
                .flat_map(|(name, value)| match shape.members.get(name) {
                    None => vec![name.clone()],
                    Some(member) => {
                        let inner = self.strangers(&member.shape, value);
                        inner.into_iter().map(|path| format!("{name}.{path}")).collect()
                    }
                })
                .collect(),
            ("list", Value::Array(items)) => {
                let element = shape.element.as_ref().map_or("", |e| e.shape.as_str());
                items.iter().flat_map(|item| self.strangers(element, item)).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn size(length: usize) -> f64 {
    f64::from(u32::try_from(length).unwrap_or(u32::MAX))
}

fn limits(shape: &Shape, size: f64, what: &str, path: &str) -> Result<(), Violation> {
    let rule = match (shape.min, shape.max) {
        (Some(min), _) if size < min => format!("Member must have {what} greater than or equal to {min}"),
        (_, Some(max)) if size > max => format!("Member must have {what} less than or equal to {max}"),
        _ => return Ok(()),
    };
    Err(Violation::Constraint(path.to_owned(), rule))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_description_is_read() {
        assert_eq!(all().len(), 7);
        for model in all() {
            assert!(!model.operations.is_empty(), "{}", model.service);
        }
    }

    #[test]
    fn a_member_no_vendor_describes_is_named() {
        let model = by_name("apprunner").unwrap();
        let answer = json!({"ServiceSummaryList": [{"ServiceName": "a", "Nonsense": 1}], "Next": 2});
        let found = model.strangers("ListServicesResponse", &answer);
        assert_eq!(found, ["Next", "ServiceSummaryList.Nonsense"]);
    }

    #[test]
    fn admit_names_what_is_wrong() {
        let model = by_name("apprunner").unwrap();
        let bad = json!({"ServiceName": "abc"});
        assert_eq!(
            model.admit("CreateServiceRequest", bad),
            Err(Violation::Constraint(
                "ServiceName".into(),
                "Member must have length greater than or equal to 4".into()
            ))
        );
        assert_eq!(model.admit("StartDeploymentRequest", json!({})), Err(Violation::Missing("ServiceArn".into())));
        assert_eq!(
            model.admit("StartDeploymentRequest", json!({"ServiceArn": 4})),
            Err(Violation::Type("ServiceArn".into()))
        );
        let kept =
            model.admit("StartDeploymentRequest", json!({"ServiceArn": "arn:aws:apprunner:x", "Nonsense": 1})).unwrap();
        assert_eq!(kept, json!({"ServiceArn": "arn:aws:apprunner:x"}));
    }
}
