//! Tags of caches and subnet groups, by ARN.

use serde_json::{Value, json};

use super::{group, lifecycle};
use crate::api::{ApiError, Call, Reply, required, strings, tags_in, tags_out};
use crate::state::{State, Tags};

/// Tags a resource can have.
const MOST: usize = 50;

fn tags_of<'a>(state: &'a mut State, arn: &str) -> Result<&'a mut Tags, ApiError> {
    let parts: Vec<&str> = arn.split(':').collect();
    let (Some(&"elasticache"), Some(kind), Some(name)) = (parts.get(2), parts.get(5), parts.get(6)) else {
        return Err(ApiError::new("InvalidARN", format!("{arn} is not a valid ElastiCache ARN.")));
    };
    let cache = &mut state.elasticache;
    match *kind {
        "replicationgroup" => cache.groups.get_mut(*name).map(|g| &mut g.tags).ok_or_else(|| group::not_found(name)),
        "serverlesscache" => {
            cache.serverless.get_mut(*name).map(|c| &mut c.tags).ok_or_else(|| {
                ApiError::new("ServerlessCacheNotFoundFault", format!("Serverless cache {name} not found"))
            })
        }
        "subnetgroup" => cache.subnet_groups.get_mut(*name).map(|g| &mut g.tags).ok_or_else(|| {
            ApiError::new("CacheSubnetGroupNotFoundFault", format!("Cache subnet group {name} not found."))
        }),
        _ => Err(ApiError::new("InvalidARN", format!("{arn} is not a valid ElastiCache ARN."))),
    }
}

/// A group that is not available refuses; one that is goes through `modifying`.
fn disturb(call: &mut Call<'_>, arn: &str) -> Result<(), ApiError> {
    let Some(found) = call.state.elasticache.groups.values_mut().find(|g| g.arn == arn) else { return Ok(()) };
    if found.status != "available" {
        let text = format!("Replication group {} is not in available state. Status: {}", found.id, found.status);
        return Err(ApiError::new("InvalidReplicationGroupState", text));
    }
    found.status = "modifying";
    call.cloud.spawn(lifecycle::tag_group(call.cloud.clone(), found.id.clone()));
    Ok(())
}

pub(super) fn add(call: &mut Call<'_>, input: &Value) -> Reply {
    let arn = required(input, "ResourceName");
    let new = tags_in(input, "Tags");
    let mut after = tags_of(call.state, arn)?.clone();
    after.extend(new);
    if after.len() > MOST {
        return Err(ApiError::new("TagQuotaPerResourceExceeded", "A resource can have 50 tags."));
    }
    disturb(call, arn)?;
    *tags_of(call.state, arn)? = after.clone();
    Ok(json!({"TagList": tags_out(&after)}))
}

pub(super) fn remove(call: &mut Call<'_>, input: &Value) -> Reply {
    let arn = required(input, "ResourceName");
    let keys = strings(input, "TagKeys");
    let tags = tags_of(call.state, arn)?;
    if let Some(key) = keys.iter().find(|key| !tags.contains_key(*key)) {
        return Err(ApiError::new("TagNotFound", format!("The tag {key} is not on the resource.")));
    }
    disturb(call, arn)?;
    let tags = tags_of(call.state, arn)?;
    tags.retain(|key, _| !keys.contains(key));
    Ok(json!({"TagList": tags_out(tags)}))
}

pub(super) fn list(call: &mut Call<'_>, input: &Value) -> Reply {
    let tags = tags_of(call.state, required(input, "ResourceName"))?;
    Ok(json!({"TagList": tags_out(tags)}))
}
