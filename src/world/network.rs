//! Connectors, the networks they are in, and the rules that admit them to stores.
//! What could not be read stays `None` or `Unknown`: a NAT gateway nobody could look for is not a missing one.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_apprunner::types::VpcConnector;
use aws_sdk_ec2::types::{
    NatGateway, NatGatewayState, RouteState, RouteTable, SecurityGroup, SecurityGroupRule, VpcEndpoint,
};
use futures::future::join_all;

use crate::desired::{EgressPolicy, Target};
use crate::error::CloudError;
use crate::identity::{Arn, GroupId, Owner, RuleId};
use crate::journal::{EgressChange, Journal, Resource};
use crate::observed::{Bystander, Connector, Egress, Placement, Reading, Rule, Service};

use super::{CloudWorld, cache};

/// Connectors of interest.
#[derive(Default)]
pub(super) struct Wanted {
    arns: BTreeSet<Arn>,
    names: BTreeSet<String>,
}

/// Connectors in use, named in the spec, kept for the way back, or ours; and those of the other services where a rule may
/// go, for whether they come through it.
pub(super) fn wanted(
    owner: &Owner,
    target: Option<&Target>,
    journal: &Journal,
    services: &BTreeMap<String, Reading<Service>>,
    bystanders: &Reading<Vec<Bystander>>,
) -> Wanted {
    let mut wanted = Wanted::default();
    let mut egress = |egress: &Egress| match egress {
        Egress::Vpc(arn) => {
            wanted.arns.insert(arn.clone());
        }
        Egress::Default => {}
    };
    services.values().filter_map(Reading::present).for_each(|service| egress(&service.egress));
    let made = journal.made.keys().any(|resource| matches!(resource, Resource::Rule(_)));
    if made || target.is_some_and(|target| !target.migration.retire.rules.is_empty()) {
        bystanders.present().into_iter().flatten().for_each(|other| egress(&other.egress));
    }
    for moved in journal.migration.iter().flat_map(|migration| &migration.services) {
        egress(&moved.undo.egress);
        match &moved.egress {
            EgressChange::None => {}
            EgressChange::First(next) | EgressChange::WithVariables(next) | EgressChange::Last(next) => egress(next),
        }
    }
    for (resource, made) in &journal.made {
        if let Resource::Connector(name) = resource {
            wanted.names.insert(name.clone());
            wanted.arns.extend(made.id.clone().map(Arn));
        }
    }
    if let Some(target) = target {
        wanted.arns.extend(target.migration.retire.connectors.iter().cloned());
        for (index, service) in target.services.iter().enumerate() {
            match &service.egress {
                EgressPolicy::Connector(arn) => {
                    wanted.arns.insert(arn.clone());
                }
                EgressPolicy::CreateConnector { .. } => {
                    wanted.names.insert(owner.short_name(&format!("vpc{index}")));
                }
                EgressPolicy::Keep | EgressPolicy::Default => {}
            }
        }
    }
    wanted
}

impl Wanted {
    fn wants(&self, connector: &VpcConnector) -> bool {
        let arn = connector.vpc_connector_arn.as_ref().is_some_and(|arn| self.arns.contains(&Arn(arn.clone())));
        arn || connector.vpc_connector_name.as_ref().is_some_and(|name| self.names.contains(name))
    }
}

/// Rules, and the groups whose rules could not be read.
pub(super) struct Rules {
    pub(super) readings: BTreeMap<RuleId, Reading<Rule>>,
    pub(super) unread: BTreeMap<GroupId, CloudError>,
}

/// What a VPC's routes lead to.
struct Routes {
    tables: Vec<RouteTable>,
    gateways: Vec<NatGateway>,
}

