//! AWS Secrets Manager: versions by request token, stages, a recovery window.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{ApiError, Call, Operation, Reply, epoch, page, required, strings, tags_in, tags_out, text, without_nulls};
use crate::state::secrets::{Content, Secret, Version};
use crate::state::{random, uuid};

const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";
/// Versions kept; older ones without a stage go first, none younger than a day.
const VERSIONS: usize = 100;

/// The function of an operation.
pub fn operation(name: &str) -> Option<Operation> {
    Some(match name {
        "CreateSecret" => create,
        "GetSecretValue" => get_value,
        "PutSecretValue" => put_value,
        "UpdateSecret" => update,
        "DescribeSecret" => describe,
        "DeleteSecret" => delete,
        "RestoreSecret" => restore,
        "ListSecrets" => list,
        "ListSecretVersionIds" => list_version_ids,
        "TagResource" => tag,
        "UntagResource" => untag,
        _ => return None,
    })
}

fn missing() -> ApiError {
    ApiError::new("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new("InvalidRequestException", message)
}

fn parameter(message: impl Into<String>) -> ApiError {
    ApiError::new("InvalidParameterException", message)
}

/// The secret meant; one scheduled for deletion takes part in nothing but describe, delete and restore.
fn find<'a>(call: &'a mut Call<'_>, input: &Value, deleted_too: bool) -> Result<&'a mut Secret, ApiError> {
    purge(call);
    let arn = call.state.secrets.arn_of(required(input, "SecretId")).ok_or_else(missing)?;
    let secret = call.state.secrets.secrets.get_mut(&arn).ok_or_else(missing)?;
    if secret.deleted.is_some() && !deleted_too {
        return Err(invalid("You can't perform this operation on the secret because it was marked for deletion."));
    }
    Ok(secret)
}

/// Secrets whose recovery window has passed are gone.
fn purge(call: &mut Call<'_>) {
    let now = call.now;
    call.state.secrets.secrets.retain(|_, s| s.deleted.is_none_or(|(_, end)| now < end));
}

fn content(input: &Value) -> Result<Option<Content>, ApiError> {
    match (text(input, "SecretString"), text(input, "SecretBinary")) {
        (Some(_), Some(_)) => Err(parameter("You can't specify both a binary secret value and a string secret value.")),
        (Some(value), None) if value.len() > 65_536 => Err(ApiError::new(
            "ValidationException",
            "1 validation error detected: Value at 'secretString' failed to \
                satisfy constraint: Member must have length less than or equal to 65536",
        )),
        (Some(value), None) => Ok(Some(Content::Text(value.into()))),
        (None, Some(value)) => Ok(Some(Content::Binary(value.into()))),
        (None, None) => Ok(None),
    }
}

fn create(call: &mut Call<'_>, input: &Value) -> Reply {
    purge(call);
    let name = required(input, "Name");
    let value = content(input)?;
    let lawful = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c);
    if !name.chars().all(lawful) {
        return Err(ApiError::new(
            "ValidationException",
            "Invalid name. Must be a valid name containing alphanumeric \
            characters, or any of the following: -/_+=.@!",
        ));
    }
    let token = token(input);
    if let Some(found) = call.state.secrets.secrets.values().find(|s| s.name == name) {
        if found.deleted.is_some() {
            return Err(invalid(
                "You can't create this secret because a secret with this name is already scheduled for deletion.",
            ));
        }
        // The same token with the same content is the same call again.
        if let (Some(version), Some(value)) = (found.versions.get(&token), &value)
            && version.value == *value
        {
            return Ok(json!({"ARN": found.arn, "Name": found.name, "VersionId": token}));
        }
        return Err(ApiError::new(
            "ResourceExistsException",
            format!("The operation failed because the secret {name} already exists."),
        ));
    }
    let suffix = random("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", 6);
    let arn = call.state.arn("secretsmanager", &format!("secret:{name}-{suffix}"));
    let mut secret = Secret {
        arn: arn.clone(),
        name: name.to_owned(),
        description: text(input, "Description").map(str::to_owned),
        kms: text(input, "KmsKeyId").map(str::to_owned),
        created: call.now,
        changed: call.now,
        deleted: None,
        versions: BTreeMap::new(),
        tags: tags_in(input, "Tags"),
    };
    let has_value = value.is_some();
    if let Some(value) = value {
        add(&mut secret, &token, value, &[CURRENT.to_owned()], call.now);
    }
    call.state.secrets.secrets.insert(arn.clone(), secret);
    Ok(without_nulls(json!({"ARN": arn, "Name": name, "VersionId": has_value.then_some(token)})))
}

fn token(input: &Value) -> String {
    text(input, "ClientRequestToken").map_or_else(uuid, str::to_owned)
}

