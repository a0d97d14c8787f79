//! Cache subnet groups: subnets of one VPC, held by every cache in them.

use serde_json::{Value, json};

use super::{lawful_id, paged, value};
use crate::api::{ApiError, Call, Reply, required, strings, tags_in, text};
use crate::state::State;
use crate::state::elasticache::SubnetGroup;

/// Groups an account can have, and subnets a group.
const QUOTA: (usize, usize) = (300, 20);

fn not_found(name: &str) -> ApiError {
    ApiError::new("CacheSubnetGroupNotFoundFault", format!("Cache subnet group {name} not found."))
}

/// The VPC of a group; the account's default group is made when first used.
pub(super) fn vpc_of(state: &mut State, name: &str) -> Result<String, ApiError> {
    if name == "default" && !state.elasticache.subnet_groups.contains_key("default") {
        let vpc = state.ec2.default_vpc().unwrap_or_default().to_owned();
        let subnets = state.ec2.subnets.values().filter(|s| s.vpc == vpc).map(|s| s.id.clone()).collect();
        let group = SubnetGroup {
            name: "default".into(),
            arn: state.arn("elasticache", "subnetgroup:default"),
            description: "Default CacheSubnetGroup".into(),
            vpc,
            subnets,
            tags: crate::state::Tags::new(),
        };
        state.elasticache.subnet_groups.insert("default".into(), group);
    }
    state.elasticache.subnet_groups.get(name).map(|g| g.vpc.clone()).ok_or_else(|| not_found(name))
}

/// Zones of a group's subnets.
pub(super) fn zones(state: &State, name: &str) -> Vec<String> {
    let subnets = state.elasticache.subnet_groups.get(name).map(|g| g.subnets.as_slice()).unwrap_or_default();
    subnets.iter().filter_map(|s| state.ec2.subnets.get(s)).map(|s| s.zone.clone()).collect()
}

fn in_one_vpc(state: &State, subnets: &[String]) -> Result<String, ApiError> {
    let invalid = |text: String| ApiError::new("InvalidSubnet", text);
    let mut vpc = None;
    for subnet in subnets {
        let found = state.ec2.subnets.get(subnet);
        let found =
            found.ok_or_else(|| invalid(format!("Some input subnets in :[{}] are invalid.", subnets.join(", "))))?;
        if vpc.get_or_insert(found.vpc.clone()) != &found.vpc {
            return Err(invalid("The subnets are not all in the same VPC.".into()));
        }
    }
    if subnets.len() > QUOTA.1 {
        return Err(ApiError::new("CacheSubnetQuotaExceededFault", "Too many subnets in the group."));
    }
    vpc.ok_or_else(|| invalid("At least one subnet must be given.".into()))
}

fn shown(state: &State, group: &SubnetGroup) -> Value {
    let subnets: Vec<Value> = group
        .subnets
        .iter()
        .map(|subnet| {
            json!({"SubnetIdentifier": subnet, "SupportedNetworkTypes": ["ipv4"],
                "SubnetAvailabilityZone": {"Name": state.ec2.subnets.get(subnet).map(|s| s.zone.clone())}})
        })
        .collect();
    json!({"CacheSubnetGroupName": group.name, "CacheSubnetGroupDescription": group.description, "VpcId": group.vpc,
        "Subnets": subnets, "ARN": group.arn, "SupportedNetworkTypes": ["ipv4"]})
}

pub(super) fn create(call: &mut Call<'_>, input: &Value) -> Reply {
    let name = lawful_id(required(input, "CacheSubnetGroupName"), 255, "CacheSubnetGroupName")?;
    let state = &mut *call.state;
    if state.elasticache.subnet_groups.contains_key(&name) {
        let text = format!("Cache subnet group {name} already exists.");
        return Err(ApiError::new("CacheSubnetGroupAlreadyExists", text));
    }
    if name == "default" {
        return Err(value("The name default is reserved."));
    }
    if state.elasticache.subnet_groups.len() >= QUOTA.0 {
        return Err(ApiError::new("CacheSubnetGroupQuotaExceeded", "Too many cache subnet groups."));
    }
    let subnets = strings(input, "SubnetIds");
    let group = SubnetGroup {
        vpc: in_one_vpc(state, &subnets)?,
        arn: state.arn("elasticache", &format!("subnetgroup:{name}")),
        description: required(input, "CacheSubnetGroupDescription").to_owned(),
        subnets,
        tags: tags_in(input, "Tags"),
        name: name.clone(),
    };
    let answer = json!({"CacheSubnetGroup": shown(state, &group)});
    state.elasticache.subnet_groups.insert(name, group);
    Ok(answer)
}

pub(super) fn describe(call: &mut Call<'_>, input: &Value) -> Reply {
    let state = &*call.state;
    let wanted = text(input, "CacheSubnetGroupName").map(str::to_ascii_lowercase);
    if let Some(name) = wanted.as_deref().filter(|name| !state.elasticache.subnet_groups.contains_key(*name)) {
        return Err(not_found(name));
    }
    let meant = |g: &&SubnetGroup| wanted.as_ref().is_none_or(|name| *name == g.name);
    let all = state.elasticache.subnet_groups.values().filter(meant).map(|g| shown(state, g)).collect();
    paged(all, input, "CacheSubnetGroups")
}

/// Subnets a cache has its interfaces in.
fn held(state: &State, name: &str) -> Vec<String> {
    let arns: Vec<&str> =
        state.elasticache.groups.values().filter(|g| g.subnet_group == name).map(|g| g.arn.as_str()).collect();
    let held = state.ec2.interfaces.values().filter(|i| arns.contains(&i.holder.as_str()));
    held.map(|i| i.subnet.clone()).collect()
}

pub(super) fn modify(call: &mut Call<'_>, input: &Value) -> Reply {
    let name = required(input, "CacheSubnetGroupName").to_ascii_lowercase();
    let state = &mut *call.state;
    let found = state.elasticache.subnet_groups.get(&name).ok_or_else(|| not_found(&name))?;
    let mut changed = found.clone();
    if input.get("SubnetIds").is_some() {
        changed.subnets = strings(input, "SubnetIds");
        if in_one_vpc(state, &changed.subnets)? != changed.vpc {
            return Err(ApiError::new("InvalidSubnet", "The subnets must be in the group's VPC."));
        }
        if let Some(subnet) = held(state, &name).into_iter().find(|s| !changed.subnets.contains(s)) {
            return Err(ApiError::new("SubnetInUse", format!("The subnet {subnet} is in use by a cache.")));
        }
    }
    if let Some(description) = text(input, "CacheSubnetGroupDescription") {
        description.clone_into(&mut changed.description);
    }
    let answer = json!({"CacheSubnetGroup": shown(state, &changed)});
    state.elasticache.subnet_groups.insert(name, changed);
    Ok(answer)
}

pub(super) fn delete(call: &mut Call<'_>, input: &Value) -> Reply {
    let name = required(input, "CacheSubnetGroupName").to_ascii_lowercase();
    let cache = &mut call.state.elasticache;
    if !cache.subnet_groups.contains_key(&name) {
        return Err(not_found(&name));
    }
    if cache.groups.values().any(|g| g.subnet_group == name) {
        let text = format!("Cache subnet group {name} is currently in use by a cache cluster.");
        return Err(ApiError::new("CacheSubnetGroupInUse", text));
    }
    cache.subnet_groups.remove(&name);
    Ok(Value::Null)
}
