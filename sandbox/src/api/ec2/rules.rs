//! Security group rules: normalised as EC2 does, one peer a rule, grouped again in answers.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use serde_json::{Value, json};

use super::{GROUP, RULE, View, describe as answer, dry_run, error, missing, new_tags, tag_set};
use crate::api::{ApiError, Call, Reply, strings, text, without_nulls};
use crate::state::State;
use crate::state::ec2::{Cidr, Group, Peer, Rule, id};

/// Rules a group can have in each direction.
const QUOTA: usize = 60;

pub(super) fn peer_group(rule: &Rule) -> Option<String> {
    match &rule.peer {
        Peer::Group(group) => Some(group.clone()),
        Peer::V4(_) | Peer::V6(..) | Peer::Prefix(_) => None,
    }
}

pub(super) fn peer_block(rule: &Rule) -> Option<String> {
    match &rule.peer {
        Peer::V4(block) => Some(block.to_string()),
        Peer::V6(..) | Peer::Group(_) | Peer::Prefix(_) => None,
    }
}

/// `IpPermissions`: rules grouped by protocol and ports.
pub(super) fn permissions<'a>(state: &State, rules: impl Iterator<Item = &'a Rule>) -> Value {
    let mut grouped: BTreeMap<(String, Option<i64>, Option<i64>), Value> = BTreeMap::new();
    for rule in rules {
        let ports = (rule.protocol.clone(), rule.from, rule.to);
        let permission = grouped.entry(ports).or_insert_with(|| {
            without_nulls(json!({"IpProtocol": rule.protocol, "FromPort": rule.from, "ToPort": rule.to,
                "UserIdGroupPairs": [], "IpRanges": [], "Ipv6Ranges": [], "PrefixListIds": []}))
        });
        let (list, mut entry) = match &rule.peer {
            Peer::V4(block) => ("IpRanges", json!({"CidrIp": block.to_string()})),
            Peer::V6(base, bits) => ("Ipv6Ranges", json!({"CidrIpv6": format!("{base}/{bits}")})),
            Peer::Group(group) => ("UserIdGroupPairs", json!({"GroupId": group, "UserId": state.account})),
            Peer::Prefix(list) => ("PrefixListIds", json!({"PrefixListId": list})),
        };
        if let Some(description) = &rule.description {
            entry["Description"] = json!(description);
        }
        if let Some(list) = permission[list].as_array_mut() {
            list.push(entry);
        }
    }
    grouped.into_values().collect()
}

fn shown(state: &State, group: &str, rule: &Rule) -> Value {
    let (v4, v6, prefix, referenced) = match &rule.peer {
        Peer::V4(block) => (Some(block.to_string()), None, None, None),
        Peer::V6(base, bits) => (None, Some(format!("{base}/{bits}")), None, None),
        Peer::Prefix(list) => (None, None, Some(list), None),
        Peer::Group(peer) => {
            let vpc = state.ec2.groups.get(peer).map(|g| g.vpc.clone());
            (None, None, None, Some(json!({"GroupId": peer, "UserId": state.account, "VpcId": vpc})))
        }
    };
    without_nulls(json!({"SecurityGroupRuleId": rule.id, "GroupId": group, "GroupOwnerId": state.account,
        "IsEgress": rule.egress, "IpProtocol": rule.protocol, "FromPort": rule.from.unwrap_or(-1),
        "ToPort": rule.to.unwrap_or(-1), "CidrIpv4": v4, "CidrIpv6": v6, "PrefixListId": prefix,
        "ReferencedGroupInfo": referenced, "Description": rule.description, "Tags": tag_set(&rule.tags),
        "SecurityGroupRuleArn": state.arn("ec2", &format!("security-group-rule/{}", rule.id))}))
}

fn malformed(what: impl Into<String>) -> ApiError {
    error("InvalidPermission.Malformed", what)
}

fn parameter(what: impl Into<String>) -> ApiError {
    error("InvalidParameterValue", what)
}

