//! Internet gateways, elastic addresses, NAT gateways.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    ADDRESS, INTERNET_GATEWAY, NAT_GATEWAY, SUBNET, VPC, View, describe, dry_run, error, missing, new_tags, tag_set,
};
use crate::api::{Call, Reply, epoch, text, without_nulls};
use crate::state::State;
use crate::state::ec2::{Address, InternetGateway, NatGateway, id};

/// How long a NAT gateway is pending, and deleting.
const NAT: Duration = Duration::from_secs(90);
/// How long a deleted one stays listed.
const NAT_GONE: Duration = Duration::from_hours(1);

fn internet_shown(state: &State, gateway: &InternetGateway) -> Value {
    let attached: Vec<Value> = gateway.vpc.iter().map(|vpc| json!({"VpcId": vpc, "State": "available"})).collect();
    without_nulls(json!({"InternetGatewayId": gateway.id, "OwnerId": state.account, "Attachments": attached,
        "Tags": tag_set(&gateway.tags)}))
}

pub(super) fn create_internet(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    let gateway = InternetGateway { id: id("igw"), vpc: None, tags: new_tags(input, "internet-gateway") };
    let answer = json!({"InternetGateway": internet_shown(call.state, &gateway)});
    call.state.ec2.internet_gateways.insert(gateway.id.clone(), gateway);
    Ok(answer)
}

pub(super) fn attach_internet(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    let ec2 = &mut call.state.ec2;
    let vpc = VPC.find(&ec2.vpcs, text(input, "VpcId").unwrap_or_default())?.id.clone();
    let wanted = text(input, "InternetGatewayId").unwrap_or_default();
    if INTERNET_GATEWAY.find(&ec2.internet_gateways, wanted)?.vpc.is_some() {
        let text = format!("resource {wanted} is already attached to network {vpc}");
        return Err(error("Resource.AlreadyAssociated", text));
    }
    if ec2.internet_gateways.values().any(|g| g.vpc.as_deref() == Some(&vpc)) {
        let text = format!("Network {vpc} already has an internet gateway attached");
        return Err(error("InvalidParameterValue", text));
    }
    INTERNET_GATEWAY.find_mut(&mut ec2.internet_gateways, wanted)?.vpc = Some(vpc);
    Ok(Value::Null)
}

pub(super) fn describe_internet(call: &mut Call<'_>, input: &Value) -> Reply {
    let state = &*call.state;
    let view = |gateway: &InternetGateway| {
        let it = gateway.clone();
        let attribute = move |name: &str| {
            Some(match name {
                "internet-gateway-id" => vec![it.id.clone()],
                "attachment.vpc-id" => it.vpc.clone().into_iter().collect(),
                "attachment.state" => it.vpc.iter().map(|_| "available".to_owned()).collect(),
                _ => return None,
            })
        };
        let shown = internet_shown(state, gateway);
        View { id: gateway.id.clone(), tags: gateway.tags.clone(), attribute: Box::new(attribute), shown }
    };
    let all = state.ec2.internet_gateways.values().map(view).collect();
    describe(&INTERNET_GATEWAY, input, "InternetGatewayIds", "InternetGateways", all)
}

pub(super) fn detach_internet(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    let (wanted, vpc) = (text(input, "InternetGatewayId").unwrap_or_default(), text(input, "VpcId"));
    let gateway = INTERNET_GATEWAY.find_mut(&mut call.state.ec2.internet_gateways, wanted)?;
    if gateway.vpc.is_none() || gateway.vpc.as_deref() != vpc {
        let text = format!("resource {wanted} is not attached to network {}", vpc.unwrap_or_default());
        return Err(error("Gateway.NotAttached", text));
    }
    gateway.vpc = None;
    Ok(Value::Null)
}

pub(super) fn delete_internet(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    let gateways = &mut call.state.ec2.internet_gateways;
    let found = INTERNET_GATEWAY.find(gateways, text(input, "InternetGatewayId").unwrap_or_default())?;
    if found.vpc.is_some() {
        let text = format!("The internetGateway '{}' has dependencies and cannot be deleted.", found.id);
        return Err(error("DependencyViolation", text));
    }
    let id = found.id.clone();
    gateways.remove(&id);
    Ok(Value::Null)
}

pub(super) fn allocate_address(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    // Addresses of a block kept for documentation.
    let ip = format!("203.0.113.{}", call.state.ec2.addresses.len() % 250 + 1);
    let address = Address { id: id("eipalloc"), ip, interface: None, tags: new_tags(input, "elastic-ip") };
    let answer = json!({"AllocationId": address.id, "PublicIp": address.ip, "Domain": "vpc",
        "NetworkBorderGroup": call.state.region, "PublicIpv4Pool": "amazon"});
    call.state.ec2.addresses.insert(address.id.clone(), address);
    Ok(answer)
}

pub(super) fn describe_addresses(call: &mut Call<'_>, input: &Value) -> Reply {
    let view = |address: &Address| {
        let it = address.clone();
        let attribute = move |name: &str| {
            Some(match name {
                "allocation-id" => vec![it.id.clone()],
                "public-ip" => vec![it.ip.clone()],
                "domain" => vec!["vpc".into()],
                "network-interface-id" => it.interface.clone().into_iter().collect(),
                _ => return None,
            })
        };
        let association = address.interface.as_ref().map(|i| format!("eipassoc-{}", &i[4..]));
        let shown = without_nulls(json!({"AllocationId": address.id, "PublicIp": address.ip, "Domain": "vpc",
            "NetworkInterfaceId": address.interface, "AssociationId": association, "Tags": tag_set(&address.tags)}));
        View { id: address.id.clone(), tags: address.tags.clone(), attribute: Box::new(attribute), shown }
    };
    describe(&ADDRESS, input, "AllocationIds", "Addresses", call.state.ec2.addresses.values().map(view).collect())
}

