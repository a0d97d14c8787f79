//! Security groups; their rules are in `rules`.

use serde_json::{Value, json};

use super::{GROUP, VPC, View, dependent, describe as answer, dry_run, error, missing, new_tags, rules, tag_set};
use crate::api::{Call, Reply, strings, text, without_nulls};
use crate::state::State;
use crate::state::ec2::{Group, Peer};

/// Groups an account can have in a region.
const QUOTA: usize = 2500;

fn arn(state: &State, group: &str) -> String {
    state.arn("ec2", &format!("security-group/{group}"))
}

fn shown(state: &State, group: &Group) -> Value {
    without_nulls(json!({"GroupId": group.id, "GroupName": group.name, "Description": group.description,
        "VpcId": group.vpc, "OwnerId": state.account, "SecurityGroupArn": arn(state, &group.id),
        "IpPermissions": rules::permissions(state, group.rules.values().filter(|r| !r.egress)),
        "IpPermissionsEgress": rules::permissions(state, group.rules.values().filter(|r| r.egress)),
        "Tags": tag_set(&group.tags)}))
}

pub(super) fn create(call: &mut Call<'_>, input: &Value) -> Reply {
    let name = text(input, "GroupName").ok_or_else(|| missing("GroupName"))?;
    let description = text(input, "Description").ok_or_else(|| missing("GroupDescription"))?;
    let ec2 = &call.state.ec2;
    let vpc = match text(input, "VpcId") {
        Some(vpc) => VPC.find(&ec2.vpcs, vpc)?.id.clone(),
        None => ec2.default_vpc().ok_or_else(|| error("VPCIdNotSpecified", "No default VPC for this user"))?.to_owned(),
    };
    let lawful = |c: char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(c);
    for (what, value) in [("groupName", name), ("groupDescription", description)] {
        if value.is_empty() || value.len() > 255 || !value.chars().all(lawful) {
            let text = format!(
                "Value ({value}) for parameter {} is invalid. Character sets beyond ASCII are not supported.",
                if what == "groupName" { "GroupName" } else { "GroupDescription" }
            );
            return Err(error("InvalidParameterValue", text));
        }
    }
    if name.starts_with("sg-") {
        let text =
            format!("Value ({name}) for parameter groupName is invalid. Group names may not be in the format sg-*.");
        return Err(error("InvalidParameterValue", text));
    }
    if name.eq_ignore_ascii_case("default") {
        return Err(error("InvalidGroup.Reserved", format!("The security group '{name}' is reserved")));
    }
    if ec2.groups.values().any(|g| g.vpc == vpc && g.name.eq_ignore_ascii_case(name)) {
        let text = format!("The security group '{name}' already exists for VPC '{vpc}'");
        return Err(error("InvalidGroup.Duplicate", text));
    }
    if ec2.groups.len() >= QUOTA {
        return Err(error("SecurityGroupLimitExceeded", "The maximum number of security groups has been reached."));
    }
    dry_run(input)?;
    let tags = new_tags(input, "security-group");
    let id = call.state.ec2.add_group(name, description, &vpc, tags.clone());
    Ok(without_nulls(json!({"GroupId": id, "SecurityGroupArn": arn(call.state, &id), "Tags": tag_set(&tags)})))
}

pub(super) fn describe(call: &mut Call<'_>, input: &Value) -> Reply {
    let state = &*call.state;
    let names = strings(input, "GroupNames");
    for name in &names {
        let default = state.ec2.default_vpc().unwrap_or_default();
        if !state.ec2.groups.values().any(|g| g.name == *name && g.vpc == default) {
            let text = format!("The security group '{name}' does not exist in default VPC '{default}'");
            return Err(error("InvalidGroup.NotFound", text));
        }
    }
    let view = |group: &Group| {
        let (it, owner) = (group.clone(), state.account.clone());
        let attribute = move |name: &str| {
            let inbound = || it.rules.values().filter(|r| !r.egress);
            let outbound = || it.rules.values().filter(|r| r.egress);
            Some(match name {
                "group-id" => vec![it.id.clone()],
                "group-name" => vec![it.name.clone()],
                "description" => vec![it.description.clone()],
                "vpc-id" => vec![it.vpc.clone()],
                "owner-id" => vec![owner.clone()],
                "ip-permission.group-id" => inbound().filter_map(rules::peer_group).collect(),
                "egress.ip-permission.group-id" => outbound().filter_map(rules::peer_group).collect(),
                "ip-permission.cidr" => inbound().filter_map(rules::peer_block).collect(),
                "egress.ip-permission.cidr" => outbound().filter_map(rules::peer_block).collect(),
                "ip-permission.protocol" => inbound().map(|r| r.protocol.clone()).collect(),
                "ip-permission.from-port" => inbound().filter_map(|r| r.from).map(|p| p.to_string()).collect(),
                "ip-permission.to-port" => inbound().filter_map(|r| r.to).map(|p| p.to_string()).collect(),
                _ => return None,
            })
        };
        let shown = shown(state, group);
        View { id: group.id.clone(), tags: group.tags.clone(), attribute: Box::new(attribute), shown }
    };
    let meant = |group: &&Group| names.is_empty() || names.contains(&group.name);
    let all = state.ec2.groups.values().filter(meant).map(view).collect();
    answer(&GROUP, input, "GroupIds", "SecurityGroups", all)
}

pub(super) fn delete(call: &mut Call<'_>, input: &Value) -> Reply {
    let ec2 = &mut call.state.ec2;
    let found = match (text(input, "GroupId"), text(input, "GroupName")) {
        (Some(id), _) => GROUP.find(&ec2.groups, id)?,
        (None, Some(name)) => ec2
            .groups
            .values()
            .find(|g| g.name == name)
            .ok_or_else(|| error("InvalidGroup.NotFound", format!("The security group '{name}' does not exist")))?,
        (None, None) => return Err(missing("GroupId")),
    };
    if found.name == "default" {
        let text = format!("the specified group: \"{}\" name: \"default\" cannot be deleted by a user", found.id);
        return Err(error("CannotDelete", text));
    }
    let id = found.id.clone();
    let named = Peer::Group(id.clone());
    let referenced = ec2.groups.values().any(|g| g.id != id && g.rules.values().any(|r| r.peer == named));
    if referenced || ec2.interfaces.values().any(|i| i.groups.contains(&id)) {
        return Err(dependent(&id));
    }
    dry_run(input)?;
    ec2.groups.remove(&id);
    Ok(json!({"Return": true, "GroupId": id}))
}
