//! Cache clusters: the members of replication groups, with what the group itself does not tell.

use serde_json::{Value, json};

use super::{group, paged, subnet_group};
use crate::api::{ApiError, Call, Reply, epoch, text, without_nulls};
use crate::state::State;
use crate::state::elasticache::ReplicationGroup;

pub(super) fn describe(call: &mut Call<'_>, input: &Value) -> Reply {
    let state = &*call.state;
    let nodes = input["ShowCacheNodeInfo"] == true;
    let wanted = text(input, "CacheClusterId").map(str::to_ascii_lowercase);
    let mut all = Vec::new();
    // Every cluster here belongs to a replication group.
    if input["ShowCacheClustersNotInReplicationGroups"] != true {
        for found in state.elasticache.groups.values() {
            for (n, id) in group::members(found).into_iter().enumerate() {
                if wanted.as_ref().is_none_or(|wanted| *wanted == id) {
                    all.push(shown(state, found, n, &id, nodes));
                }
            }
        }
    }
    if let Some(id) = wanted.filter(|_| all.is_empty()) {
        return Err(ApiError::new("CacheClusterNotFound", format!("CacheCluster not found: {id}")));
    }
    paged(all, input, "CacheClusters")
}

fn shown(state: &State, found: &ReplicationGroup, n: usize, id: &str, nodes: bool) -> Value {
    let names = group::names(&state.region, found);
    let zones = subnet_group::zones(state, &found.subnet_group);
    let zone = zones.get(n % zones.len().max(1));
    let ready = group::has_endpoints(found);
    let endpoint = json!({"Address": names.nodes.get(n), "Port": found.port});
    let node = json!({"CacheNodeId": "0001", "CacheNodeStatus": found.status, "CacheNodeCreateTime": epoch(found.created),
        "Endpoint": ready.then_some(endpoint), "ParameterGroupStatus": "in-sync", "CustomerAvailabilityZone": zone});
    let groups: Vec<Value> =
        found.security_groups.iter().map(|g| json!({"SecurityGroupId": g, "Status": "active"})).collect();
    without_nulls(json!({
        "CacheClusterId": id, "CacheNodeType": found.node_type, "Engine": found.engine, "EngineVersion": found.version,
        "CacheClusterStatus": found.status, "NumCacheNodes": 1, "PreferredAvailabilityZone": zone,
        "CacheClusterCreateTime": epoch(found.created), "PreferredMaintenanceWindow": found.maintenance,
        "PendingModifiedValues": {}, "CacheSecurityGroups": [], "CacheParameterGroup": {
            "CacheParameterGroupName": found.parameter_group, "ParameterApplyStatus": "in-sync", "CacheNodeIdsToReboot": []},
        "CacheSubnetGroupName": found.subnet_group, "CacheNodes": (nodes && ready).then(|| json!([node])),
        "AutoMinorVersionUpgrade": true, "SecurityGroups": groups, "ReplicationGroupId": found.id,
        "SnapshotRetentionLimit": found.snapshot_days, "SnapshotWindow": "03:00-04:00",
        "AuthTokenEnabled": !found.tokens.is_empty(), "AuthTokenLastModifiedDate": found.token_changed.map(epoch),
        "TransitEncryptionEnabled": found.tls, "TransitEncryptionMode": found.tls_mode,
        "AtRestEncryptionEnabled": found.encrypted, "ARN": state.arn("elasticache", &format!("cluster:{id}")),
        "ReplicationGroupLogDeliveryEnabled": false, "NetworkType": "ipv4", "IpDiscovery": "ipv4",
    }))
}
