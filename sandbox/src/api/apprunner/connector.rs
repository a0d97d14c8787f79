//! VPC connectors: immutable, synchronous, not deletable while a service uses them.

use serde_json::{Value, json};

use super::{invalid, not_found};
use crate::api::{ApiError, Call, Reply, epoch, page, required, strings, tags_in, text, without_nulls};
use crate::state::{State, apprunner::Connector, hex};

/// Connectors an account can have in a region.
const QUOTA: usize = 10;

pub(super) fn create(call: &mut Call<'_>, input: &Value) -> Reply {
    let name = required(input, "VpcConnectorName");
    let subnets = strings(input, "Subnets");
    let state = &mut *call.state;
    let mut vpcs: Vec<&str> = Vec::new();
    for subnet in &subnets {
        let found = state.ec2.subnets.get(subnet);
        let found = found.ok_or_else(|| invalid(format!("The subnet ID '{subnet}' does not exist")))?;
        if !vpcs.contains(&found.vpc.as_str()) {
            vpcs.push(&found.vpc);
        }
    }
    let [vpc] = vpcs[..] else { return Err(invalid("All subnets must be in the same VPC.")) };
    let mut groups = strings(input, "SecurityGroups");
    if groups.is_empty() {
        groups = state.ec2.default_group(vpc).map(str::to_owned).into_iter().collect();
    }
    for group in &groups {
        let found = state.ec2.groups.get(group);
        let found = found.ok_or_else(|| invalid(format!("The security group '{group}' does not exist")))?;
        if found.vpc != vpc {
            return Err(invalid(format!("Security group {group} and the subnets belong to different networks.")));
        }
    }
    let active = || state.apprunner.connectors.values().filter(|c| c.deleted.is_none());
    if active().any(|c| c.name == name) {
        return Err(invalid(format!("VPC connector with the provided name already exists: {name}")));
    }
    if let Some(twin) = active().find(|c| same(&c.groups, &groups)) {
        return Err(invalid(format!(
            "The security groups combination provided in the request already exists on existing vpc connector. \
             Existing VPC connector arn: {}",
            twin.arn
        )));
    }
    if active().count() >= QUOTA {
        return Err(ApiError::new("ServiceQuotaExceededException", "The limit of VPC connectors has been reached."));
    }
    let arn = state.arn("apprunner", &format!("vpcconnector/{name}/1/{}", hex(32)));
    let connector = Connector {
        arn: arn.clone(),
        name: name.to_owned(),
        revision: 1,
        subnets,
        groups,
        created: call.now,
        deleted: None,
        tags: tags_in(input, "Tags"),
    };
    let answer = json!({"VpcConnector": shown(&connector)});
    state.apprunner.connectors.insert(arn, connector);
    Ok(answer)
}

fn same(one: &[String], other: &[String]) -> bool {
    one.len() == other.len() && one.iter().all(|group| other.contains(group))
}

fn shown(connector: &Connector) -> Value {
    without_nulls(json!({
        "VpcConnectorArn": connector.arn, "VpcConnectorName": connector.name,
        "VpcConnectorRevision": connector.revision, "Subnets": connector.subnets, "SecurityGroups": connector.groups,
        "Status": if connector.deleted.is_some() { "INACTIVE" } else { "ACTIVE" },
        "CreatedAt": epoch(connector.created), "DeletedAt": connector.deleted.map(epoch),
    }))
}

/// The active connector of that ARN; an ARN may end at the name or the revision.
pub(super) fn resolve<'a>(state: &'a State, arn: &str) -> Option<&'a Connector> {
    let active = |c: &&Connector| c.deleted.is_none();
    let meant = |c: &&Connector| c.arn == arn || c.arn.starts_with(&format!("{arn}/"));
    state.apprunner.connectors.values().filter(active).find(meant)
}

pub(super) fn describe(call: &mut Call<'_>, input: &Value) -> Reply {
    let arn = required(input, "VpcConnectorArn");
    let found = resolve(call.state, arn).or_else(|| call.state.apprunner.connectors.get(arn));
    found.map(|c| json!({"VpcConnector": shown(c)})).ok_or_else(|| not_found("VPC connector", arn))
}

pub(super) fn list(call: &mut Call<'_>, input: &Value) -> Reply {
    let active = call.state.apprunner.connectors.values().filter(|c| c.deleted.is_none()).map(shown).collect();
    let size = usize::try_from(input["MaxResults"].as_u64().unwrap_or(100).clamp(1, 100)).unwrap_or(100);
    let (items, next) =
        page(active, text(input, "NextToken"), size).map_err(|()| invalid("NextToken is not valid."))?;
    Ok(without_nulls(json!({"VpcConnectors": items, "NextToken": next})))
}

pub(super) fn delete(call: &mut Call<'_>, input: &Value) -> Reply {
    let arn = required(input, "VpcConnectorArn");
    let arn = resolve(call.state, arn).map(|c| c.arn.clone()).ok_or_else(|| not_found("VPC connector", arn))?;
    if call.state.apprunner.users_of(&arn).next().is_some() {
        return Err(invalid(format!("Provided VPC connector arn is being used by other services. ARN: {arn}")));
    }
    let now = call.now;
    let connector = call.state.apprunner.connectors.get_mut(&arn).ok_or_else(|| not_found("VPC connector", &arn))?;
    connector.deleted = Some(now);
    let answer = json!({"VpcConnector": shown(connector)});
    super::deployment::release_interfaces_later(call.cloud, arn);
    Ok(answer)
}
