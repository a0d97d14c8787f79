//! ElastiCache, API version 2015-02-02: replication groups, serverless caches, subnet groups, tags, events.

mod cluster;
mod events;
mod group;
mod lifecycle;
mod modify;
mod serverless;
mod subnet_group;
mod tags;

use serde_json::{Value, json};

use super::{ApiError, Operation, Reply, page, text, without_nulls};
use crate::state::State;

/// The function of an operation.
pub fn operation(name: &str) -> Option<Operation> {
    Some(match name {
        "CreateReplicationGroup" => group::create,
        "DescribeReplicationGroups" => group::describe,
        "ModifyReplicationGroup" => modify::modify,
        "DeleteReplicationGroup" => group::delete,
        "DescribeCacheClusters" => cluster::describe,
        "CreateServerlessCache" => serverless::create,
        "DescribeServerlessCaches" => serverless::describe,
        "ModifyServerlessCache" => serverless::modify,
        "DeleteServerlessCache" => serverless::delete,
        "CreateCacheSubnetGroup" => subnet_group::create,
        "DescribeCacheSubnetGroups" => subnet_group::describe,
        "ModifyCacheSubnetGroup" => subnet_group::modify,
        "DeleteCacheSubnetGroup" => subnet_group::delete,
        "AddTagsToResource" => tags::add,
        "RemoveTagsFromResource" => tags::remove,
        "ListTagsForResource" => tags::list,
        "DescribeEvents" => events::describe,
        _ => return None,
    })
}

fn value(message: impl Into<String>) -> ApiError {
    ApiError::new("InvalidParameterValue", message)
}

fn combination(message: impl Into<String>) -> ApiError {
    ApiError::new("InvalidParameterCombination", message)
}

/// `us-east-1` → `use1`, as in DNS names and zone ids.
pub(super) fn region_code(region: &str) -> String {
    let parts: Vec<&str> = region.split('-').collect();
    let direction = match parts.get(1).copied().unwrap_or_default() {
        "northeast" => "ne",
        "northwest" => "nw",
        "southeast" => "se",
        "southwest" => "sw",
        other => other.get(..1).unwrap_or_default(),
    };
    format!("{}{direction}{}", parts.first().unwrap_or(&""), parts.get(2).unwrap_or(&""))
}

/// An id of the caller: a letter first, letters, digits and single hyphens after, none at the end. Kept lower-case.
fn lawful_id(given: &str, most: usize, what: &str) -> Result<String, ApiError> {
    let id = given.to_ascii_lowercase();
    let lawful = id.starts_with(|c: char| c.is_ascii_lowercase())
        && id.len() <= most
        && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && !id.contains("--")
        && !id.ends_with('-');
    if lawful {
        return Ok(id);
    }
    Err(value(format!(
        "The parameter {what} is not a valid identifier. Identifiers must begin with a letter; must contain only ASCII \
         letters, digits, and hyphens; and must not end with a hyphen or contain two consecutive hyphens."
    )))
}

/// The groups asked for, all of the VPC; the VPC's default group when none is.
fn security_groups(state: &State, given: Vec<String>, vpc: &str) -> Result<Vec<String>, ApiError> {
    if given.is_empty() {
        return Ok(state.ec2.default_group(vpc).map(str::to_owned).into_iter().collect());
    }
    let wrong: Vec<&str> = given
        .iter()
        .filter(|group| state.ec2.groups.get(*group).is_none_or(|g| g.vpc != vpc))
        .map(String::as_str)
        .collect();
    if !wrong.is_empty() {
        return Err(value(format!("Some security group Ids failed validation: {}", wrong.join(", "))));
    }
    Ok(given)
}

/// One page by Marker and MaxRecords (20 to 100).
fn paged(items: Vec<Value>, input: &Value, member: &str) -> Reply {
    let most = input["MaxRecords"].as_u64().unwrap_or(100);
    if !(20..=100).contains(&most) {
        return Err(value("The parameter MaxRecords must be a value between 20 and 100."));
    }
    let size = usize::try_from(most).unwrap_or(100);
    let (items, next) =
        page(items, text(input, "Marker"), size).map_err(|()| value("The parameter Marker is not valid."))?;
    Ok(without_nulls(json!({member: items, "Marker": next})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_codes_are_the_vendors() {
        for (region, code) in [("us-east-1", "use1"), ("eu-central-1", "euc1"), ("ap-southeast-2", "apse2")] {
            assert_eq!(region_code(region), code);
        }
    }

    #[test]
    fn ids_are_lower_cased() {
        assert_eq!(lawful_id("Liberty-1", 40, "ReplicationGroupId").unwrap(), "liberty-1");
        for wrong in ["1a", "a--b", "a-", "a_b", ""] {
            assert!(lawful_id(wrong, 40, "ReplicationGroupId").is_err(), "{wrong}");
        }
    }
}