impl CloudWorld {
    /// The readings of the connectors of interest. `stores` are the groups of the stores, which admit a connector by
    /// design and count for nothing else.
    pub(super) async fn connectors(
        &self,
        owner: &Owner,
        wanted: &Wanted,
        listed: &Result<Vec<VpcConnector>, CloudError>,
        stores: &BTreeSet<GroupId>,
    ) -> BTreeMap<Arn, Reading<Connector>> {
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                return wanted.arns.iter().map(|arn| (arn.clone(), Reading::Unknown(error.clone()))).collect();
            }
        };
        let found = listed.iter().filter(|connector| wanted.wants(connector)).filter_map(|connector| {
            let arn = Arn(connector.vpc_connector_arn.clone()?);
            Some((arn, connector))
        });
        let readings = found.map(|(arn, connector)| async move {
            let admitting: Vec<&str> = stores.iter().map(|group| group.0.as_str()).collect();
            let key = format!("{arn} {}", admitting.join(","));
            if let Some(connector) = self.cache.connectors.get(&key, cache::NETWORK) {
                return (arn, Reading::Present(connector));
            }
            let read = Box::pin(self.connector(owner, &arn, connector, stores)).await;
            if let Ok(connector) = &read {
                self.cache.connectors.put(&key, connector.clone());
            }
            (arn, super::reading(read))
        });
        let mut all: BTreeMap<_, _> = join_all(readings).await.into_iter().collect();
        for arn in &wanted.arns {
            all.entry(arn.clone()).or_insert(Reading::Absent);
        }
        all
    }

    async fn connector(
        &self,
        owner: &Owner,
        arn: &Arn,
        connector: &VpcConnector,
        stores: &BTreeSet<GroupId>,
    ) -> Result<Connector, CloudError> {
        let subnet_ids = connector.subnets.clone().unwrap_or_default();
        let groups = connector.security_groups.clone().unwrap_or_default();
        let (tags, subnets, admitting) = futures::join!(
            self.aws.apprunner.tags(arn),
            self.aws.ec2.subnets(&subnet_ids),
            self.aws.ec2.admitting(&groups),
        );
        let vpc = subnets?.into_iter().find_map(|subnet| subnet.vpc_id).unwrap_or_default();
        let vpcs: Vec<String> = Some(vpc.clone()).filter(|vpc| !vpc.is_empty()).into_iter().collect();
        let (tables, gateways, endpoints) = futures::join!(
            self.aws.ec2.route_tables(&vpcs),
            self.aws.ec2.nat_gateways(&vpcs),
            self.aws.ec2.endpoints(&vpcs),
        );
        let routes = tables.and_then(|tables| Ok(Routes { tables, gateways: gateways? })).ok();
        let [(owner_tag, path), _] = owner.tags();
        Ok(Connector {
            name: connector.vpc_connector_name.clone().unwrap_or_default(),
            nat: routes.map(|routes| subnet_ids.iter().all(|subnet| leads_out(&routes, subnet))),
            endpoints: endpoints.ok().map(|endpoints| {
                let available = endpoints.into_iter().filter(is_available);
                available.filter_map(|endpoint| endpoint.service_name).collect()
            }),
            admitted_by: admitting.ok().map(|admitting| admitted_by(&admitting, &vpc, &groups, stores)),
            ours: tags.ok().map(|tags| tags.get(&owner_tag) == Some(&path)),
            groups: groups.into_iter().map(GroupId).collect(),
            vpc,
        })
    }

    /// Rules of the stores' groups, and those the spec or the journal names; and the groups whose rules could not be read.
    pub(super) async fn rules(
        &self,
        owner: &Owner,
        stores: &BTreeSet<GroupId>,
        target: Option<&Target>,
        journal: &Journal,
    ) -> Rules {
        let named = target.into_iter().flat_map(|target| target.migration.retire.rules.iter().cloned());
        let made = journal.made.iter().filter_map(|(resource, made)| match resource {
            Resource::Rule(_) => made.id.clone().map(RuleId),
            Resource::UpstashDatabase(_)
            | Resource::ReplicationGroup(_)
            | Resource::SubnetGroup(_)
            | Resource::Connector(_)
            | Resource::Secret(_) => None,
        });
        let named: BTreeSet<RuleId> = named.chain(made).collect();
        let ids: Vec<String> = named.iter().map(|id| id.0.clone()).collect();
        let groups: Vec<String> = stores.iter().map(|group| group.0.clone()).collect();
        let (of_groups, by_id) = futures::join!(self.aws.ec2.rules_of(&groups), self.aws.ec2.rules(&ids));
        let mut all = BTreeMap::new();
        let (of_groups, unread) = match of_groups {
            Ok(found) => (found, BTreeMap::new()),
            Err(error) => (Vec::new(), stores.iter().map(|group| (group.clone(), error.clone())).collect()),
        };
        for found in of_groups {
            if let Some((id, rule)) = rule(owner, &found).filter(|_| is_ingress(&found) && is_tcp(&found)) {
                all.insert(id, Reading::Present(rule));
            }
        }
        match by_id {
            Ok(found) => {
                for id in named {
                    let rule = found.iter().find_map(|found| rule(owner, found).filter(|(found, _)| *found == id));
                    all.insert(id, rule.map_or(Reading::Absent, |(_, rule)| Reading::Present(rule)));
                }
            }
            Err(error) => all.extend(named.into_iter().map(|id| (id, Reading::Unknown(error.clone())))),
        }
        Rules { readings: all, unread }
    }
}