/// Protocol and ports as EC2 keeps them: names for 1, 6, 17 and 58; no ports for all traffic.
fn ports(permission: &Value) -> Result<(String, Option<i64>, Option<i64>), ApiError> {
    let given = text(permission, "IpProtocol").ok_or_else(|| missing("ipProtocol"))?.to_ascii_lowercase();
    let protocol = match given.as_str() {
        "1" | "icmp" => "icmp",
        "6" | "tcp" => "tcp",
        "17" | "udp" => "udp",
        "58" | "icmpv6" => "icmpv6",
        "-1" | "all" => "-1",
        number if number.parse::<u8>().is_ok() => number,
        _ => return Err(parameter(format!("Invalid value '{given}' for IP protocol. Unknown protocol."))),
    };
    let (from, to) = (permission["FromPort"].as_i64(), permission["ToPort"].as_i64());
    if protocol == "-1" {
        return Ok((protocol.into(), None, None));
    }
    if matches!(protocol, "tcp" | "udp") {
        let (Some(from), Some(to)) = (from, to) else {
            return Err(parameter(format!(
                "Invalid value 'Must specify both from and to ports with {}.' for portRange.",
                protocol.to_uppercase()
            )));
        };
        let lawful = 0..=65_535;
        if !lawful.contains(&from) || !lawful.contains(&to) || from > to {
            return Err(parameter(format!("Invalid value '{from}-{to}' for portRange.")));
        }
    }
    Ok((protocol.into(), from, to))
}

/// The rules a permission means, without ids.
fn rules_of(state: &State, group: &Group, egress: bool, permission: &Value) -> Result<Vec<Rule>, ApiError> {
    let (protocol, from, to) = ports(permission)?;
    let mut rules = Vec::new();
    let mut add = |peer: Peer, entry: &Value| {
        let description = text(entry, "Description").map(str::to_owned);
        let tags = crate::state::Tags::new();
        rules.push(Rule { id: String::new(), egress, protocol: protocol.clone(), from, to, peer, description, tags });
    };
    let items = |member: &str| permission[member].as_array().cloned().unwrap_or_default();
    for range in items("IpRanges") {
        let block = text(&range, "CidrIp").unwrap_or_default();
        let cidr = Cidr::parse(block).ok_or_else(|| parameter(format!("CIDR block {block} is malformed")))?;
        add(Peer::V4(cidr), &range);
    }
    for range in items("Ipv6Ranges") {
        let block = text(&range, "CidrIpv6").unwrap_or_default();
        let parsed = block.split_once('/').and_then(|(base, bits)| {
            let (base, bits) = (base.parse::<Ipv6Addr>().ok()?, bits.parse::<u8>().ok().filter(|b| *b <= 128)?);
            let mask = u128::MAX.checked_shl(u32::from(128 - bits)).unwrap_or(0);
            Some((Ipv6Addr::from(u128::from(base) & mask), bits))
        });
        let (base, bits) = parsed.ok_or_else(|| parameter(format!("CIDR block {block} is malformed")))?;
        add(Peer::V6(base, bits), &range);
    }
    for pair in items("UserIdGroupPairs") {
        let named = |name: &str| state.ec2.groups.values().find(|g| g.name == name && g.vpc == group.vpc);
        let peer = match (text(&pair, "GroupId"), text(&pair, "GroupName")) {
            (Some(id), _) => GROUP.find(&state.ec2.groups, id)?,
            (None, Some(name)) => named(name)
                .ok_or_else(|| error("InvalidGroup.NotFound", format!("The security group '{name}' does not exist")))?,
            (None, None) => return Err(missing("groupId")),
        };
        if peer.vpc != group.vpc {
            let text = "You have specified two resources that belong to different networks.";
            return Err(error("InvalidGroup.NotFound", text));
        }
        add(Peer::Group(peer.id.clone()), &pair);
    }
    for list in items("PrefixListIds") {
        add(Peer::Prefix(text(&list, "PrefixListId").unwrap_or_default().to_owned()), &list);
    }
    if rules.is_empty() {
        return Err(malformed("The permission names no source or destination."));
    }
    Ok(rules)
}

