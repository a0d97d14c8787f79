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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Tags;
    use crate::state::apprunner::Connector;
    use crate::state::ec2::{Gateway, NatGateway, id};
    use crate::state::elasticache::Serverless;
    use jiff::Timestamp;

    const CONNECTOR: &str = "arn:connector";
    const STORE: &str = "serverless-sessions-x";

    /// A VPC with a subnet and a group of the connector's, and a cache in another subnet with a group of its own.
    struct Ground {
        state: State,
        vpc: String,
        subnet: String,
        app: String,
        cache: String,
    }

    impl Ground {
        fn new() -> Self {
            let mut state = State::new("123456789012", "us-east-1");
            let ec2 = &mut state.ec2;
            let vpc = ec2.add_vpc(Cidr::parse("10.0.0.0/16").unwrap(), false, Tags::new());
            let mut add =
                |block| ec2.add_subnet(&vpc, Cidr::parse(block).unwrap(), "us-east-1a".into(), false, Tags::new());
            let (subnet, other) = (add("10.0.1.0/24"), add("10.0.2.0/24"));
            let (app, cache) =
                (ec2.add_group("app", "", &vpc, Tags::new()), ec2.add_group("cache", "", &vpc, Tags::new()));
            let connector = Connector {
                arn: CONNECTOR.into(),
                name: "c".into(),
                revision: 1,
                subnets: vec![subnet.clone()],
                groups: vec![app.clone()],
                created: Timestamp::UNIX_EPOCH,
                deleted: None,
                tags: Tags::new(),
            };
            state.apprunner.connectors.insert(CONNECTOR.into(), connector);
            let sessions = Serverless {
                name: "sessions".into(),
                arn: "arn:cache".into(),
                suffix: "x".into(),
                description: String::new(),
                status: "available",
                engine: "valkey".into(),
                major: "8".into(),
                subnets: vec![other],
                vpc: vpc.clone(),
                security_groups: vec![cache.clone()],
                limits: serde_json::Value::Null,
                snapshot_days: 0,
                snapshot_time: String::new(),
                connection: "vpc".into(),
                created: Timestamp::UNIX_EPOCH,
                tags: Tags::new(),
            };
            state.elasticache.serverless.insert("sessions".into(), sessions);
            Self { state, vpc, subnet, app, cache }
        }

        fn rule(&mut self, group: &str, egress: bool, port: i64, peer: Peer) -> String {
            let rule = Rule {
                id: id("sgr"),
                egress,
                protocol: "tcp".into(),
                from: Some(port),
                to: Some(port),
                peer,
                description: None,
                tags: Tags::new(),
            };
            let name = rule.id.clone();
            self.state.ec2.groups.get_mut(group).unwrap().rules.insert(name.clone(), rule);
            name
        }

        fn admit(&mut self, peer: Peer) {
            self.rule(&self.cache.clone(), false, 6379, peer);
        }

        fn nat(&mut self, state: &'static str) {
            let nat = NatGateway {
                id: "nat-1".into(),
                subnet: self.subnet.clone(),
                vpc: self.vpc.clone(),
                state,
                connectivity: "public".into(),
                allocation: None,
                interface: String::new(),
                private_ip: String::new(),
                created: Timestamp::UNIX_EPOCH,
                deleted: None,
                tags: Tags::new(),
            };
            self.state.ec2.nat_gateways.insert("nat-1".into(), nat);
            let tables = self.state.ec2.route_tables.values_mut();
            for table in tables.filter(|t| t.vpc == self.vpc) {
                table.routes.insert("0.0.0.0/0".into(), Gateway::Nat("nat-1".into()));
            }
        }

        fn open(&self, from: &Vantage, to: Target<'_>) -> bool {
            path_open(&self.state, from, to)
        }

        fn inside(&self, to: Target<'_>) -> bool {
            self.open(&deployment(Egress::Vpc { connector: CONNECTOR.into() }), to)
        }
    }

    fn deployment(egress: Egress) -> Vantage {
        Vantage::Deployment { service: "arn:service".into(), egress }
    }

    const CACHE: Target<'_> = Target::Store(STORE);
    const UPSTASH: Target<'_> = Target::Store("upstash-1");
    const WEB: Target<'_> = Target::PublicHost("api.upstash.com");

    #[test]
    fn default_egress_has_the_internet_and_no_vpc() {
        let mut ground = Ground::new();
        ground.admit(Peer::V4(Cidr::parse("0.0.0.0/0").unwrap()));
        for from in [Vantage::Internet, deployment(Egress::Default)] {
            assert!(ground.open(&from, UPSTASH) && ground.open(&from, WEB) && !ground.open(&from, CACHE));
        }
    }

    #[test]
    fn a_rule_by_group_or_by_block_opens_the_store() {
        let mut ground = Ground::new();
        assert!(!ground.inside(CACHE), "no rule");
        ground.rule(&ground.cache.clone(), false, 6380, Peer::Group(ground.app.clone()));
        assert!(!ground.inside(CACHE), "another port");
        ground.admit(Peer::V4(Cidr::parse("10.0.2.0/24").unwrap()));
        assert!(!ground.inside(CACHE), "another subnet");
        let mut by_block = Ground::new();
        by_block.admit(Peer::V4(Cidr::parse("10.0.0.0/16").unwrap()));
        assert!(by_block.inside(CACHE));
        ground.admit(Peer::Group(ground.app.clone()));
        assert!(ground.inside(CACHE));
    }

    #[test]
    fn a_group_that_lets_nothing_out_closes_the_path() {
        let mut ground = Ground::new();
        ground.admit(Peer::Group(ground.app.clone()));
        ground.nat("available");
        ground.state.ec2.groups.get_mut(&ground.app).unwrap().rules.clear();
        assert!(!ground.inside(CACHE) && !ground.inside(UPSTASH));
        ground.rule(&ground.app.clone(), true, 6379, Peer::Group(ground.cache.clone()));
        assert!(ground.inside(CACHE) && !ground.inside(UPSTASH));
    }

    #[test]
    fn another_vpc_is_never_reached() {
        let mut ground = Ground::new();
        ground.admit(Peer::V4(Cidr::parse("0.0.0.0/0").unwrap()));
        ground.state.elasticache.serverless.get_mut("sessions").unwrap().vpc = "vpc-other".into();
        assert!(!ground.inside(CACHE));
    }

    #[test]
    fn vpc_egress_reaches_the_internet_only_through_an_available_nat_gateway() {
        let mut ground = Ground::new();
        assert!(!ground.inside(UPSTASH) && !ground.inside(WEB));
        ground.nat("pending");
        assert!(!ground.inside(UPSTASH));
        ground.nat("available");
        assert!(ground.inside(UPSTASH) && ground.inside(WEB));
        // One subnet whose own table has no such route is enough to lose packets.
        let table = crate::state::ec2::RouteTable {
            id: "rtb-own".into(),
            vpc: ground.vpc.clone(),
            main: None,
            associations: [("a".to_owned(), ground.subnet.clone())].into(),
            routes: std::collections::BTreeMap::new(),
            tags: Tags::new(),
        };
        ground.state.ec2.route_tables.insert("rtb-own".into(), table);
        assert!(!ground.inside(UPSTASH));
    }

    #[test]
    fn an_internet_gateway_does_not_help_an_interface_without_a_public_address() {
        let mut ground = Ground::new();
        for table in ground.state.ec2.route_tables.values_mut() {
            table.routes.insert("0.0.0.0/0".into(), Gateway::Gateway("igw-1".into()));
        }
        assert!(!ground.inside(UPSTASH));
    }

    #[test]
    fn a_machine_in_the_vpc_reaches_its_stores_and_the_internet_by_nat() {
        let mut ground = Ground::new();
        let (here, elsewhere) = (Vantage::Vpc(ground.vpc.clone()), Vantage::Vpc("vpc-other".into()));
        assert!(ground.open(&here, CACHE) && !ground.open(&elsewhere, CACHE) && !ground.open(&here, WEB));
        ground.nat("available");
        assert!(ground.open(&here, WEB) && !ground.open(&elsewhere, WEB));
    }

    #[test]
    fn a_public_serverless_cache_is_public() {
        let mut ground = Ground::new();
        ground.state.elasticache.serverless.get_mut("sessions").unwrap().connection = "public".into();
        assert!(ground.open(&Vantage::Internet, CACHE) && !ground.inside(CACHE));
    }
}
