//! EC2 networking, API version 2016-11-15: what is common to its operations (ids, filters, pages, tags).

mod endpoints;
mod gateways;
mod groups;
mod interfaces;
mod routes;
mod rules;
mod tags;
mod vpcs;

use serde_json::{Value, json};

use super::{ApiError, Operation, Reply, page, strings, tags_in, text, without_nulls};
use crate::state::Tags;

/// The function of an operation.
pub fn operation(name: &str) -> Option<Operation> {
    Some(match name {
        "CreateVpc" => vpcs::create_vpc,
        "DescribeVpcs" => vpcs::describe_vpcs,
        "DeleteVpc" => vpcs::delete_vpc,
        "CreateSubnet" => vpcs::create_subnet,
        "DescribeSubnets" => vpcs::describe_subnets,
        "DeleteSubnet" => vpcs::delete_subnet,
        "DescribeAvailabilityZones" => vpcs::describe_zones,
        "CreateRouteTable" => routes::create,
        "DescribeRouteTables" => routes::describe,
        "DeleteRouteTable" => routes::delete,
        "CreateRoute" => routes::create_route,
        "DeleteRoute" => routes::delete_route,
        "AssociateRouteTable" => routes::associate,
        "DisassociateRouteTable" => routes::disassociate,
        "CreateInternetGateway" => gateways::create_internet,
        "AttachInternetGateway" => gateways::attach_internet,
        "DescribeInternetGateways" => gateways::describe_internet,
        "DetachInternetGateway" => gateways::detach_internet,
        "DeleteInternetGateway" => gateways::delete_internet,
        "AllocateAddress" => gateways::allocate_address,
        "DescribeAddresses" => gateways::describe_addresses,
        "ReleaseAddress" => gateways::release_address,
        "CreateNatGateway" => gateways::create_nat,
        "DescribeNatGateways" => gateways::describe_nat,
        "DeleteNatGateway" => gateways::delete_nat,
        "CreateVpcEndpoint" => endpoints::create,
        "DescribeVpcEndpoints" => endpoints::describe,
        "DeleteVpcEndpoints" => endpoints::delete,
        "DescribeNetworkInterfaces" => interfaces::describe,
        "CreateSecurityGroup" => groups::create,
        "DescribeSecurityGroups" => groups::describe,
        "DeleteSecurityGroup" => groups::delete,
        "AuthorizeSecurityGroupIngress" => rules::authorize_ingress,
        "AuthorizeSecurityGroupEgress" => rules::authorize_egress,
        "RevokeSecurityGroupIngress" => rules::revoke_ingress,
        "RevokeSecurityGroupEgress" => rules::revoke_egress,
        "DescribeSecurityGroupRules" => rules::describe,
        "CreateTags" => tags::create,
        "DeleteTags" => tags::delete,
        "DescribeTags" => tags::describe,
        _ => return None,
    })
}

fn error(code: &str, message: impl Into<String>) -> ApiError {
    ApiError::new(code, message).with_status(400)
}

fn missing(parameter: &str) -> ApiError {
    error("MissingParameter", format!("The request must contain the parameter {parameter}"))
}

/// With DryRun the answer is an error either way; this one means allowed.
fn dry_run(input: &Value) -> Result<(), ApiError> {
    if input["DryRun"].as_bool().unwrap_or(false) {
        return Err(error("DryRunOperation", "Request would have succeeded, but DryRun flag is set.").with_status(412));
    }
    Ok(())
}

/// Error codes of a kind of id.
struct Kind {
    prefix: &'static str,
    not_found: &'static str,
    malformed: &'static str,
    noun: &'static str,
}

const VPC: Kind =
    Kind { prefix: "vpc", not_found: "InvalidVpcID.NotFound", malformed: "InvalidVpcId.Malformed", noun: "vpc ID" };
const SUBNET: Kind = Kind {
    prefix: "subnet",
    not_found: "InvalidSubnetID.NotFound",
    malformed: "InvalidSubnetID.Malformed",
    noun: "subnet ID",
};
const ROUTE_TABLE: Kind = Kind {
    prefix: "rtb",
    not_found: "InvalidRouteTableID.NotFound",
    malformed: "InvalidRouteTableId.Malformed",
    noun: "routeTable ID",
};
const INTERNET_GATEWAY: Kind = Kind {
    prefix: "igw",
    not_found: "InvalidInternetGatewayID.NotFound",
    malformed: "InvalidInternetGatewayId.Malformed",
    noun: "internetGateway ID",
};
const NAT_GATEWAY: Kind =
    Kind { prefix: "nat", not_found: "NatGatewayNotFound", malformed: "NatGatewayMalformed", noun: "NatGateway" };