/// Permissions as given in a list, or in the members of the older form.
fn given(input: &Value) -> Vec<Value> {
    if let Some(list) = input["IpPermissions"].as_array() {
        return list.clone();
    }
    if input["IpProtocol"].is_null() {
        return Vec::new();
    }
    let mut permission =
        json!({"IpProtocol": input["IpProtocol"], "FromPort": input["FromPort"], "ToPort": input["ToPort"]});
    if let Some(block) = text(input, "CidrIp") {
        permission["IpRanges"] = json!([{"CidrIp": block}]);
    }
    if let Some(name) = text(input, "SourceSecurityGroupName") {
        permission["UserIdGroupPairs"] = json!([{"GroupName": name}]);
    }
    vec![permission]
}

fn group_id(state: &State, input: &Value) -> Result<String, ApiError> {
    match (text(input, "GroupId"), text(input, "GroupName")) {
        (Some(id), _) => Ok(GROUP.find(&state.ec2.groups, id)?.id.clone()),
        (None, Some(name)) => {
            let default = state.ec2.default_vpc().unwrap_or_default();
            let found = state.ec2.groups.values().find(|g| g.name == name && g.vpc == default);
            found
                .map(|g| g.id.clone())
                .ok_or_else(|| error("InvalidGroup.NotFound", format!("The security group '{name}' does not exist")))
        }
        (None, None) => Err(missing("GroupId")),
    }
}

fn same(one: &Rule, other: &Rule) -> bool {
    (one.egress, &one.protocol, one.from, one.to, &one.peer)
        == (other.egress, &other.protocol, other.from, other.to, &other.peer)
}

fn words(rule: &Rule) -> String {
    let peer = match &rule.peer {
        Peer::V4(block) => block.to_string(),
        Peer::V6(base, bits) => format!("{base}/{bits}"),
        Peer::Group(group) => group.clone(),
        Peer::Prefix(list) => list.clone(),
    };
    match (rule.from, rule.to) {
        (Some(from), Some(to)) => {
            format!("peer: {peer}, {}, from port: {from}, to port: {to}, ALLOW", rule.protocol.to_uppercase())
        }
        _ => format!("peer: {peer}, ALL, ALLOW"),
    }
}

pub(super) fn authorize_ingress(call: &mut Call<'_>, input: &Value) -> Reply {
    authorize(call, input, false)
}

pub(super) fn authorize_egress(call: &mut Call<'_>, input: &Value) -> Reply {
    authorize(call, input, true)
}

/// All rules or none: one duplicate refuses the whole call.
fn authorize(call: &mut Call<'_>, input: &Value, egress: bool) -> Reply {
    let group_id = group_id(call.state, input)?;
    let group = GROUP.find(&call.state.ec2.groups, &group_id)?;
    let permissions = given(input);
    if permissions.is_empty() {
        return Err(missing("ipPermissions"));
    }
    let mut new: Vec<Rule> = Vec::new();
    for permission in &permissions {
        for rule in rules_of(call.state, group, egress, permission)? {
            if group.rules.values().chain(&new).any(|other| same(&rule, other)) {
                let text = format!("the specified rule \"{}\" already exists", words(&rule));
                return Err(error("InvalidPermission.Duplicate", text));
            }
            new.push(rule);
        }
    }
    if group.rules.values().filter(|r| r.egress == egress).count() + new.len() > QUOTA {
        let text = "The maximum number of rules per security group has been reached.";
        return Err(error("RulesPerSecurityGroupLimitExceeded", text));
    }
    dry_run(input)?;
    let tags = new_tags(input, "security-group-rule");
    for rule in &mut new {
        (rule.id, rule.tags) = (id("sgr"), tags.clone());
    }
    let group = GROUP.find_mut(&mut call.state.ec2.groups, &group_id)?;
    group.rules.extend(new.iter().map(|rule| (rule.id.clone(), rule.clone())));
    let rules: Vec<Value> = new.iter().map(|rule| shown(call.state, &group_id, rule)).collect();
    Ok(json!({"Return": true, "SecurityGroupRules": rules}))
}

