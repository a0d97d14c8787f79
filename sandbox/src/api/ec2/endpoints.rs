//! VPC endpoints: what still reaches AWS where there is no NAT gateway.

use std::time::Duration;

use serde_json::{Value, json};

use super::{ENDPOINT, GROUP, ROUTE_TABLE, SUBNET, VPC, View, describe as answer, dry_run, error, new_tags, tag_set};
use crate::api::{Call, Reply, epoch, strings, text, without_nulls};
use crate::state::State;
use crate::state::ec2::{Endpoint, id};

/// How long an interface endpoint is pending, and deleting.
const INTERFACE: Duration = Duration::from_mins(1);

/// The prefix list a gateway endpoint's route names.
pub(super) fn prefix_list(service: &str) -> &'static str {
    if service.rsplit('.').next() == Some("s3") { "pl-63a5400a" } else { "pl-02cd2c6b" }
}

fn shown(state: &State, endpoint: &Endpoint) -> Value {
    let gateway = endpoint.kind == "Gateway";
    let name = |group: &String| state.ec2.groups.get(group).map(|g| g.name.clone()).unwrap_or_default();
    let groups: Vec<Value> = endpoint.groups.iter().map(|g| json!({"GroupId": g, "GroupName": name(g)})).collect();
    let held = state.ec2.interfaces.values().filter(|i| i.holder == endpoint.id);
    let interfaces: Vec<&str> = held.map(|i| i.id.as_str()).collect();
    without_nulls(json!({"VpcEndpointId": endpoint.id, "VpcEndpointType": endpoint.kind, "VpcId": endpoint.vpc,
        "ServiceName": endpoint.service, "State": endpoint.state, "RouteTableIds": endpoint.route_tables,
        "SubnetIds": endpoint.subnets, "Groups": groups, "NetworkInterfaceIds": interfaces,
        "PrivateDnsEnabled": !gateway, "RequesterManaged": false, "OwnerId": state.account,
        "CreationTimestamp": epoch(endpoint.created), "Tags": tag_set(&endpoint.tags)}))
}

pub(super) fn create(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    let ec2 = &mut call.state.ec2;
    let vpc = VPC.find(&ec2.vpcs, text(input, "VpcId").unwrap_or_default())?.id.clone();
    let service = text(input, "ServiceName").unwrap_or_default();
    if !service.starts_with("com.amazonaws.") {
        return Err(error("InvalidServiceName", format!("The Vpc Endpoint Service '{service}' does not exist")));
    }
    let kind = text(input, "VpcEndpointType").unwrap_or("Gateway");
    let (tables, subnets) = (strings(input, "RouteTableIds"), strings(input, "SubnetIds"));
    for table in &tables {
        ROUTE_TABLE.find(&ec2.route_tables, table)?;
    }
    for subnet in &subnets {
        SUBNET.find(&ec2.subnets, subnet)?;
    }
    let mut groups = strings(input, "SecurityGroupIds");
    for group in &groups {
        GROUP.find(&ec2.groups, group)?;
    }
    if kind == "Interface" && groups.is_empty() {
        groups.extend(ec2.default_group(&vpc).map(str::to_owned));
    }
    let endpoint = Endpoint {
        id: id("vpce"),
        kind: kind.to_owned(),
        vpc,
        service: service.to_owned(),
        state: if kind == "Gateway" { "available" } else { "pending" },
        route_tables: tables,
        subnets,
        groups,
        created: call.now,
        tags: new_tags(input, "vpc-endpoint"),
    };
    for subnet in &endpoint.subnets {
        let description = format!("VPC Endpoint Interface {}", endpoint.id);
        ec2.add_interface(subnet, &endpoint.groups, &endpoint.id, description, "amazon-aws", "vpc_endpoint");
    }
    let name = endpoint.id.clone();
    ec2.endpoints.insert(name.clone(), endpoint);
    let answer = json!({"VpcEndpoint": shown(call.state, &call.state.ec2.endpoints[&name])});
    let cloud = call.cloud.clone();
    call.cloud.spawn(async move {
        cloud.shared.clock.pass(INTERFACE).await;
        cloud.shared.change(|state| {
            if let Some(endpoint) = state.ec2.endpoints.get_mut(&name).filter(|e| e.state == "pending") {
                endpoint.state = "available";
            }
        });
    });
    Ok(answer)
}

pub(super) fn describe(call: &mut Call<'_>, input: &Value) -> Reply {
    let state = &*call.state;
    let view = |endpoint: &Endpoint| {
        let it = endpoint.clone();
        let attribute = move |name: &str| {
            Some(vec![match name {
                "vpc-endpoint-id" => it.id.clone(),
                "vpc-id" => it.vpc.clone(),
                "service-name" => it.service.clone(),
                "vpc-endpoint-type" => it.kind.clone(),
                "vpc-endpoint-state" => it.state.into(),
                _ => return None,
            }])
        };
        let shown = shown(state, endpoint);
        View { id: endpoint.id.clone(), tags: endpoint.tags.clone(), attribute: Box::new(attribute), shown }
    };
    answer(&ENDPOINT, input, "VpcEndpointIds", "VpcEndpoints", state.ec2.endpoints.values().map(view).collect())
}

pub(super) fn delete(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    let ec2 = &mut call.state.ec2;
    let mut unsuccessful = Vec::new();
    for wanted in strings(input, "VpcEndpointIds") {
        match ec2.endpoints.get_mut(&wanted) {
            None => {
                let unknown = ENDPOINT.unknown(&wanted);
                unsuccessful.push(json!({"ResourceId": wanted,
                    "Error": {"Code": unknown.code, "Message": unknown.message}}));
            }
            Some(endpoint) if endpoint.kind == "Gateway" => {
                ec2.endpoints.remove(&wanted);
            }
            Some(endpoint) => {
                endpoint.state = "deleting";
                let cloud = call.cloud.clone();
                call.cloud.spawn(async move {
                    cloud.shared.clock.pass(INTERFACE).await;
                    cloud.shared.change(|state| {
                        state.ec2.drop_interfaces(&wanted);
                        state.ec2.endpoints.remove(&wanted)
                    });
                });
            }
        }
    }
    Ok(json!({"Unsuccessful": unsuccessful}))
}