const ADDRESS: Kind = Kind {
    prefix: "eipalloc",
    not_found: "InvalidAllocationID.NotFound",
    malformed: "InvalidAllocationID.Malformed",
    noun: "allocation ID",
};
const ENDPOINT: Kind = Kind {
    prefix: "vpce",
    not_found: "InvalidVpcEndpointId.NotFound",
    malformed: "InvalidVpcEndpointId.Malformed",
    noun: "Vpc Endpoint ID",
};
const INTERFACE: Kind = Kind {
    prefix: "eni",
    not_found: "InvalidNetworkInterfaceID.NotFound",
    malformed: "InvalidNetworkInterfaceId.Malformed",
    noun: "networkInterface ID",
};
const GROUP: Kind = Kind {
    prefix: "sg",
    not_found: "InvalidGroup.NotFound",
    malformed: "InvalidGroupId.Malformed",
    noun: "security group",
};
const RULE: Kind = Kind {
    prefix: "sgr",
    not_found: "InvalidSecurityGroupRuleId.NotFound",
    malformed: "InvalidSecurityGroupRuleId.Malformed",
    noun: "security group rule ID",
};

impl Kind {
    /// The resource of that id, or the error for an id that is malformed or unknown.
    fn find<'a, T>(&self, all: &'a std::collections::BTreeMap<String, T>, id: &str) -> Result<&'a T, ApiError> {
        all.get(id).ok_or_else(|| self.unknown(id))
    }

    fn find_mut<'a, T>(
        &self,
        all: &'a mut std::collections::BTreeMap<String, T>,
        id: &str,
    ) -> Result<&'a mut T, ApiError> {
        all.get_mut(id).ok_or_else(|| self.unknown(id))
    }

    fn unknown(&self, id: &str) -> ApiError {
        let number = id.strip_prefix(self.prefix).and_then(|rest| rest.strip_prefix('-'));
        let lawful = |n: &str| [8, 17].contains(&n.len()) && n.chars().all(|c| c.is_ascii_hexdigit());
        if number.is_some_and(lawful) {
            return error(self.not_found, format!("The {} '{id}' does not exist", self.noun));
        }
        error(self.malformed, format!("Invalid id: \"{id}\" (expecting \"{}-...\")", self.prefix))
    }
}

/// Values of a filter by its name.
type Attribute = dyn Fn(&str) -> Option<Vec<String>>;

/// What a Describe needs to know of a resource.
struct View {
    id: String,
    tags: Tags,
    /// Values of a filter's name; `None` = no such filter.
    attribute: Box<Attribute>,
    shown: Value,
}

/// Answers a Describe: by ids, filters and pages.
fn describe(kind: &Kind, input: &Value, ids: &str, out: &str, all: Vec<View>) -> Reply {
    let wanted = strings(input, ids);
    for id in &wanted {
        if !all.iter().any(|view| view.id == *id) {
            return Err(kind.unknown(id));
        }
    }
    let filters = filters(input, "Filters");
    let mut kept = Vec::new();
    for view in all {
        if (wanted.is_empty() || wanted.contains(&view.id)) && passes(&view, &filters)? {
            kept.push(view.shown);
        }
    }
    let limit = input["MaxResults"].as_u64();
    if let Some(limit) = limit {
        if !wanted.is_empty() {
            let text = format!("The parameter {ids} cannot be used with the parameter MaxResults");
            return Err(error("InvalidParameterCombination", text));
        }
        if !(5..=1000).contains(&limit) {
            let text =
                format!("Value ( {limit} ) for parameter maxResults is invalid. Expecting a value between 5 and 1000.");
            return Err(error("InvalidParameterValue", text));
        }
    }
    let size = usize::try_from(limit.unwrap_or(1000)).unwrap_or(1000);
    let (items, next) = page(kept, text(input, "NextToken"), size)
        .map_err(|()| error("InvalidNextToken", "The token is not valid."))?;
    Ok(without_nulls(json!({out: items, "NextToken": next})))
}

fn filters(input: &Value, member: &str) -> Vec<(String, Vec<String>)> {
    let given = input[member].as_array().map(Vec::as_slice).unwrap_or_default();
    given.iter().filter_map(|f| Some((f["Name"].as_str()?.to_owned(), strings(f, "Values")))).collect()
}

fn passes(view: &View, filters: &[(String, Vec<String>)]) -> Result<bool, ApiError> {
    for (name, values) in filters {
        let have = if let Some(key) = name.strip_prefix("tag:") {
            view.tags.get(key).cloned().into_iter().collect()
        } else if name == "tag-key" {
            view.tags.keys().cloned().collect()
        } else {
            (view.attribute)(name)
                .ok_or_else(|| error("InvalidParameterValue", format!("The filter '{name}' is invalid")))?
        };
        if !have.iter().any(|have| values.iter().any(|value| super::policy::like(value, have))) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Tags of `TagSpecification` for a resource type.
fn new_tags(input: &Value, resource: &str) -> Tags {
    let specs = input["TagSpecifications"].as_array().map(Vec::as_slice).unwrap_or_default();
    specs.iter().filter(|spec| spec["ResourceType"] == resource).flat_map(|spec| tags_in(spec, "Tags")).collect()
}

/// Tags in an answer; none at all are left out.
fn tag_set(tags: &Tags) -> Value {
    if tags.is_empty() { Value::Null } else { super::tags_out(tags) }
}

fn dependent(id: &str) -> ApiError {
    error("DependencyViolation", format!("resource {id} has a dependent object"))
}
