//! ModifyReplicationGroup: AUTH tokens in their three ways, and settings.

use serde_json::{Value, json};

use super::{combination, group, lifecycle, security_groups, value};
use crate::api::{ApiError, Call, Reply, required, strings, text};
use crate::state::elasticache::ReplicationGroup;

/// Members that change nothing by themselves.
const NOT_A_CHANGE: [&str; 3] = ["ReplicationGroupId", "ApplyImmediately", "AuthTokenUpdateStrategy"];

/// How AUTH tokens change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strategy {
    Rotate,
    Set,
    Delete,
}

pub(super) fn modify(call: &mut Call<'_>, input: &Value) -> Reply {
    let id = required(input, "ReplicationGroupId").to_ascii_lowercase();
    let found = call.state.elasticache.groups.get(&id).ok_or_else(|| super::group::not_found(&id))?;
    if found.status != "available" {
        let text = format!("Replication group {id} is not in available state. Status: {}", found.status);
        return Err(ApiError::new("InvalidReplicationGroupState", text));
    }
    let strategy = strategy(input)?;
    let changes = input.as_object().map(|m| m.keys().filter(|k| !NOT_A_CHANGE.contains(&k.as_str())).count());
    if changes.unwrap_or(0) == 0 && strategy != Some(Strategy::Delete) {
        return Err(combination("No modifications were requested"));
    }
    if input.get("TransitEncryptionEnabled").is_some_and(|tls| *tls != found.tls) {
        return Err(value("Changing encryption in transit of an existing group is not offered here."));
    }
    let mut group = found.clone();
    if let Some(strategy) = strategy {
        if input["ApplyImmediately"] != true {
            return Err(combination("To modify the AUTH token, ApplyImmediately must be true."));
        }
        tokens(&mut group, strategy, text(input, "AuthToken"))?;
        group.token_changed = Some(call.now);
        group.token_pending = Some(if strategy == Strategy::Rotate { "ROTATING" } else { "SETTING" });
    }
    settings(&mut group, call, input)?;
    group.status = "modifying";
    call.state.elasticache.groups.insert(id.clone(), group);
    call.cloud.spawn(lifecycle::modify_group(call.cloud.clone(), id.clone(), strategy.is_some()));
    Ok(json!({"ReplicationGroup": group::shown(call.state, &call.state.elasticache.groups[&id])}))
}

fn strategy(input: &Value) -> Result<Option<Strategy>, ApiError> {
    match (text(input, "AuthTokenUpdateStrategy"), text(input, "AuthToken")) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(combination("AuthTokenUpdateStrategy must be given with AuthToken.")),
        (Some("DELETE"), None) => Ok(Some(Strategy::Delete)),
        (Some("DELETE"), Some(_)) => Err(combination("AuthToken must not be given with the strategy DELETE.")),
        (Some(_), None) => Err(combination("AuthToken must be given with the strategies SET and ROTATE.")),
        (Some("ROTATE"), Some(_)) => Ok(Some(Strategy::Rotate)),
        (Some(_), Some(_)) => Ok(Some(Strategy::Set)),
    }
}

/// ROTATE keeps what works and adds; SET keeps the new one only; DELETE opens. At most two tokens.
fn tokens(group: &mut ReplicationGroup, strategy: Strategy, token: Option<&str>) -> Result<(), ApiError> {
    if !group.tls {
        return Err(combination("The AUTH token is only supported when encryption-in-transit is enabled"));
    }
    let token = token.unwrap_or_default();
    match strategy {
        Strategy::Rotate => {
            group::lawful_token(token)?;
            group.tokens.retain(|t| t != token);
            group.tokens.push(token.to_owned());
            let surplus = group.tokens.len().saturating_sub(2);
            group.tokens.drain(..surplus);
        }
        Strategy::Set => {
            group::lawful_token(token)?;
            group.tokens = vec![token.to_owned()];
            group.open = false;
        }
        Strategy::Delete => {
            group.tokens.clear();
            group.open = true;
        }
    }
    Ok(())
}

fn settings(group: &mut ReplicationGroup, call: &Call<'_>, input: &Value) -> Result<(), ApiError> {
    if let Some(description) = text(input, "ReplicationGroupDescription") {
        description.clone_into(&mut group.description);
    }
    if let Some(node_type) = text(input, "CacheNodeType") {
        node_type.clone_into(&mut group.node_type);
    }
    if let Some(version) = text(input, "EngineVersion") {
        version.clone_into(&mut group.version);
    }
    if let Some(days) = input["SnapshotRetentionLimit"].as_i64() {
        group.snapshot_days = days;
    }
    if let Some(window) = text(input, "PreferredMaintenanceWindow") {
        window.clone_into(&mut group.maintenance);
    }
    if let Some(name) = text(input, "CacheParameterGroupName") {
        name.clone_into(&mut group.parameter_group);
    }
    if let Some(failover) = input["AutomaticFailoverEnabled"].as_bool() {
        if failover && group.replicas == 0 {
            return Err(combination("Automatic failover requires at least one replica."));
        }
        group.failover = failover;
    }
    if let Some(multi_az) = input["MultiAZEnabled"].as_bool() {
        group.multi_az = multi_az;
    }
    if input.get("SecurityGroupIds").is_some() {
        group.security_groups = security_groups(call.state, strings(input, "SecurityGroupIds"), &group.vpc)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;

    fn group(tokens: &[&str]) -> ReplicationGroup {
        ReplicationGroup {
            id: "a".into(),
            arn: String::new(),
            hash: String::new(),
            description: String::new(),
            status: "available",
            engine: "redis".into(),
            version: "7.1".into(),
            node_type: "cache.t3.micro".into(),
            shards: 1,
            replicas: 0,
            cluster_mode: false,
            failover: false,
            multi_az: false,
            subnet_group: "default".into(),
            vpc: State::new("1", "us-east-1").ec2.default_vpc().unwrap().into(),
            security_groups: Vec::new(),
            port: 6379,
            tls: true,
            tls_mode: Some("required".into()),
            encrypted: false,
            tokens: tokens.iter().map(|t| (*t).to_owned()).collect(),
            open: tokens.is_empty(),
            token_changed: None,
            token_pending: None,
            parameter_group: String::new(),
            snapshot_days: 0,
            maintenance: String::new(),
            created: jiff::Timestamp::UNIX_EPOCH,
            tags: crate::state::Tags::new(),
        }
    }

    const ONE: &str = "first-token-0123456789";
    const TWO: &str = "second-token-0123456789";
    const THREE: &str = "third-token-0123456789";

    #[test]
    fn rotate_keeps_at_most_two_and_leaves_an_open_group_open() {
        let mut g = group(&[]);
        tokens(&mut g, Strategy::Rotate, Some(ONE)).unwrap();
        assert!(g.open && g.tokens == [ONE]);
        tokens(&mut g, Strategy::Set, Some(ONE)).unwrap();
        assert!(!g.open);
        tokens(&mut g, Strategy::Rotate, Some(TWO)).unwrap();
        assert_eq!(g.tokens, [ONE, TWO]);
        tokens(&mut g, Strategy::Rotate, Some(THREE)).unwrap();
        assert_eq!(g.tokens, [TWO, THREE]);
    }

    #[test]
    fn a_short_token_is_refused() {
        assert_eq!(tokens(&mut group(&[]), Strategy::Set, Some("short")).unwrap_err().code, "InvalidParameterValue");
    }
}
