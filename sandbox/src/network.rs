//! Who reaches whom: routes, NAT gateways, connectors and security groups, evaluated when a connection is opened.
//! A pure decision over the state; the data plane makes a closed path hang.

use crate::cloud::Shared;
use crate::dataplane::{Egress, Network, Target, Vantage};
use crate::state::State;
use crate::state::ec2::{Cidr, Peer, Rule, Subnet};

/// Port assumed for a public host.
const HTTPS: i64 = 443;

impl Network for Shared {
    fn path_open(&self, from: &Vantage, to: Target<'_>) -> bool {
        self.read(|state| path_open(state, from, to))
    }
}

/// Where a store is.
enum Place<'a> {
    Vpc { vpc: &'a str, groups: &'a [String], subnets: Vec<&'a Subnet>, port: i64 },
    Public { port: i64 },
}

/// The id the data plane knows a store by, from a replication group's id, a serverless cache's name, an Upstash
/// database's id or name.
pub fn store_id(state: &State, name: &str) -> Option<String> {
    let cache = &state.elasticache;
    let database = |d: &&crate::state::upstash::Database| d.id == name || d.name == name || d.host() == name;
    cache
        .groups
        .get(name)
        .map(replication_group)
        .or_else(|| cache.serverless.get(name).map(serverless))
        .or_else(|| state.upstash.databases.values().find(database).map(|d| upstash(&d.id)))
}

/// Store id of a replication group; another at each creation.
pub fn replication_group(group: &crate::state::elasticache::ReplicationGroup) -> String {
    format!("elasticache-{}-{}", group.id, group.hash)
}

/// Store id of a serverless cache.
pub fn serverless(cache: &crate::state::elasticache::Serverless) -> String {
    format!("serverless-{}-{}", cache.name, cache.suffix)
}

/// Store id of an Upstash database.
pub fn upstash(database: &str) -> String {
    format!("upstash-{database}")
}

/// Whether packets from there arrive here.
pub fn path_open(state: &State, from: &Vantage, to: Target<'_>) -> bool {
    let place = match to {
        Target::Store(id) => place_of(state, id),
        Target::PublicHost(_) => Place::Public { port: HTTPS },
    };
    match (from, place) {
        (Vantage::Internet | Vantage::Deployment { egress: Egress::Default, .. }, Place::Public { .. }) => true,
        (Vantage::Internet | Vantage::Deployment { egress: Egress::Default, .. }, Place::Vpc { .. }) => false,
        (Vantage::Vpc(vpc), Place::Vpc { vpc: home, .. }) => vpc == home,
        (Vantage::Vpc(vpc), Place::Public { .. }) => {
            state.ec2.subnets.values().any(|subnet| subnet.vpc == *vpc && state.ec2.has_nat(subnet))
        }
        (Vantage::Deployment { egress: Egress::Vpc { connector }, .. }, place) => through(state, connector, &place),
    }
}

fn place_of<'a>(state: &'a State, store: &str) -> Place<'a> {
    let cache = &state.elasticache;
    if let Some(group) = cache.groups.values().find(|g| replication_group(g) == store) {
        let subnets = cache.subnet_groups.get(&group.subnet_group).map(|s| s.subnets.as_slice()).unwrap_or_default();
        return Place::Vpc {
            vpc: &group.vpc,
            groups: &group.security_groups,
            subnets: subnets.iter().filter_map(|s| state.ec2.subnets.get(s)).collect(),
            port: i64::from(group.port),
        };
    }
    if let Some(cache) = cache.serverless.values().find(|c| serverless(c) == store && c.connection != "public") {
        return Place::Vpc {
            vpc: &cache.vpc,
            groups: &cache.security_groups,
            subnets: cache.subnets.iter().filter_map(|s| state.ec2.subnets.get(s)).collect(),
            port: 6379,
        };
    }
    Place::Public { port: 6379 }
}

/// All traffic of an instance with VPC egress goes through the connector's interfaces.
fn through(state: &State, connector: &str, place: &Place<'_>) -> bool {
    let Some(connector) = state.apprunner.connectors.get(connector) else { return false };
    let subnets: Vec<&Subnet> = connector.subnets.iter().filter_map(|s| state.ec2.subnets.get(s)).collect();
    let leaves = |port: i64, admits: &dyn Fn(&Peer) -> bool| {
        rules(state, &connector.groups).any(|rule| rule.egress && covers(rule, port) && admits(&rule.peer))
    };
    match place {
        Place::Public { port } => {
            !subnets.is_empty()
                && subnets.iter().all(|subnet| state.ec2.has_nat(subnet))
                && leaves(*port, &|peer| matches!(peer, Peer::V4(block) if block.bits() == 0))
        }
        Place::Vpc { vpc, groups, subnets: there, port } => {
            let near = subnets.iter().all(|subnet| subnet.vpc == *vpc) && !subnets.is_empty();
            let enters = rules(state, groups)
                .any(|rule| !rule.egress && covers(rule, *port) && is_peer(&rule.peer, &connector.groups, &subnets));
            near && enters && leaves(*port, &|peer| is_peer(peer, groups, there))
        }
    }
}

fn rules<'a>(state: &'a State, groups: &'a [String]) -> impl Iterator<Item = &'a Rule> {
    groups.iter().filter_map(|group| state.ec2.groups.get(group)).flat_map(|group| group.rules.values())
}

fn covers(rule: &Rule, port: i64) -> bool {
    match rule.protocol.as_str() {
        "-1" => true,
        "tcp" => rule.from.unwrap_or(0) <= port && port <= rule.to.unwrap_or(65_535),
        _ => false,
    }
}

fn is_peer(peer: &Peer, groups: &[String], subnets: &[&Subnet]) -> bool {
    match peer {
        Peer::Group(group) => groups.contains(group),
        Peer::V4(block) => !subnets.is_empty() && subnets.iter().all(|subnet| Cidr::contains(*block, subnet.cidr)),
        Peer::V6(..) | Peer::Prefix(_) => false,
    }
}
