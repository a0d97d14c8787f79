//! Replication groups: create, describe, delete.

use serde_json::{Value, json};

use super::{combination, events, lawful_id, lifecycle, paged, security_groups, subnet_group, value};
use crate::api::{ApiError, Call, Reply, epoch, required, strings, tags_in, text, without_nulls};
use crate::state::elasticache::ReplicationGroup;
use crate::state::{State, random};

/// Nodes an account can have in a region.
const NODES: u32 = 300;

pub(super) fn not_found(id: &str) -> ApiError {
    ApiError::new("ReplicationGroupNotFoundFault", format!("ReplicationGroup {id} not found."))
}

pub(super) fn create(call: &mut Call<'_>, input: &Value) -> Reply {
    let id = lawful_id(required(input, "ReplicationGroupId"), 40, "ReplicationGroupIdentifier")?;
    let state = &mut *call.state;
    if state.elasticache.groups.contains_key(&id) {
        return Err(ApiError::new("ReplicationGroupAlreadyExists", format!("Replication group {id} already exists.")));
    }
    let nodes = Nodes::read(input)?;
    let running: u32 = state.elasticache.groups.values().map(|g| g.shards * (g.replicas + 1)).sum();
    if running + nodes.shards * (nodes.replicas + 1) > NODES {
        return Err(ApiError::new("NodeQuotaForCustomerExceeded", "The request exceeds the quota of nodes."));
    }
    let node_type = text(input, "CacheNodeType")
        .filter(|t| t.starts_with("cache."))
        .ok_or_else(|| value("The parameter CacheNodeType must be provided and must name a cache node type."))?;
    let engine = text(input, "Engine").unwrap_or("redis").to_ascii_lowercase();
    let version = match engine.as_str() {
        "redis" => text(input, "EngineVersion").unwrap_or("7.1"),
        "valkey" => text(input, "EngineVersion").unwrap_or("8.1"),
        other => return Err(value(format!("Invalid value for Engine: {other}"))),
    };
    let subnet_group = text(input, "CacheSubnetGroupName").unwrap_or("default").to_ascii_lowercase();
    let vpc = subnet_group::vpc_of(state, &subnet_group)?;
    let groups = security_groups(state, strings(input, "SecurityGroupIds"), &vpc)?;
    let tls = input["TransitEncryptionEnabled"].as_bool().unwrap_or(false);
    let token = text(input, "AuthToken");
    if let Some(token) = token {
        if !tls {
            return Err(combination("The AUTH token is only supported when encryption-in-transit is enabled"));
        }
        lawful_token(token)?;
    }
    let port = input["Port"].as_u64().unwrap_or(6379);
    let port = u16::try_from(port).map_err(|_| value(format!("The parameter Port is not valid: {port}")))?;
    let group = ReplicationGroup {
        arn: state.arn("elasticache", &format!("replicationgroup:{id}")),
        hash: random("abcdefghijklmnopqrstuvwxyz0123456789", 6),
        description: required(input, "ReplicationGroupDescription").to_owned(),
        status: "creating",
        parameter_group: text(input, "CacheParameterGroupName")
            .map_or_else(|| format!("default.{engine}{}", version.split('.').next().unwrap_or("7")), str::to_owned),
        version: if version.contains('.') { version.to_owned() } else { format!("{version}.0") },
        engine,
        node_type: node_type.to_owned(),
        shards: nodes.shards,
        replicas: nodes.replicas,
        cluster_mode: nodes.cluster,
        failover: input["AutomaticFailoverEnabled"].as_bool().unwrap_or(nodes.cluster),
        multi_az: input["MultiAZEnabled"].as_bool().unwrap_or(false),
        subnet_group,
        vpc,
        security_groups: groups,
        port,
        tls,
        tls_mode: tls.then(|| text(input, "TransitEncryptionMode").unwrap_or("required").to_owned()),
        encrypted: input["AtRestEncryptionEnabled"].as_bool().unwrap_or(false),
        tokens: token.map(str::to_owned).into_iter().collect(),
        open: token.is_none(),
        token_changed: token.map(|_| call.now),
        token_pending: None,
        snapshot_days: input["SnapshotRetentionLimit"].as_i64().unwrap_or(0),
        maintenance: text(input, "PreferredMaintenanceWindow").unwrap_or("sun:05:00-sun:06:00").to_owned(),
        created: call.now,
        tags: tags_in(input, "Tags"),
        id: id.clone(),
    };
    let answer = json!({"ReplicationGroup": shown(state, &group)});
    state.elasticache.groups.insert(id.clone(), group);
    call.cloud.spawn(lifecycle::create_group(call.cloud.clone(), id));
    Ok(answer)
}