/// A new version with its stages; AWSCURRENT leaves AWSPREVIOUS behind.
fn add(secret: &mut Secret, id: &str, value: Content, stages: &[String], now: Timestamp) {
    let order = secret.versions.values().map(|v| v.order).max().unwrap_or(0) + 1;
    let mut moved: BTreeSet<String> = stages.iter().cloned().collect();
    if moved.contains(CURRENT)
        && let Some(current) = secret.staged(CURRENT).map(|(id, _)| id.clone())
    {
        for version in secret.versions.values_mut() {
            version.stages.remove(PREVIOUS);
        }
        if let Some(version) = secret.versions.get_mut(&current) {
            version.stages.insert(PREVIOUS.to_owned());
        }
        moved.remove(PREVIOUS);
    }
    for version in secret.versions.values_mut() {
        version.stages.retain(|stage| !moved.contains(stage));
    }
    secret.versions.insert(id.to_owned(), Version { value, stages: moved, created: now, order });
    secret.changed = now;
    trim(secret, now);
}

fn trim(secret: &mut Secret, now: Timestamp) {
    while secret.versions.len() > VERSIONS {
        let old = |v: &Version| v.stages.is_empty() && now.duration_since(v.created) > SignedDuration::from_hours(24);
        let oldest = secret.versions.iter().filter(|(_, v)| old(v)).min_by_key(|(_, v)| v.order);
        let Some(id) = oldest.map(|(id, _)| id.clone()) else { return };
        secret.versions.remove(&id);
    }
}

fn get_value(call: &mut Call<'_>, input: &Value) -> Reply {
    let secret = find(call, input, false)?;
    let stage = text(input, "VersionStage");
    let (id, version) = match text(input, "VersionId") {
        Some(id) => secret.versions.get_key_value(id).filter(|(_, v)| stage.is_none_or(|s| v.stages.contains(s))),
        None => secret.staged(stage.unwrap_or(CURRENT)),
    }
    .ok_or_else(|| {
        let wanted = text(input, "VersionId")
            .map_or_else(|| format!("staging label: {}", stage.unwrap_or(CURRENT)), |id| format!("VersionId: {id}"));
        let text = format!("Secrets Manager can't find the specified secret value for {wanted}");
        ApiError::new("ResourceNotFoundException", text)
    })?;
    let (string, binary) = match &version.value {
        Content::Text(value) => (Some(value.to_string()), None),
        Content::Binary(value) => (None, Some(value.to_string())),
    };
    Ok(without_nulls(json!({"ARN": secret.arn, "Name": secret.name, "VersionId": id, "SecretString": string,
        "SecretBinary": binary, "VersionStages": version.stages, "CreatedDate": epoch(version.created)})))
}

fn put_value(call: &mut Call<'_>, input: &Value) -> Reply {
    let now = call.now;
    let value = content(input)?.ok_or_else(|| invalid("You must provide either SecretString or SecretBinary."))?;
    let token = token(input);
    let secret = find(call, input, false)?;
    let mut stages = strings(input, "VersionStages");
    if stages.is_empty() {
        stages.push(CURRENT.to_owned());
    }
    let answer = |secret: &Secret, token: &str| {
        json!({"ARN": secret.arn, "Name": secret.name, "VersionId": token,
            "VersionStages": secret.versions.get(token).map(|v| &v.stages)})
    };
    if let Some(version) = secret.versions.get(&token) {
        if version.value == value {
            return Ok(answer(secret, &token));
        }
        return Err(token_used(&token));
    }
    add(secret, &token, value, &stages, now);
    Ok(answer(secret, &token))
}

fn token_used(token: &str) -> ApiError {
    ApiError::new(
        "ResourceExistsException",
        format!(
            "The operation failed because the ClientRequestToken {token} is already associated with another version."
        ),
    )
}

fn update(call: &mut Call<'_>, input: &Value) -> Reply {
    let now = call.now;
    let value = content(input)?;
    let token = token(input);
    let secret = find(call, input, false)?;
    if value.is_some() && secret.versions.contains_key(&token) {
        return Err(token_used(&token));
    }
    if let Some(description) = text(input, "Description") {
        secret.description = Some(description.to_owned());
    }
    if let Some(key) = text(input, "KmsKeyId") {
        secret.kms = Some(key.to_owned());
    }
    secret.changed = now;
    let written = value.is_some();
    if let Some(value) = value {
        add(secret, &token, value, &[CURRENT.to_owned()], now);
    }
    Ok(without_nulls(json!({"ARN": secret.arn, "Name": secret.name, "VersionId": written.then_some(token)})))
}

fn shown(secret: &Secret) -> Value {
    json!({"ARN": secret.arn, "Name": secret.name, "Description": secret.description, "KmsKeyId": secret.kms,
        "CreatedDate": epoch(secret.created), "LastChangedDate": epoch(secret.changed),
        "DeletedDate": secret.deleted.map(|(at, _)| epoch(at)),
        "Tags": if secret.tags.is_empty() { Value::Null } else { tags_out(&secret.tags) }})
}

fn stages(secret: &Secret) -> Value {
    let staged = secret.versions.iter().filter(|(_, v)| !v.stages.is_empty());
    staged.map(|(id, v)| (id.clone(), json!(v.stages))).collect::<serde_json::Map<_, _>>().into()
}

