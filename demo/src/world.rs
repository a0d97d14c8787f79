//! The world of the story, seen through the clouds' own operations: what the service is told, what was made by hand
//! and by `sessionbackend`, what is gone. Only `world/wire.rs` makes anything, before the move; nothing touches what
//! `sessionbackend` makes.

mod left;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::pace;
use crate::sandbox::{Sandbox, SandboxError};

pub use left::{Made, made};
pub use wire::{canaries, own_variables, wire};

/// Name of the service.
pub const SERVICE: &str = "liberty-web";
/// Name under which the sample app is known as an image.
pub const IMAGE: &str = "123456789012.dkr.ecr.us-east-1.amazonaws.com/liberty-web:2026-11";
/// The variable that tells the service its store.
pub const VARIABLE: &str = "REDIS_URL";
/// Instances of the service.
pub const INSTANCES: u32 = 3;
const GROUP: &str = "liberty";
/// Name of the new database in the manifest.
const NEW_STORE: &str = "liberty";

/// What was made, as far as the story needs it again.
#[derive(Debug, Clone)]
pub struct World {
    /// The VPC, from inside which the move is run.
    pub vpc: String,
    /// The rule that lets the service reach its store.
    pub rule: String,
    /// The connector of the service.
    pub connector: String,
    /// The service.
    pub service_arn: String,
    /// Its public address, without scheme.
    pub host: String,
    /// Host and port of its store.
    pub store: String,
    /// Its configuration before the move.
    pub before: Configuration,
    /// What else is there, by id.
    pub things: BTreeSet<String>,
    /// How the store's keyspace notifications are set, where they can be.
    pub notify: Option<String>,
}

/// What the service is told, as App Runner shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// Plain variables.
    pub variables: BTreeMap<String, String>,
    /// References to secrets.
    pub secrets: BTreeMap<String, String>,
    /// The egress, as a whole.
    pub egress: Value,
}

impl Configuration {
    fn read(service: &Value) -> Self {
        let image = &service["SourceConfiguration"]["ImageRepository"]["ImageConfiguration"];
        Self {
            variables: strings(&image["RuntimeEnvironmentVariables"]),
            secrets: strings(&image["RuntimeEnvironmentSecrets"]),
            egress: service["NetworkConfiguration"]["EgressConfiguration"].clone(),
        }
    }

    /// The reference or value that tells the service its store.
    pub fn store_variable(&self) -> Option<&str> {
        self.secrets.get(VARIABLE).or_else(|| self.variables.get(VARIABLE)).map(String::as_str)
    }

    /// Names of everything but the store variable that differs in any bit, is missing or was added.
    pub fn foreign_changes(&self, after: &Self) -> Vec<String> {
        let differing = |mine: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>| {
            let names = mine.keys().chain(theirs.keys()).filter(|name| *name != VARIABLE);
            names.filter(|name| mine.get(*name) != theirs.get(*name)).cloned().collect::<Vec<_>>()
        };
        let mut names = differing(&self.variables, &after.variables);
        names.extend(differing(&self.secrets, &after.secrets));
        names.sort();
        names.dedup();
        names
    }

    /// How many variables and secrets are foreign.
    pub fn foreign(&self) -> usize {
        self.variables.keys().chain(self.secrets.keys()).filter(|name| *name != VARIABLE).count()
    }
}

/// What the service is told now.
///
/// # Errors
/// The vendor's error.
pub async fn configuration(sandbox: &Sandbox, service_arn: &str) -> Result<Configuration, SandboxError> {
    let answer = sandbox.call("apprunner", "DescribeService", json!({ "ServiceArn": service_arn })).await?;
    Ok(Configuration::read(&answer["Service"]))
}

/// How long each operation of the service took since its creation, in seconds.
///
/// # Errors
/// The vendor's error.
pub async fn operations(sandbox: &Sandbox, service_arn: &str) -> Result<Vec<f64>, SandboxError> {
    let listed = sandbox.call("apprunner", "ListOperations", json!({ "ServiceArn": service_arn })).await?;
    Ok(pace::lengths(&listed))
}