/// AUTH tokens are 16 to 128 printable characters without spaces, `/`, `"`, `@`, `%`.
pub(super) fn lawful_token(token: &str) -> Result<(), ApiError> {
    let lawful = |c: char| c.is_ascii_alphanumeric() || "!&#$^<>-".contains(c);
    if (16..=128).contains(&token.len()) && token.chars().all(lawful) {
        return Ok(());
    }
    Err(value(
        "Invalid AuthToken provided. It must be 16 to 128 printable ASCII characters; the only permitted special \
         characters are !, &, #, $, ^, <, >, and -.",
    ))
}

/// How many nodes.
struct Nodes {
    shards: u32,
    replicas: u32,
    cluster: bool,
}

impl Nodes {
    fn read(input: &Value) -> Result<Self, ApiError> {
        let number = |member: &str| input[member].as_u64().and_then(|n| u32::try_from(n).ok());
        let clusters = number("NumCacheClusters");
        let (shards, replicas) = (number("NumNodeGroups"), number("ReplicasPerNodeGroup"));
        if clusters.is_some() && (shards.is_some_and(|n| n > 1) || replicas.is_some()) {
            return Err(combination("NumCacheClusters cannot be used with NumNodeGroups or ReplicasPerNodeGroup."));
        }
        let cluster = shards.is_some_and(|n| n > 1) || text(input, "ClusterMode") == Some("enabled");
        let replicas = replicas.unwrap_or(clusters.unwrap_or(1).saturating_sub(1));
        if replicas > 5 || clusters == Some(0) {
            return Err(value("The number of cache clusters must be between 1 and 6."));
        }
        if input["AutomaticFailoverEnabled"] == true && replicas == 0 {
            return Err(combination("Automatic failover requires at least one replica."));
        }
        if input["MultiAZEnabled"] == true && input["AutomaticFailoverEnabled"] != true {
            return Err(combination("Multi-AZ requires automatic failover."));
        }
        Ok(Self { shards: shards.unwrap_or(1), replicas, cluster })
    }
}

/// DNS names of a group: primary, reader, configuration endpoint, and its nodes'.
pub(super) struct Names {
    pub(super) primary: String,
    pub(super) reader: String,
    pub(super) configuration: String,
    pub(super) nodes: Vec<String>,
}

pub(super) fn names(region: &str, group: &ReplicationGroup) -> Names {
    let (id, hash) = (&group.id, &group.hash);
    let domain = format!("{}.cache.amazonaws.com", super::region_code(region));
    let members = members(group);
    if group.tls || group.cluster_mode {
        return Names {
            primary: format!("master.{id}.{hash}.{domain}"),
            reader: format!("replica.{id}.{hash}.{domain}"),
            configuration: format!("clustercfg.{id}.{hash}.{domain}"),
            nodes: members.iter().map(|m| format!("{m}.{id}.{hash}.{domain}")).collect(),
        };
    }
    Names {
        primary: format!("{id}.{hash}.ng.0001.{domain}"),
        reader: format!("{id}-ro.{hash}.ng.0001.{domain}"),
        configuration: format!("{id}.{hash}.clustercfg.{domain}"),
        nodes: members.iter().map(|m| format!("{m}.{hash}.0001.{domain}")).collect(),
    }
}

/// Ids of the member clusters.
pub(super) fn members(group: &ReplicationGroup) -> Vec<String> {
    let replicas = 1..=group.replicas + 1;
    if group.cluster_mode {
        let shards = (1..=group.shards).flat_map(|shard| replicas.clone().map(move |n| (shard, n)));
        return shards.map(|(shard, n)| format!("{}-{shard:04}-{n:03}", group.id)).collect();
    }
    replicas.map(|n| format!("{}-{n:03}", group.id)).collect()
}

/// Endpoints are absent until the group has been available once.
pub(super) fn has_endpoints(group: &ReplicationGroup) -> bool {
    !matches!(group.status, "creating" | "create-failed")
}

