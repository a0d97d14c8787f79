//! The manifest the demo applies: the example of the repository with the ids of the world just made in place of its
//! placeholders. Text in, text out, so that what people read in `examples/` is what runs.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Deserialize as _;
use serde_json::Value;

use crate::pace::Waits;

/// The example, as it is in the repository.
pub const EXAMPLE: &str = include_str!("../../examples/elasticache-to-upstash.yaml");

/// The object over the store in use, as it is in the repository.
pub const ADOPTED: &str = include_str!("../../examples/cluster/elasticache.yaml");
/// The same object, edited to move.
pub const EDITED: &str = include_str!("../../examples/cluster/upstash.yaml");

const CONNECTOR: &str =
    "arn:aws:apprunner:us-east-1:123456789012:vpcconnector/liberty-vpc/1/0123456789abcdef0123456789abcdef";
const RULE: &str = "sgr-0123456789abcdef0";
const EMAIL: &str = "you@example.com";
const API_KEY: &str = "00000000-0000-0000-0000-000000000000";

/// What replaces the placeholders.
#[derive(Debug, Clone, Copy)]
pub struct Ids<'a> {
    /// ARN of the connector.
    pub connector: &'a str,
    /// Id of the security-group rule.
    pub rule: &'a str,
    /// Email of the Upstash account.
    pub email: &'a str,
    /// Key of its management API.
    pub api_key: &'a str,
}

/// A placeholder is not in the example exactly once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the manifest must hold the placeholder {0} exactly once: take the example as it is")]
pub struct PlaceholderError(&'static str);

/// The example with the ids of a world.
///
/// # Errors
/// When a placeholder is missing or there twice.
pub fn concrete(example: &str, ids: Ids<'_>) -> Result<String, PlaceholderError> {
    put(example, &[(CONNECTOR, ids.connector), (RULE, ids.rule), (EMAIL, ids.email), (API_KEY, ids.api_key)])
}

/// The edited object with the ids of a world; its Secrets are documents of their own.
///
/// # Errors
/// When a placeholder is missing or there twice.
pub fn edited(example: &str, connector: &str, rule: &str) -> Result<String, PlaceholderError> {
    put(example, &[(CONNECTOR, connector), (RULE, rule)])
}

/// A Secret as a document.
pub fn secret(name: &str, data: &[(&str, &str)]) -> String {
    let mut text = format!("apiVersion: v1\nkind: Secret\nmetadata: {{ name: {name} }}\nstringData:\n");
    for (key, value) in data {
        // A JSON string is a YAML string whatever is in it.
        let _ = writeln!(text, "  {key}: {}", Value::from(*value));
    }
    text
}

fn put(example: &str, places: &[(&'static str, &str)]) -> Result<String, PlaceholderError> {
    places.iter().try_fold(example.to_owned(), |text, (placeholder, id)| {
        if text.matches(placeholder).count() == 1 {
            Ok(text.replace(placeholder, id))
        } else {
            Err(PlaceholderError(placeholder))
        }
    })
}

/// The waits a manifest asks for; one that is not written in seconds counts as none.
pub fn waits(manifest: &str) -> Waits {
    let documents =
        serde_yaml::Deserializer::from_str(manifest).filter_map(|document| Value::deserialize(document).ok());
    let spec = documents.map(|mut document| document["spec"].take()).find(Value::is_object).unwrap_or_default();
    let seconds = |value: &Value| {
        let text = value.as_str().and_then(|text| text.strip_suffix('s')).unwrap_or_default();
        Duration::from_secs(text.parse().unwrap_or_default())
    };
    Waits {
        longest_request: seconds(&spec["app"]["longestRequest"]),
        bake_time: seconds(&spec["migration"]["bakeTime"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_are_the_examples() {
        let waits = waits(EXAMPLE);
        assert_eq!((waits.longest_request.as_secs(), waits.bake_time.as_secs()), (5, 20));
    }

    #[test]
    fn the_example_becomes_concrete_and_stays_yaml() {
        let ids = Ids { connector: "arn:made", rule: "sgr-made", email: "a@b.example", api_key: "made-key" };
        let text = concrete(EXAMPLE, ids).unwrap();
        let documents: Vec<Value> =
            serde_yaml::Deserializer::from_str(&text).map(|doc| Value::deserialize(doc).unwrap()).collect();
        assert_eq!(documents[0]["stringData"]["apiKey"], "made-key");
        let removed = &documents[1]["spec"]["migration"]["retire"]["alsoRemove"];
        assert_eq!(removed[0]["vpcConnectorArn"], "arn:made");
        assert_eq!(removed[1]["securityGroupRuleId"], "sgr-made");
        assert_eq!(documents[1]["spec"]["app"]["longestRequest"], "5s");
    }

    #[test]
    fn an_example_without_its_placeholders_is_refused() {
        let ids = Ids { connector: "a", rule: "b", email: "c", api_key: "d" };
        assert_eq!(concrete("nothing here", ids), Err(PlaceholderError(CONNECTOR)));
    }
}