pub(super) fn release_address(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    let addresses = &mut call.state.ec2.addresses;
    let found = ADDRESS.find(addresses, text(input, "AllocationId").unwrap_or_default())?;
    if found.interface.is_some() {
        return Err(error("InvalidIPAddress.InUse", format!("Address {} is in use.", found.ip)));
    }
    let id = found.id.clone();
    addresses.remove(&id);
    Ok(Value::Null)
}

fn nat_shown(state: &State, nat: &NatGateway) -> Value {
    let address = nat.allocation.as_ref().and_then(|a| state.ec2.addresses.get(a));
    without_nulls(json!({"NatGatewayId": nat.id, "SubnetId": nat.subnet, "VpcId": nat.vpc, "State": nat.state,
        "ConnectivityType": nat.connectivity, "CreateTime": epoch(nat.created), "DeleteTime": nat.deleted.map(epoch),
        "NatGatewayAddresses": [{"AllocationId": nat.allocation, "PublicIp": address.map(|a| &a.ip),
            "PrivateIp": nat.private_ip, "NetworkInterfaceId": nat.interface, "IsPrimary": true, "Status": "succeeded"}],
        "Tags": tag_set(&nat.tags)}))
}

pub(super) fn create_nat(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    let ec2 = &mut call.state.ec2;
    let subnet = SUBNET.find(&ec2.subnets, text(input, "SubnetId").ok_or_else(|| missing("SubnetId"))?)?.clone();
    let connectivity = text(input, "ConnectivityType").unwrap_or("public").to_owned();
    let allocation = text(input, "AllocationId").map(str::to_owned);
    if let Some(allocation) = &allocation {
        let address = ADDRESS.find(&ec2.addresses, allocation)?;
        if address.interface.is_some() {
            let text = format!("Elastic IP address [{allocation}] is already associated");
            return Err(error("Resource.AlreadyAssociated", text));
        }
    } else if connectivity == "public" {
        return Err(missing("AllocationId"));
    }
    let nat = id("nat");
    let description = format!("Interface for NAT Gateway {nat}");
    let interface = ec2
        .add_interface(&subnet.id, &[], &nat, description, "amazon-aws", "nat_gateway")
        .ok_or_else(|| error("InsufficientFreeAddressesInSubnet", "The subnet has no free addresses."))?;
    if let Some(address) = allocation.as_ref().and_then(|a| ec2.addresses.get_mut(a)) {
        address.interface = Some(interface.clone());
    }
    let gateway = NatGateway {
        id: nat.clone(),
        subnet: subnet.id,
        vpc: subnet.vpc,
        state: "pending",
        connectivity,
        allocation,
        private_ip: ec2.interfaces.get(&interface).map(|i| i.ip.clone()).unwrap_or_default(),
        interface,
        created: call.now,
        deleted: None,
        tags: new_tags(input, "natgateway"),
    };
    ec2.nat_gateways.insert(nat.clone(), gateway);
    let answer = json!({"NatGateway": nat_shown(call.state, &call.state.ec2.nat_gateways[&nat])});
    let cloud = call.cloud.clone();
    call.cloud.spawn(async move {
        cloud.shared.clock.pass(NAT).await;
        cloud.shared.change(|state| {
            if let Some(nat) = state.ec2.nat_gateways.get_mut(&nat).filter(|n| n.state == "pending") {
                nat.state = "available";
            }
        });
    });
    Ok(answer)
}

pub(super) fn describe_nat(call: &mut Call<'_>, input: &Value) -> Reply {
    let state = &*call.state;
    let view = |nat: &NatGateway| {
        let it = nat.clone();
        let attribute = move |name: &str| {
            Some(vec![match name {
                "nat-gateway-id" => it.id.clone(),
                "vpc-id" => it.vpc.clone(),
                "subnet-id" => it.subnet.clone(),
                "state" => it.state.into(),
                _ => return None,
            }])
        };
        View {
            id: nat.id.clone(),
            tags: nat.tags.clone(),
            attribute: Box::new(attribute),
            shown: nat_shown(state, nat),
        }
    };
    // Here the member is called Filter.
    let mut input = input.clone();
    input["Filters"] = input["Filter"].take();
    describe(&NAT_GATEWAY, &input, "NatGatewayIds", "NatGateways", state.ec2.nat_gateways.values().map(view).collect())
}

pub(super) fn delete_nat(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    let wanted = text(input, "NatGatewayId").unwrap_or_default();
    let now = call.now;
    let nat = NAT_GATEWAY.find_mut(&mut call.state.ec2.nat_gateways, wanted)?;
    if !matches!(nat.state, "deleting" | "deleted") {
        (nat.state, nat.deleted) = ("deleting", Some(now));
        let (cloud, id) = (call.cloud.clone(), wanted.to_owned());
        call.cloud.spawn(async move {
            cloud.shared.clock.pass(NAT).await;
            cloud.shared.change(|state| {
                state.ec2.drop_interfaces(&id);
                let Some(nat) = state.ec2.nat_gateways.get_mut(&id) else { return };
                nat.state = "deleted";
                let allocation = nat.allocation.clone();
                if let Some(address) = allocation.and_then(|a| state.ec2.addresses.get_mut(&a)) {
                    address.interface = None;
                }
            });
            cloud.shared.clock.pass(NAT_GONE).await;
            cloud.shared.change(|state| state.ec2.nat_gateways.remove(&id));
        });
    }
    Ok(json!({"NatGatewayId": wanted}))
}
