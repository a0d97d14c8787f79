//! Serverless caches: TLS always, no AUTH token, subnets given directly.

use serde_json::{Value, json};

use super::{combination, events, lawful_id, lifecycle, security_groups, value};
use crate::api::{ApiError, Call, Reply, epoch, page, required, strings, tags_in, text, without_nulls};
use crate::state::elasticache::Serverless;
use crate::state::{State, random};

/// Caches an account can have in a region.
const QUOTA: usize = 40;

fn not_found(name: &str) -> ApiError {
    ApiError::new("ServerlessCacheNotFoundFault", format!("Serverless cache {name} not found"))
}

fn not_available(cache: &Serverless) -> Result<(), ApiError> {
    if cache.status == "available" {
        return Ok(());
    }
    let text = format!("The serverless cache {} is not in available state. Status: {}", cache.name, cache.status);
    Err(ApiError::new("InvalidServerlessCacheStateFault", text))
}

/// Its DNS name; the reader's is the same on another port.
pub(super) fn host(region: &str, cache: &Serverless) -> String {
    let public = if cache.connection == "public" { "public." } else { "" };
    let code = super::region_code(region);
    format!("{}-{}.{public}serverless.{code}.cache.amazonaws.com", cache.name, cache.suffix)
}

pub(super) fn create(call: &mut Call<'_>, input: &Value) -> Reply {
    let name = lawful_id(required(input, "ServerlessCacheName"), 40, "ServerlessCacheName")?;
    let state = &mut *call.state;
    if state.elasticache.serverless.contains_key(&name) {
        let text = format!("Serverless cache {name} already exists");
        return Err(ApiError::new("ServerlessCacheAlreadyExistsFault", text));
    }
    if state.elasticache.serverless.len() >= QUOTA {
        let text = "The limit of serverless caches has been reached.";
        return Err(ApiError::new("ServerlessCacheQuotaForCustomerExceededFault", text));
    }
    let engine = required(input, "Engine").to_ascii_lowercase();
    let default = match engine.as_str() {
        "redis" => "7",
        "valkey" => "8",
        other => return Err(value(format!("Engine {other} is not offered here."))),
    };
    let major = text(input, "MajorEngineVersion").unwrap_or(default).to_owned();
    let connection = text(input, "ConnectionType").unwrap_or("vpc").to_owned();
    let given = strings(input, "SubnetIds");
    let (subnets, vpc, groups) = if connection == "public" {
        if !given.is_empty() || !strings(input, "SecurityGroupIds").is_empty() {
            return Err(combination("A cache with a public endpoint has no subnets and no security groups."));
        }
        if engine != "valkey" || major.parse::<f64>().is_ok_and(|major| major < 9.0) {
            return Err(combination("A public endpoint needs Valkey 9 or newer."));
        }
        (Vec::new(), String::new(), Vec::new())
    } else {
        placed(state, given, strings(input, "SecurityGroupIds"))?
    };
    let cache = Serverless {
        arn: state.arn("elasticache", &format!("serverlesscache:{name}")),
        suffix: random("abcdefghijklmnopqrstuvwxyz0123456789", 6),
        description: text(input, "Description").unwrap_or_default().to_owned(),
        status: "creating",
        engine,
        major,
        subnets,
        vpc,
        security_groups: groups,
        limits: input["CacheUsageLimits"].clone(),
        snapshot_days: input["SnapshotRetentionLimit"].as_i64().unwrap_or(0),
        snapshot_time: text(input, "DailySnapshotTime").unwrap_or("03:00").to_owned(),
        connection,
        created: call.now,
        tags: tags_in(input, "Tags"),
        name: name.clone(),
    };
    let answer = json!({"ServerlessCache": shown(state, &cache)});
    state.elasticache.serverless.insert(name.clone(), cache);
    call.cloud.spawn(lifecycle::create_serverless(call.cloud.clone(), name));
    Ok(answer)
}

/// Subnets (the default VPC's when none are given), their VPC, and the groups.
fn placed(
    state: &State,
    mut subnets: Vec<String>,
    groups: Vec<String>,
) -> Result<(Vec<String>, String, Vec<String>), ApiError> {
    if subnets.is_empty() {
        let default = state.ec2.default_vpc().unwrap_or_default();
        subnets = state.ec2.subnets.values().filter(|s| s.vpc == default).map(|s| s.id.clone()).collect();
    }
    let mut vpc = None;
    for subnet in &subnets {
        let found = state.ec2.subnets.get(subnet);
        let found = found.ok_or_else(|| value(format!("The subnet ID '{subnet}' does not exist")))?;
        if vpc.get_or_insert(found.vpc.clone()) != &found.vpc {
            return Err(value("All subnets must be in the same VPC."));
        }
    }
    let vpc = vpc.ok_or_else(|| value("No subnets found"))?;
    let groups = security_groups(state, groups, &vpc)?;
    Ok((subnets, vpc, groups))
}