fn describe(call: &mut Call<'_>, input: &Value) -> Reply {
    let secret = find(call, input, true)?;
    let mut out = shown(secret);
    out["VersionIdsToStages"] = stages(secret);
    Ok(without_nulls(out))
}

fn list_version_ids(call: &mut Call<'_>, input: &Value) -> Reply {
    let all = input["IncludeDeprecated"].as_bool().unwrap_or(false);
    let secret = find(call, input, true)?;
    let versions: Vec<Value> = secret
        .versions
        .iter()
        .filter(|(_, v)| all || !v.stages.is_empty())
        .map(|(id, v)| json!({"VersionId": id, "VersionStages": v.stages, "CreatedDate": epoch(v.created)}))
        .collect();
    Ok(json!({"ARN": secret.arn, "Name": secret.name, "Versions": versions}))
}

fn delete(call: &mut Call<'_>, input: &Value) -> Reply {
    let now = call.now;
    let force = input["ForceDeleteWithoutRecovery"].as_bool().unwrap_or(false);
    let window = input["RecoveryWindowInDays"].as_i64();
    match window {
        Some(_) if force => {
            return Err(parameter(
                "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.",
            ));
        }
        Some(days) if !(7..=30).contains(&days) => {
            return Err(parameter("The RecoveryWindowInDays value must be between 7 and 30 days (inclusive)."));
        }
        Some(_) | None => {}
    }
    let found = find(call, input, true).map(|secret| secret.arn.clone());
    if force {
        // Deleting by force what is not there is no error.
        let id = required(input, "SecretId");
        let arn = found.unwrap_or_else(|_| call.state.arn("secretsmanager", &format!("secret:{id}")));
        let gone = call.state.secrets.secrets.remove(&arn);
        let name = gone.map_or(id.to_owned(), |secret| secret.name);
        return Ok(json!({"ARN": arn, "Name": name, "DeletionDate": epoch(now)}));
    }
    let secret = call.state.secrets.secrets.get_mut(&found?).ok_or_else(missing)?;
    if secret.deleted.is_some() {
        return Err(invalid("You tried to perform the operation on a secret that's currently marked deleted."));
    }
    let end = now + SignedDuration::from_hours(24 * window.unwrap_or(30));
    secret.deleted = Some((now, end));
    Ok(json!({"ARN": secret.arn, "Name": secret.name, "DeletionDate": epoch(end)}))
}

fn restore(call: &mut Call<'_>, input: &Value) -> Reply {
    let secret = find(call, input, true)?;
    secret.deleted = None;
    Ok(json!({"ARN": secret.arn, "Name": secret.name}))
}

fn list(call: &mut Call<'_>, input: &Value) -> Reply {
    purge(call);
    let deleted = input["IncludePlannedDeletion"].as_bool().unwrap_or(false);
    let filters = input["Filters"].as_array().map(Vec::as_slice).unwrap_or_default();
    let all: Vec<Value> = call
        .state
        .secrets
        .secrets
        .values()
        .filter(|s| (deleted || s.deleted.is_none()) && filters.iter().all(|f| passes(s, f)))
        .map(|s| {
            let mut out = shown(s);
            out["SecretVersionsToStages"] = stages(s);
            out
        })
        .collect();
    let size = usize::try_from(input["MaxResults"].as_u64().unwrap_or(100).clamp(1, 100)).unwrap_or(100);
    let (items, next) = page(all, text(input, "NextToken"), size)
        .map_err(|()| ApiError::new("InvalidNextTokenException", "The NextToken value is invalid."))?;
    Ok(without_nulls(json!({"SecretList": items, "NextToken": next})))
}

/// Values are prefixes, `!` in front negates; several values are alternatives.
fn passes(secret: &Secret, filter: &Value) -> bool {
    let values = strings(filter, "Values");
    let texts: Vec<&str> = match text(filter, "Key").unwrap_or_default() {
        "name" => vec![&secret.name],
        "description" => secret.description.as_deref().into_iter().collect(),
        "tag-key" => secret.tags.keys().map(String::as_str).collect(),
        "tag-value" => secret.tags.values().map(String::as_str).collect(),
        "all" => std::iter::once(secret.name.as_str())
            .chain(secret.description.as_deref())
            .chain(secret.tags.iter().flat_map(|(k, v)| [k.as_str(), v.as_str()]))
            .collect(),
        _ => Vec::new(),
    };
    values.iter().any(|value| match value.strip_prefix('!') {
        Some(value) => !texts.iter().any(|text| text.starts_with(value)),
        None => texts.iter().any(|text| text.starts_with(value.as_str())),
    })
}

fn tag(call: &mut Call<'_>, input: &Value) -> Reply {
    let new = tags_in(input, "Tags");
    find(call, input, false)?.tags.extend(new);
    Ok(Value::Null)
}

fn untag(call: &mut Call<'_>, input: &Value) -> Reply {
    let keys = strings(input, "TagKeys");
    find(call, input, false)?.tags.retain(|key, _| !keys.contains(key));
    Ok(Value::Null)
}
