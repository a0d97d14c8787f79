//! References in an environment, resolved while deploying and never else, through the instance role.

use std::collections::BTreeMap;

use serde_json::Value;

use super::config::runtime_of;
use crate::api::policy;
use crate::state::{State, apprunner::Config, secrets::Content};

/// The whole environment of a configuration, or why it cannot be had. The text never holds a value.
pub(super) fn environment(state: &State, config: &Config) -> Result<BTreeMap<String, String>, String> {
    let runtime = runtime_of(&config.source);
    let mut env: BTreeMap<String, String> = members(runtime, "RuntimeEnvironmentVariables").collect();
    for (name, reference) in members(runtime, "RuntimeEnvironmentSecrets") {
        env.insert(name, resolve(state, config, &reference)?);
    }
    env.insert("PORT".into(), runtime["Port"].as_str().unwrap_or("8080").to_owned());
    Ok(env)
}

fn members<'a>(runtime: &'a Value, member: &str) -> impl Iterator<Item = (String, String)> + 'a {
    let map = runtime[member].as_object();
    map.into_iter().flatten().map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
}

fn resolve(state: &State, config: &Config, reference: &str) -> Result<String, String> {
    // arn:aws:secretsmanager:region:account:secret:name-AbCdEf[:json-key[:stage[:version]]]
    let parts: Vec<&str> = reference.split(':').collect();
    if parts.get(2) != Some(&"secretsmanager") || parts.len() < 7 {
        return Err(format!("the reference {reference} is not the ARN of a Secrets Manager secret"));
    }
    let arn = parts[..7].join(":");
    let part = |n: usize| parts.get(n).copied().filter(|p| !p.is_empty());
    let role = config.instance["InstanceRoleArn"].as_str().unwrap_or_default();
    let role = policy::role(state, role).ok_or_else(|| format!("the instance role {role} cannot be assumed"))?;
    if policy::decide(role, "secretsmanager:GetSecretValue", &arn) != policy::Decision::Allowed {
        return Err(format!(
            "AccessDeniedException: {} is not authorized to perform: secretsmanager:GetSecretValue on resource: {arn}",
            role.arn
        ));
    }
    let missing = || format!("ResourceNotFoundException: Secrets Manager can't find the specified secret {arn}");
    let secret = state.secrets.find(&arn).ok_or_else(missing)?;
    if secret.deleted.is_some() {
        return Err(format!("InvalidRequestException: the secret {arn} is marked for deletion"));
    }
    let version = match (part(9), part(8)) {
        (Some(id), _) => secret.versions.get(id),
        (None, label) => secret.staged(label.unwrap_or("AWSCURRENT")).map(|(_, version)| version),
    }
    .ok_or_else(missing)?;
    let Content::Text(text) = &version.value else { return Err(format!("the secret {arn} has no text value")) };
    let Some(key) = part(7) else { return Ok(text.to_string()) };
    let parsed: Value = serde_json::from_str(text).map_err(|_| format!("the secret {arn} is not JSON"))?;
    match &parsed[key] {
        Value::Null => Err(format!("the secret {arn} has no key {key}")),
        Value::String(value) => Ok(value.clone()),
        other => Ok(other.to_string()),
    }
}
