//! VPCs and subnets.

use serde_json::{Value, json};

use super::{SUBNET, VPC, View, dependent, describe, dry_run, error, missing, new_tags, tag_set};
use crate::api::{Call, Reply, text, without_nulls};
use crate::state::State;
use crate::state::ec2::{Cidr, Subnet, Vpc};

/// Zones of the region, by letter.
const ZONES: [&str; 3] = ["a", "b", "c"];

fn vpc_shown(state: &State, vpc: &Vpc) -> Value {
    without_nulls(json!({"VpcId": vpc.id, "CidrBlock": vpc.cidr.to_string(), "State": "available",
        "IsDefault": vpc.default, "InstanceTenancy": "default", "OwnerId": state.account, "DhcpOptionsId": "default",
        "CidrBlockAssociationSet": [{"CidrBlock": vpc.cidr.to_string(), "CidrBlockState": {"State": "associated"},
            "AssociationId": format!("vpc-cidr-assoc-{}", &vpc.id[4..])}],
        "Tags": tag_set(&vpc.tags)}))
}

pub(super) fn create_vpc(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    let block = text(input, "CidrBlock").ok_or_else(|| missing("CidrBlock"))?;
    let cidr = Cidr::parse(block).ok_or_else(|| {
        error("InvalidParameterValue", format!("Value ({block}) for parameter cidrBlock is invalid."))
    })?;
    if !(16..=28).contains(&cidr.bits()) {
        return Err(error("InvalidVpc.Range", format!("The CIDR '{block}' is invalid.")));
    }
    let id = call.state.ec2.add_vpc(cidr, false, new_tags(input, "vpc"));
    Ok(json!({"Vpc": vpc_shown(call.state, &call.state.ec2.vpcs[&id])}))
}

pub(super) fn describe_vpcs(call: &mut Call<'_>, input: &Value) -> Reply {
    let state = &*call.state;
    let view = |vpc: &Vpc| {
        let (id, cidr, default) = (vpc.id.clone(), vpc.cidr.to_string(), vpc.default.to_string());
        let owner = state.account.clone();
        let attribute = move |name: &str| {
            Some(vec![match name {
                "vpc-id" => id.clone(),
                "cidr" | "cidr-block" | "cidr-block-association.cidr-block" => cidr.clone(),
                "is-default" | "isDefault" => default.clone(),
                "state" => "available".into(),
                "owner-id" => owner.clone(),
                _ => return None,
            }])
        };
        View {
            id: vpc.id.clone(),
            tags: vpc.tags.clone(),
            attribute: Box::new(attribute),
            shown: vpc_shown(state, vpc),
        }
    };
    describe(&VPC, input, "VpcIds", "Vpcs", state.ec2.vpcs.values().map(view).collect())
}

pub(super) fn delete_vpc(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    let ec2 = &mut call.state.ec2;
    let id = VPC.find(&ec2.vpcs, input["VpcId"].as_str().unwrap_or_default())?.id.clone();
    let held = ec2.subnets.values().any(|s| s.vpc == id)
        || ec2.groups.values().any(|g| g.vpc == id && g.name != "default")
        || ec2.route_tables.values().any(|t| t.vpc == id && t.main.is_none())
        || ec2.internet_gateways.values().any(|g| g.vpc.as_deref() == Some(&id))
        || ec2.endpoints.values().any(|e| e.vpc == id)
        || ec2.interfaces.values().any(|i| i.vpc == id);
    if held {
        return Err(error("DependencyViolation", format!("The vpc '{id}' has dependencies and cannot be deleted.")));
    }
    ec2.vpcs.remove(&id);
    ec2.groups.retain(|_, g| g.vpc != id);
    ec2.route_tables.retain(|_, t| t.vpc != id);
    Ok(Value::Null)
}

fn subnet_shown(state: &State, subnet: &Subnet) -> Value {
    let used = state.ec2.interfaces.values().filter(|i| i.subnet == subnet.id).count() as u64;
    without_nulls(json!({"SubnetId": subnet.id, "VpcId": subnet.vpc, "CidrBlock": subnet.cidr.to_string(),
        "AvailabilityZone": subnet.zone, "AvailabilityZoneId": zone_id(&subnet.zone), "State": "available",
        "AvailableIpAddressCount": subnet.cidr.usable().saturating_sub(used), "DefaultForAz": subnet.default,
        "MapPublicIpOnLaunch": subnet.default, "AssignIpv6AddressOnCreation": false, "OwnerId": state.account,
        "SubnetArn": state.arn("ec2", &format!("subnet/{}", subnet.id)), "Tags": tag_set(&subnet.tags)}))
}