/// Which of what was made by hand for the old way is gone.
///
/// # Errors
/// The vendor's error.
pub async fn removed(sandbox: &Sandbox, world: &World) -> Result<Vec<String>, SandboxError> {
    let connectors = sandbox.call("apprunner", "ListVpcConnectors", json!({})).await?;
    let rules = sandbox.call("ec2", "DescribeSecurityGroupRules", json!({})).await?;
    let listed = |list: &Value, member: &str, id: &str| {
        list.as_array()
            .is_some_and(|list| list.iter().any(|entry| entry[member] == id && entry["Status"] != "INACTIVE"))
    };
    let mut gone = Vec::new();
    if !listed(&connectors["VpcConnectors"], "VpcConnectorArn", &world.connector) {
        gone.push(world.connector.clone());
    }
    if !listed(&rules["SecurityGroupRules"], "SecurityGroupRuleId", &world.rule) {
        gone.push(world.rule.clone());
    }
    Ok(gone)
}

/// Whether the old store is still there and available.
///
/// # Errors
/// The vendor's error.
pub async fn old_store_available(sandbox: &Sandbox) -> Result<bool, SandboxError> {
    let groups = sandbox.call("elasticache", "DescribeReplicationGroups", json!({})).await?;
    let groups = groups["ReplicationGroups"].as_array().cloned().unwrap_or_default();
    Ok(groups.iter().any(|group| group["ReplicationGroupId"] == GROUP && group["Status"] == "available"))
}

/// Id of the new store: its name is the old one's too, and a fault must not meet the wrong one.
///
/// # Errors
/// The vendor's error, or that there is no such database.
pub async fn new_store(sandbox: &Sandbox) -> Result<String, SandboxError> {
    let databases = sandbox.call("upstash", "ListDatabases", json!({})).await?;
    let named = databases.as_array().into_iter().flatten().find(|database| database["database_name"] == NEW_STORE);
    named.map(|database| text(&database["database_id"])).ok_or_else(|| SandboxError::Command {
        command: "call upstash ListDatabases".to_owned(),
        message: format!("no database is named {NEW_STORE}"),
    })
}

/// The new store's password, as its vendor knows it.
///
/// # Errors
/// The vendor's error.
pub async fn new_password(sandbox: &Sandbox) -> Result<String, SandboxError> {
    let id = new_store(sandbox).await?;
    let database = sandbox.call("upstash", "GetDatabase", json!({ "id": id, "database_id": id })).await?;
    Ok(text(&database["password"]))
}

/// A member that must be a string; what is missing becomes an empty name, which the next call refuses by name.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn strings(map: &Value) -> BTreeMap<String, String> {
    map.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(variables: &[(&str, &str)], secrets: &[(&str, &str)]) -> Configuration {
        Configuration::read(&json!({
            "SourceConfiguration": { "ImageRepository": { "ImageConfiguration": {
                "RuntimeEnvironmentVariables": variables.iter().copied().collect::<BTreeMap<_, _>>(),
                "RuntimeEnvironmentSecrets": secrets.iter().copied().collect::<BTreeMap<_, _>>(),
            } } },
            "NetworkConfiguration": { "EgressConfiguration": { "EgressType": "DEFAULT" } },
        }))
    }

    #[test]
    fn only_the_store_variable_may_change() {
        let before = configuration(&[("A", "1"), ("B", "x ")], &[(VARIABLE, "old"), ("KEY", "arn")]);
        assert_eq!(before.foreign(), 3);
        let moved = configuration(&[("A", "1"), ("B", "x ")], &[(VARIABLE, "new"), ("KEY", "arn")]);
        assert!(before.foreign_changes(&moved).is_empty());
        assert_eq!(moved.store_variable(), Some("new"));
    }

    #[test]
    fn every_other_difference_is_named() {
        let before = configuration(&[("A", "1"), ("B", "x "), ("C", "c")], &[("KEY", "arn")]);
        let after = configuration(&[("A", "1"), ("B", "x"), ("D", "d")], &[("KEY", "arn2"), ("C", "c")]);
        assert_eq!(before.foreign_changes(&after), ["B", "C", "D", "KEY"]);
    }
}
