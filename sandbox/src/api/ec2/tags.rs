//! Tags of any EC2 resource.

use serde_json::{Value, json};

use super::{View, describe as answer, dry_run, error};
use crate::api::{ApiError, Call, Reply, strings, tags_in};
use crate::state::Tags;
use crate::state::ec2::Ec2;

/// Tags of the resource and its type as DescribeTags names it.
fn tags_of<'a>(ec2: &'a mut Ec2, id: &str) -> Option<(&'static str, &'a mut Tags)> {
    match id.split('-').next()? {
        "vpc" => ec2.vpcs.get_mut(id).map(|r| ("vpc", &mut r.tags)),
        "subnet" => ec2.subnets.get_mut(id).map(|r| ("subnet", &mut r.tags)),
        "rtb" => ec2.route_tables.get_mut(id).map(|r| ("route-table", &mut r.tags)),
        "igw" => ec2.internet_gateways.get_mut(id).map(|r| ("internet-gateway", &mut r.tags)),
        "nat" => ec2.nat_gateways.get_mut(id).map(|r| ("natgateway", &mut r.tags)),
        "eipalloc" => ec2.addresses.get_mut(id).map(|r| ("elastic-ip", &mut r.tags)),
        "vpce" => ec2.endpoints.get_mut(id).map(|r| ("vpc-endpoint", &mut r.tags)),
        "eni" => ec2.interfaces.get_mut(id).map(|r| ("network-interface", &mut r.tags)),
        "sg" => ec2.groups.get_mut(id).map(|r| ("security-group", &mut r.tags)),
        "sgr" => {
            let rules = ec2.groups.values_mut().flat_map(|g| g.rules.values_mut());
            rules.into_iter().find(|r| r.id == id).map(|r| ("security-group-rule", &mut r.tags))
        }
        _ => None,
    }
}

fn unknown(id: &str) -> ApiError {
    if id.starts_with("sg-") {
        return super::GROUP.unknown(id);
    }
    error("InvalidID", format!("The ID '{id}' is not valid"))
}

pub(super) fn create(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    let ids = strings(input, "Resources");
    let new = tags_in(input, "Tags");
    if let Some(key) = new.keys().find(|key| key.starts_with("aws:")) {
        return Err(error("InvalidParameterValue", format!("Tag keys starting with 'aws:' are reserved: {key}")));
    }
    for id in &ids {
        tags_of(&mut call.state.ec2, id).ok_or_else(|| unknown(id))?;
    }
    for id in &ids {
        if let Some((_, tags)) = tags_of(&mut call.state.ec2, id) {
            tags.extend(new.clone());
        }
    }
    Ok(Value::Null)
}

pub(super) fn delete(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    let given = input["Tags"].as_array().cloned().unwrap_or_default();
    for id in strings(input, "Resources") {
        let (_, tags) = tags_of(&mut call.state.ec2, &id).ok_or_else(|| unknown(&id))?;
        if given.is_empty() {
            tags.clear();
        }
        for tag in &given {
            let key = tag["Key"].as_str().unwrap_or_default();
            // A value that is given must be the tag's value, else nothing is removed.
            let value = tag["Value"].as_str();
            if value.is_none_or(|value| tags.get(key).is_some_and(|have| have == value)) {
                tags.remove(key);
            }
        }
    }
    Ok(Value::Null)
}

pub(super) fn describe(call: &mut Call<'_>, input: &Value) -> Reply {
    let ec2 = &mut call.state.ec2;
    let mut ids: Vec<String> = Vec::new();
    ids.extend(ec2.vpcs.keys().chain(ec2.subnets.keys()).chain(ec2.route_tables.keys()).cloned());
    ids.extend(ec2.internet_gateways.keys().chain(ec2.nat_gateways.keys()).chain(ec2.addresses.keys()).cloned());
    ids.extend(ec2.endpoints.keys().chain(ec2.interfaces.keys()).chain(ec2.groups.keys()).cloned());
    ids.extend(ec2.groups.values().flat_map(|g| g.rules.keys().cloned()).collect::<Vec<_>>());
    let mut all = Vec::new();
    for id in ids {
        let Some((kind, tags)) = tags_of(ec2, &id) else { continue };
        for (key, value) in tags.clone() {
            let shown = json!({"ResourceId": id, "ResourceType": kind, "Key": key, "Value": value});
            let (id, of) = (id.clone(), id.clone());
            let attribute = move |name: &str| {
                Some(vec![match name {
                    "resource-id" => of.clone(),
                    "resource-type" => kind.into(),
                    "key" => key.clone(),
                    "value" => value.clone(),
                    _ => return None,
                }])
            };
            all.push(View { id, tags: Tags::new(), attribute: Box::new(attribute), shown });
        }
    }
    answer(&super::VPC, input, "", "Tags", all)
}
