//! Route tables, their routes and associations.

use serde_json::{Value, json};

use super::{
    INTERNET_GATEWAY, NAT_GATEWAY, ROUTE_TABLE, SUBNET, VPC, View, dependent, describe as answer, dry_run, error,
    missing, new_tags, tag_set,
};
use crate::api::{Call, Reply, text, without_nulls};
use crate::state::State;
use crate::state::ec2::{Cidr, Gateway, RouteTable, id};

fn shown(state: &State, table: &RouteTable) -> Value {
    let local = state.ec2.vpcs.get(&table.vpc).map(|v| v.cidr.to_string());
    let mut routes = vec![json!({"DestinationCidrBlock": local, "GatewayId": "local", "State": "active",
        "Origin": "CreateRouteTable"})];
    routes.extend(table.routes.iter().map(|(destination, gateway)| {
        let (member, id, alive) = match gateway {
            Gateway::Gateway(id) => {
                let attached =
                    state.ec2.internet_gateways.get(id).is_some_and(|g| g.vpc.as_deref() == Some(&table.vpc));
                ("GatewayId", id, attached)
            }
            Gateway::Nat(id) => {
                let there = state.ec2.nat_gateways.get(id);
                ("NatGatewayId", id, there.is_some_and(|n| matches!(n.state, "available" | "pending")))
            }
            Gateway::Interface(id) => ("NetworkInterfaceId", id, state.ec2.interfaces.contains_key(id)),
        };
        json!({"DestinationCidrBlock": destination, member: id, "Origin": "CreateRoute",
            "State": if alive { "active" } else { "blackhole" }})
    }));
    let endpoints = state.ec2.endpoints.values().filter(|e| e.route_tables.contains(&table.id));
    routes.extend(endpoints.map(|e| {
        json!({"DestinationPrefixListId": super::endpoints::prefix_list(&e.service), "GatewayId": e.id,
            "State": "active", "Origin": "CreateRoute"})
    }));
    let associated = |id: &str, subnet: Option<&str>| {
        without_nulls(json!({"RouteTableAssociationId": id, "RouteTableId": table.id, "SubnetId": subnet,
            "Main": subnet.is_none(), "AssociationState": {"State": "associated"}}))
    };
    let main = table.main.iter().map(|id| associated(id, None));
    let own = table.associations.iter().map(|(id, subnet)| associated(id, Some(subnet)));
    without_nulls(json!({"RouteTableId": table.id, "VpcId": table.vpc, "OwnerId": state.account, "Routes": routes,
        "Associations": main.chain(own).collect::<Vec<_>>(), "PropagatingVgws": [], "Tags": tag_set(&table.tags)}))
}

pub(super) fn create(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    let vpc = VPC.find(&call.state.ec2.vpcs, text(input, "VpcId").unwrap_or_default())?.id.clone();
    let table = RouteTable {
        id: id("rtb"),
        vpc,
        main: None,
        associations: std::collections::BTreeMap::new(),
        routes: std::collections::BTreeMap::new(),
        tags: new_tags(input, "route-table"),
    };
    let answer = json!({"RouteTable": shown(call.state, &table)});
    call.state.ec2.route_tables.insert(table.id.clone(), table);
    Ok(answer)
}

pub(super) fn describe(call: &mut Call<'_>, input: &Value) -> Reply {
    let state = &*call.state;
    let view = |table: &RouteTable| {
        let shown = shown(state, table);
        let (it, seen) = (table.clone(), shown.clone());
        let attribute = move |name: &str| {
            let routes = |member: &str| {
                let routes = seen["Routes"].as_array().into_iter().flatten();
                routes.filter_map(|r| r[member].as_str().map(str::to_owned)).collect()
            };
            Some(match name {
                "route-table-id" | "association.route-table-id" => vec![it.id.clone()],
                "vpc-id" => vec![it.vpc.clone()],
                "association.main" => {
                    let own = it.associations.values().map(|_| "false".to_owned());
                    own.chain(it.main.iter().map(|_| "true".to_owned())).collect()
                }
                "association.subnet-id" => it.associations.values().cloned().collect(),
                "association.route-table-association-id" => {
                    it.associations.keys().chain(it.main.iter()).cloned().collect()
                }
                "route.nat-gateway-id" => routes("NatGatewayId"),
                "route.gateway-id" => routes("GatewayId"),
                "route.destination-cidr-block" => routes("DestinationCidrBlock"),
                "route.state" => routes("State"),
                _ => return None,
            })
        };
        View { id: table.id.clone(), tags: table.tags.clone(), attribute: Box::new(attribute), shown }
    };
    answer(&ROUTE_TABLE, input, "RouteTableIds", "RouteTables", state.ec2.route_tables.values().map(view).collect())
}