pub(super) fn revoke_ingress(call: &mut Call<'_>, input: &Value) -> Reply {
    revoke(call, input, false)
}

pub(super) fn revoke_egress(call: &mut Call<'_>, input: &Value) -> Reply {
    revoke(call, input, true)
}

fn revoke(call: &mut Call<'_>, input: &Value, egress: bool) -> Reply {
    let group_id = group_id(call.state, input)?;
    let group = GROUP.find(&call.state.ec2.groups, &group_id)?;
    let ids = strings(input, "SecurityGroupRuleIds");
    let permissions = given(input);
    if ids.is_empty() && permissions.is_empty() {
        return Err(missing("ipPermissions or securityGroupRuleIds"));
    }
    for id in &ids {
        if group.rules.get(id).is_none_or(|rule| rule.egress != egress) {
            return Err(RULE.unknown(id));
        }
    }
    let in_default_vpc = call.state.ec2.default_vpc() == Some(&group.vpc);
    let (mut gone, mut unknown) = (ids, Vec::new());
    for permission in &permissions {
        for rule in rules_of(call.state, group, egress, permission)? {
            match group.rules.values().find(|other| same(&rule, other)) {
                Some(found) => gone.push(found.id.clone()),
                // In a default VPC what is not there is told and is no error.
                None if in_default_vpc => unknown.push(rule),
                None => {
                    let text = "The specified rule does not exist in this security group.";
                    return Err(error("InvalidPermission.NotFound", text));
                }
            }
        }
    }
    dry_run(input)?;
    let unknown = permissions_or_null(call.state, &unknown);
    let group = GROUP.find_mut(&mut call.state.ec2.groups, &group_id)?;
    let revoked: Vec<Rule> = gone.iter().filter_map(|id| group.rules.remove(id)).collect();
    let revoked: Vec<Value> = revoked.iter().map(|rule| shown_revoked(&group_id, rule)).collect();
    Ok(without_nulls(json!({"Return": true, "UnknownIpPermissions": unknown, "RevokedSecurityGroupRules": revoked})))
}

fn permissions_or_null(state: &State, rules: &[Rule]) -> Value {
    if rules.is_empty() { Value::Null } else { permissions(state, rules.iter()) }
}

fn shown_revoked(group: &str, rule: &Rule) -> Value {
    let (v4, referenced) = (peer_block(rule), peer_group(rule));
    without_nulls(json!({"SecurityGroupRuleId": rule.id, "GroupId": group, "IsEgress": rule.egress,
        "IpProtocol": rule.protocol, "FromPort": rule.from.unwrap_or(-1), "ToPort": rule.to.unwrap_or(-1),
        "CidrIpv4": v4, "ReferencedGroupId": referenced, "Description": rule.description}))
}

pub(super) fn describe(call: &mut Call<'_>, input: &Value) -> Reply {
    let state = &*call.state;
    let view = |group: &Group, rule: &Rule| {
        let (it, of) = (rule.id.clone(), group.id.clone());
        let attribute = move |name: &str| {
            Some(vec![match name {
                "group-id" => of.clone(),
                "security-group-rule-id" => it.clone(),
                _ => return None,
            }])
        };
        let shown = shown(state, &group.id, rule);
        View { id: rule.id.clone(), tags: rule.tags.clone(), attribute: Box::new(attribute), shown }
    };
    // A group that does not exist is an error here, not an empty list.
    for (name, values) in super::filters(input, "Filters") {
        for value in values.iter().filter(|v| name == "group-id" && !v.contains('*')) {
            GROUP.find(&state.ec2.groups, value)?;
        }
    }
    let all = state.ec2.groups.values().flat_map(|g| g.rules.values().map(move |r| (g, r)));
    let all = all.map(|(g, r)| view(g, r)).collect();
    answer(&RULE, input, "SecurityGroupRuleIds", "SecurityGroupRules", all)
}