fn shown(state: &State, cache: &Serverless) -> Value {
    let endpoint = |port: u16| json!({"Address": host(&state.region, cache), "Port": port});
    let ready = !matches!(cache.status, "creating" | "create-failed");
    without_nulls(json!({
        "ServerlessCacheName": cache.name, "Description": cache.description, "CreateTime": epoch(cache.created),
        "Status": cache.status, "Engine": cache.engine, "MajorEngineVersion": cache.major,
        "FullEngineVersion": cache.major, "CacheUsageLimits": cache.limits, "ARN": cache.arn,
        "SecurityGroupIds": cache.security_groups, "SubnetIds": cache.subnets,
        "Endpoint": ready.then(|| endpoint(6379)), "ReaderEndpoint": ready.then(|| endpoint(6380)),
        "SnapshotRetentionLimit": cache.snapshot_days, "DailySnapshotTime": cache.snapshot_time,
        "ConnectionType": cache.connection,
    }))
}

pub(super) fn describe(call: &mut Call<'_>, input: &Value) -> Reply {
    let state = &*call.state;
    let wanted = text(input, "ServerlessCacheName").map(str::to_ascii_lowercase);
    if let Some(name) = wanted.as_deref().filter(|name| !state.elasticache.serverless.contains_key(*name)) {
        return Err(not_found(name));
    }
    let meant = |c: &&Serverless| wanted.as_ref().is_none_or(|name| *name == c.name);
    let all = state.elasticache.serverless.values().filter(meant).map(|c| shown(state, c)).collect();
    let size = usize::try_from(input["MaxResults"].as_u64().unwrap_or(50).clamp(1, 50)).unwrap_or(50);
    let (items, next) =
        page(all, text(input, "NextToken"), size).map_err(|()| value("The parameter NextToken is not valid."))?;
    Ok(without_nulls(json!({"ServerlessCaches": items, "NextToken": next})))
}

pub(super) fn modify(call: &mut Call<'_>, input: &Value) -> Reply {
    let name = required(input, "ServerlessCacheName").to_ascii_lowercase();
    let found = call.state.elasticache.serverless.get(&name).ok_or_else(|| not_found(&name))?;
    not_available(found)?;
    let mut changed = found.clone();
    let mut count = 0;
    if let Some(description) = text(input, "Description") {
        description.clone_into(&mut changed.description);
        count += 1;
    }
    if let Some(limits) = input.get("CacheUsageLimits") {
        changed.limits = limits.clone();
        count += 1;
    }
    if let Some(days) = input["SnapshotRetentionLimit"].as_i64() {
        changed.snapshot_days = days;
        count += 1;
    }
    if let Some(time) = text(input, "DailySnapshotTime") {
        time.clone_into(&mut changed.snapshot_time);
        count += 1;
    }
    if input.get("SecurityGroupIds").is_some() {
        let groups = strings(input, "SecurityGroupIds");
        if groups.is_empty() {
            return Err(combination("Removing all security groups is not allowed."));
        }
        changed.security_groups = security_groups(call.state, groups, &changed.vpc)?;
        count += 1;
    }
    if let Some(major) = text(input, "MajorEngineVersion") {
        major.clone_into(&mut changed.major);
        count += 1;
    }
    match count {
        0 => return Err(combination("No modifications were requested")),
        1 => {}
        _ => return Err(combination("Only one attribute can be modified in a call.")),
    }
    changed.status = "modifying";
    let answer = json!({"ServerlessCache": shown(call.state, &changed)});
    call.state.elasticache.serverless.insert(name.clone(), changed);
    call.cloud.spawn(lifecycle::modify_serverless(call.cloud.clone(), name));
    Ok(answer)
}

pub(super) fn delete(call: &mut Call<'_>, input: &Value) -> Reply {
    let name = required(input, "ServerlessCacheName").to_ascii_lowercase();
    let found = call.state.elasticache.serverless.get_mut(&name).ok_or_else(|| not_found(&name))?;
    if found.status != "create-failed" {
        not_available(found)?;
    }
    found.status = "deleting";
    let now = call.now;
    events::note(call.state, &name, "serverless-cache", format!("Serverless cache {name} is being deleted"), now);
    call.cloud.spawn(lifecycle::delete_serverless(call.cloud.clone(), name.clone()));
    Ok(json!({"ServerlessCache": shown(call.state, &call.state.elasticache.serverless[&name])}))
}