pub(super) fn delete(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    let tables = &mut call.state.ec2.route_tables;
    let table = ROUTE_TABLE.find(tables, text(input, "RouteTableId").unwrap_or_default())?;
    if table.main.is_some() || !table.associations.is_empty() {
        let text = format!("The routeTable '{}' has dependencies and cannot be deleted.", table.id);
        return Err(error("DependencyViolation", text));
    }
    let id = table.id.clone();
    tables.remove(&id);
    Ok(Value::Null)
}

pub(super) fn create_route(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    let ec2 = &mut call.state.ec2;
    let table = ROUTE_TABLE.find(&ec2.route_tables, text(input, "RouteTableId").unwrap_or_default())?;
    let block = text(input, "DestinationCidrBlock").ok_or_else(|| missing("destinationCidrBlock"))?;
    let cidr = Cidr::parse(block).ok_or_else(|| {
        error("InvalidParameterValue", format!("Value ({block}) for parameter destinationCidrBlock is invalid."))
    })?;
    let gateway = match (text(input, "GatewayId"), text(input, "NatGatewayId"), text(input, "NetworkInterfaceId")) {
        (Some(id), None, None) => {
            let found = INTERNET_GATEWAY.find(&ec2.internet_gateways, id)?;
            if found.vpc.as_deref() != Some(&table.vpc) {
                let text = format!("route table {} and network gateway {id} belong to different networks", table.id);
                return Err(error("InvalidParameterValue", text));
            }
            Gateway::Gateway(id.to_owned())
        }
        (None, Some(id), None) => {
            let found = NAT_GATEWAY.find(&ec2.nat_gateways, id).map_err(|_| {
                error("InvalidNatGatewayID.NotFound", format!("The natGateway ID '{id}' does not exist"))
            })?;
            if found.vpc != table.vpc {
                let text = format!("route table {} and interface {id} belong to different networks", table.id);
                return Err(error("InvalidParameterValue", text));
            }
            Gateway::Nat(id.to_owned())
        }
        (None, None, Some(id)) => Gateway::Interface(super::INTERFACE.find(&ec2.interfaces, id)?.id.clone()),
        (None, None, None) => return Err(missing("gatewayId or natGatewayId")),
        _ => return Err(error("InvalidParameterCombination", "Only one target of the route can be given.")),
    };
    let table = table.id.clone();
    let table = ROUTE_TABLE.find_mut(&mut ec2.route_tables, &table)?;
    let destination = cidr.to_string();
    if table.routes.contains_key(&destination) {
        return Err(error("RouteAlreadyExists", format!("The route identified by {destination} already exists.")));
    }
    table.routes.insert(destination, gateway);
    Ok(json!({"Return": true}))
}

pub(super) fn delete_route(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    let id = text(input, "RouteTableId").unwrap_or_default();
    let block = text(input, "DestinationCidrBlock").ok_or_else(|| missing("destinationCidrBlock"))?;
    let table = ROUTE_TABLE.find_mut(&mut call.state.ec2.route_tables, id)?;
    if table.routes.remove(block).is_none() {
        let text = format!("no route with destination-cidr-block {block} in route table {id}");
        return Err(error("InvalidRoute.NotFound", text));
    }
    Ok(Value::Null)
}

pub(super) fn associate(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    let ec2 = &mut call.state.ec2;
    let subnet = SUBNET.find(&ec2.subnets, text(input, "SubnetId").ok_or_else(|| missing("SubnetId"))?)?.clone();
    let taken = ec2.route_tables.values().find(|t| t.associations.values().any(|s| *s == subnet.id));
    let wanted = text(input, "RouteTableId").unwrap_or_default();
    if let Some(taken) = taken
        && taken.id != wanted
    {
        let text = format!("the specified association for route table {wanted} conflicts with an existing association");
        return Err(error("Resource.AlreadyAssociated", text));
    }
    let table = ROUTE_TABLE.find_mut(&mut ec2.route_tables, wanted)?;
    if table.vpc != subnet.vpc {
        let text = format!("Route table {} and subnet {} belong to different networks", table.id, subnet.id);
        return Err(error("InvalidParameterValue", text));
    }
    let association = id("rtbassoc");
    table.associations.retain(|_, s| *s != subnet.id);
    table.associations.insert(association.clone(), subnet.id);
    Ok(json!({"AssociationId": association, "AssociationState": {"State": "associated"}}))
}

pub(super) fn disassociate(call: &mut Call<'_>, input: &Value) -> Reply {
    dry_run(input)?;
    let wanted = text(input, "AssociationId").unwrap_or_default();
    let tables = &mut call.state.ec2.route_tables;
    if tables.values().any(|t| t.main.as_deref() == Some(wanted)) {
        return Err(dependent(wanted));
    }
    let removed = tables.values_mut().any(|t| t.associations.remove(wanted).is_some());
    if !removed {
        let text = format!("The association ID '{wanted}' does not exist");
        return Err(error("InvalidAssociationID.NotFound", text));
    }
    Ok(Value::Null)
}