pub(super) fn shown(state: &State, group: &ReplicationGroup) -> Value {
    let names = names(&state.region, group);
    let endpoint = |address: &str| json!({"Address": address, "Port": group.port});
    let ready = has_endpoints(group);
    let zones: Vec<String> = subnet_group::zones(state, &group.subnet_group);
    let zone = |n: usize| zones.get(n % zones.len().max(1)).cloned();
    let members = members(group);
    let shards: Vec<Value> = (0..group.shards as usize)
        .map(|shard| {
            let per = group.replicas as usize + 1;
            let own: Vec<Value> = (0..per)
                .map(|n| {
                    let at = shard * per + n;
                    let role = if n == 0 { "primary" } else { "replica" };
                    json!({"CacheClusterId": members.get(at), "CacheNodeId": "0001",
                        "ReadEndpoint": (ready && !group.cluster_mode).then(|| endpoint(&names.nodes[at])),
                        "PreferredAvailabilityZone": zone(n),
                        "CurrentRole": (!group.cluster_mode).then_some(role)})
                })
                .collect();
            json!({"NodeGroupId": format!("{:04}", shard + 1), "Status": group.status,
                "PrimaryEndpoint": (!group.cluster_mode).then(|| endpoint(&names.primary)),
                "ReaderEndpoint": (!group.cluster_mode).then(|| endpoint(&names.reader)),
                "Slots": group.cluster_mode.then(|| slots(shard, group.shards as usize)), "NodeGroupMembers": own})
        })
        .collect();
    without_nulls(json!({
        "ReplicationGroupId": group.id, "Description": group.description, "Status": group.status,
        "PendingModifiedValues": {"AuthTokenStatus": group.token_pending}, "MemberClusters": members,
        "NodeGroups": if ready { json!(shards) } else { json!([]) },
        "ConfigurationEndpoint": (ready && group.cluster_mode).then(|| endpoint(&names.configuration)),
        "AutomaticFailover": if group.failover { "enabled" } else { "disabled" },
        "MultiAZ": if group.multi_az { "enabled" } else { "disabled" }, "ClusterEnabled": group.cluster_mode,
        "ClusterMode": if group.cluster_mode { "enabled" } else { "disabled" }, "CacheNodeType": group.node_type,
        "AuthTokenEnabled": !group.tokens.is_empty(), "AuthTokenLastModifiedDate": group.token_changed.map(epoch),
        "TransitEncryptionEnabled": group.tls, "TransitEncryptionMode": group.tls_mode,
        "AtRestEncryptionEnabled": group.encrypted, "ARN": group.arn, "Engine": group.engine,
        "SnapshotRetentionLimit": group.snapshot_days, "SnapshotWindow": "03:00-04:00",
        "ReplicationGroupCreateTime": epoch(group.created), "DataTiering": "disabled", "AutoMinorVersionUpgrade": true,
        "NetworkType": "ipv4", "IpDiscovery": "ipv4", "LogDeliveryConfigurations": [],
    }))
}

fn slots(shard: usize, shards: usize) -> String {
    format!("{}-{}", 16_384 * shard / shards, 16_384 * (shard + 1) / shards - 1)
}

pub(super) fn describe(call: &mut Call<'_>, input: &Value) -> Reply {
    let state = &*call.state;
    let wanted = text(input, "ReplicationGroupId").map(str::to_ascii_lowercase);
    if let Some(id) = wanted.as_deref().filter(|id| !state.elasticache.groups.contains_key(*id)) {
        return Err(not_found(id));
    }
    let meant = |g: &&ReplicationGroup| wanted.as_ref().is_none_or(|id| *id == g.id);
    let all = state.elasticache.groups.values().filter(meant).map(|g| shown(state, g)).collect();
    paged(all, input, "ReplicationGroups")
}

pub(super) fn delete(call: &mut Call<'_>, input: &Value) -> Reply {
    let id = required(input, "ReplicationGroupId").to_ascii_lowercase();
    let group = call.state.elasticache.groups.get_mut(&id).ok_or_else(|| not_found(&id))?;
    if !matches!(group.status, "available" | "create-failed") {
        let text = format!("Replication group {id} is not in a valid state to be deleted. Status: {}", group.status);
        return Err(ApiError::new("InvalidReplicationGroupState", text));
    }
    group.status = "deleting";
    let now = call.now;
    events::note(call.state, &id, "replication-group", format!("Replication group {id} is being deleted"), now);
    call.cloud.spawn(lifecycle::delete_group(call.cloud.clone(), id.clone()));
    Ok(json!({"ReplicationGroup": shown(call.state, &call.state.elasticache.groups[&id])}))
}
