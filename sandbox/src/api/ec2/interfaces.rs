//! Network interfaces, which other services make: who holds a security group or a subnet.

use serde_json::{Value, json};

use super::{INTERFACE, View, describe as answer, tag_set};
use crate::api::{Call, Reply, without_nulls};
use crate::state::State;
use crate::state::ec2::Interface;

fn shown(state: &State, interface: &Interface) -> Value {
    let name = |group: &String| state.ec2.groups.get(group).map(|g| g.name.clone()).unwrap_or_default();
    let groups: Vec<Value> = interface.groups.iter().map(|g| json!({"GroupId": g, "GroupName": name(g)})).collect();
    let zone = state.ec2.subnets.get(&interface.subnet).map(|s| s.zone.clone());
    without_nulls(json!({"NetworkInterfaceId": interface.id, "SubnetId": interface.subnet, "VpcId": interface.vpc,
        "Groups": groups, "PrivateIpAddress": interface.ip, "Description": interface.description, "Status": "in-use",
        "InterfaceType": interface.kind, "RequesterId": interface.requester, "RequesterManaged": true,
        "OwnerId": state.account, "AvailabilityZone": zone, "SourceDestCheck": true,
        "PrivateIpAddresses": [{"PrivateIpAddress": interface.ip, "Primary": true}],
        "Attachment": {"Status": "attached", "DeleteOnTermination": false, "InstanceOwnerId": interface.requester},
        "TagSet": tag_set(&interface.tags)}))
}

pub(super) fn describe(call: &mut Call<'_>, input: &Value) -> Reply {
    let state = &*call.state;
    let view = |interface: &Interface| {
        let it = interface.clone();
        let attribute = move |name: &str| {
            Some(match name {
                "network-interface-id" => vec![it.id.clone()],
                "group-id" => it.groups.clone(),
                "subnet-id" => vec![it.subnet.clone()],
                "vpc-id" => vec![it.vpc.clone()],
                "description" => vec![it.description.clone()],
                "private-ip-address" | "addresses.private-ip-address" => vec![it.ip.clone()],
                "interface-type" => vec![it.kind.into()],
                "requester-id" => vec![it.requester.into()],
                "requester-managed" => vec!["true".into()],
                "status" => vec!["in-use".into()],
                _ => return None,
            })
        };
        let shown = shown(state, interface);
        View { id: interface.id.clone(), tags: interface.tags.clone(), attribute: Box::new(attribute), shown }
    };
    let all = state.ec2.interfaces.values().map(view).collect();
    answer(&INTERFACE, input, "NetworkInterfaceIds", "NetworkInterfaces", all)
}