/// `us-east-1b` → `use1-az2`.
fn zone_id(zone: &str) -> String {
    let (region, letter) = zone.split_at(zone.len().saturating_sub(1));
    let number = ZONES.iter().position(|z| *z == letter).unwrap_or(0) + 1;
    format!("{}-az{number}", crate::api::elasticache::region_code(region))
}

pub(super) fn create_subnet(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    let ec2 = &call.state.ec2;
    let vpc = VPC.find(&ec2.vpcs, text(input, "VpcId").ok_or_else(|| missing("VpcId"))?)?;
    let block = text(input, "CidrBlock").ok_or_else(|| missing("CidrBlock"))?;
    let cidr = Cidr::parse(block).ok_or_else(|| {
        error("InvalidParameterValue", format!("Value ({block}) for parameter cidrBlock is invalid."))
    })?;
    if !vpc.cidr.contains(cidr) || !(16..=28).contains(&cidr.bits()) {
        return Err(error("InvalidSubnet.Range", format!("The CIDR '{block}' is invalid.")));
    }
    if ec2.subnets.values().any(|s| s.vpc == vpc.id && s.cidr.overlaps(cidr)) {
        return Err(error("InvalidSubnet.Conflict", format!("The CIDR '{block}' conflicts with another subnet")));
    }
    let zone = text(input, "AvailabilityZone").map_or_else(|| format!("{}a", call.state.region), str::to_owned);
    if !ZONES.iter().any(|letter| zone == format!("{}{letter}", call.state.region)) {
        let text = format!("Value ({zone}) for parameter availabilityZone is invalid.");
        return Err(error("InvalidParameterValue", text));
    }
    let vpc = vpc.id.clone();
    let id = call.state.ec2.add_subnet(&vpc, cidr, zone, false, new_tags(input, "subnet"));
    Ok(json!({"Subnet": subnet_shown(call.state, &call.state.ec2.subnets[&id])}))
}

pub(super) fn describe_subnets(call: &mut Call<'_>, input: &Value) -> Reply {
    let state = &*call.state;
    let view = |subnet: &Subnet| {
        let it = subnet.clone();
        let attribute = move |name: &str| {
            Some(vec![match name {
                "subnet-id" => it.id.clone(),
                "vpc-id" => it.vpc.clone(),
                "availability-zone" | "availabilityZone" => it.zone.clone(),
                "cidr-block" | "cidr" => it.cidr.to_string(),
                "state" => "available".into(),
                "map-public-ip-on-launch" | "default-for-az" | "defaultForAz" => it.default.to_string(),
                _ => return None,
            }])
        };
        View {
            id: subnet.id.clone(),
            tags: subnet.tags.clone(),
            attribute: Box::new(attribute),
            shown: subnet_shown(state, subnet),
        }
    };
    describe(&SUBNET, input, "SubnetIds", "Subnets", state.ec2.subnets.values().map(view).collect())
}

pub(super) fn delete_subnet(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    let ec2 = &mut call.state.ec2;
    let id = SUBNET.find(&ec2.subnets, input["SubnetId"].as_str().unwrap_or_default())?.id.clone();
    if ec2.interfaces.values().any(|i| i.subnet == id) {
        let text = format!("The subnet '{id}' has dependencies and cannot be deleted.");
        return Err(error("DependencyViolation", text));
    }
    if call.state.elasticache.subnet_groups.values().any(|g| g.subnets.contains(&id)) {
        return Err(dependent(&id));
    }
    let ec2 = &mut call.state.ec2;
    ec2.subnets.remove(&id);
    for table in ec2.route_tables.values_mut() {
        table.associations.retain(|_, subnet| *subnet != id);
    }
    Ok(Value::Null)
}

#[expect(clippy::unnecessary_wraps, reason = "an operation")]
pub(super) fn describe_zones(call: &mut Call<'_>, input: &Value) -> Reply {
    let region = &call.state.region;
    let wanted = crate::api::strings(input, "ZoneNames");
    let zones: Vec<Value> = ZONES
        .iter()
        .map(|letter| format!("{region}{letter}"))
        .filter(|zone| wanted.is_empty() || wanted.contains(zone))
        .map(|zone| {
            json!({"ZoneName": zone, "ZoneId": zone_id(&zone), "State": "available", "RegionName": region,
                "ZoneType": "availability-zone", "OptInStatus": "opt-in-not-required"})
        })
        .collect();
    Ok(json!({"AvailabilityZones": zones}))
}