/// The security groups of stores.
pub(super) fn groups_of<'a>(placements: impl IntoIterator<Item = &'a Placement>) -> BTreeSet<GroupId> {
    let groups = placements.into_iter().flat_map(|placement| match placement {
        Placement::Vpc { groups, .. } => groups.as_slice(),
        Placement::Public | Placement::Nowhere => &[],
    });
    groups.cloned().collect()
}

/// The state is capitalised in the vendor's model and in lower case on the wire in most answers.
fn is_available(endpoint: &VpcEndpoint) -> bool {
    endpoint.state.as_ref().is_none_or(|state| state.as_str().eq_ignore_ascii_case("available"))
}

/// Whether the subnet's default route leads to something that leads out. An internet gateway does not: the
/// connector's interfaces have no public address.
fn leads_out(routes: &Routes, subnet: &str) -> bool {
    let associated = |table: &&RouteTable, is: &dyn Fn(Option<&str>, bool) -> bool| {
        let mut associations = table.associations.iter().flatten();
        associations.any(|association| is(association.subnet_id.as_deref(), association.main.unwrap_or(false)))
    };
    let own = routes.tables.iter().find(|table| associated(table, &|id, _| id == Some(subnet)));
    let main = || routes.tables.iter().find(|table| associated(table, &|_, main| main));
    let Some(table) = own.or_else(main) else { return false };
    table.routes.iter().flatten().any(|route| {
        let default = route.destination_cidr_block.as_deref() == Some("0.0.0.0/0");
        let active = route.state.as_ref().is_none_or(|state| *state == RouteState::Active);
        let nat = route.nat_gateway_id.as_ref().is_some_and(|id| {
            let gateway = routes.gateways.iter().find(|gateway| gateway.nat_gateway_id.as_ref() == Some(id));
            gateway.is_some_and(|gateway| gateway.state == Some(NatGatewayState::Available))
        });
        let other =
            route.transit_gateway_id.is_some() || route.network_interface_id.is_some() || route.instance_id.is_some();
        default && active && (nat || other)
    })
}

/// The groups of `vpc`, other than the stores', that admit one of the connector's groups.
fn admitted_by(admitting: &[SecurityGroup], vpc: &str, groups: &[String], stores: &BTreeSet<GroupId>) -> Vec<GroupId> {
    let admits = |group: &SecurityGroup| {
        let pairs = group
            .ip_permissions
            .iter()
            .flatten()
            .flat_map(|permission| permission.user_id_group_pairs.iter().flatten());
        pairs.filter_map(|pair| pair.group_id.as_ref()).any(|source| groups.contains(source))
    };
    let here = admitting.iter().filter(|group| group.vpc_id.as_deref().is_none_or(|id| id == vpc));
    let ids: BTreeSet<GroupId> =
        here.filter(|group| admits(group)).filter_map(|group| group.group_id.clone()).map(GroupId).collect();
    ids.into_iter().filter(|id| !stores.contains(id)).collect()
}

pub(super) fn is_ingress(rule: &SecurityGroupRule) -> bool {
    rule.is_egress != Some(true)
}

fn is_tcp(rule: &SecurityGroupRule) -> bool {
    rule.ip_protocol.as_deref().is_none_or(|protocol| matches!(protocol, "tcp" | "6" | "-1"))
}

/// A rule as the planner sees it. Of other protocols no source is told: they admit no Redis.
pub(super) fn rule(owner: &Owner, found: &SecurityGroupRule) -> Option<(RuleId, Rule)> {
    let [(owner_tag, path), _] = owner.tags();
    // All ports are -1 or left out.
    let port = |port: Option<i32>| port.and_then(|port| u16::try_from(port).ok());
    let source = found.referenced_group_info.as_ref().and_then(|info| info.group_id.clone()).filter(|_| is_tcp(found));
    let rule = Rule {
        group: GroupId(found.group_id.clone()?),
        source: source.map(GroupId),
        from_port: port(found.from_port),
        to_port: port(found.to_port),
        ours: found
            .tags
            .iter()
            .flatten()
            .any(|tag| tag.key() == Some(owner_tag.as_str()) && tag.value() == Some(path.as_str())),
    };
    Some((RuleId(found.security_group_rule_id.clone()?), rule))
}

#[cfg(test)]
mod tests;
