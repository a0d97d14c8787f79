//! EC2 networking: VPCs, subnets, routes, gateways, endpoints, interfaces, security groups with their rules.

mod cidr;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;

use super::{Tags, hex};

pub use cidr::Cidr;

/// All of EC2, by id.
#[derive(Debug, Clone, Default)]
pub struct Ec2 {
    /// VPCs.
    pub vpcs: BTreeMap<String, Vpc>,
    /// Subnets.
    pub subnets: BTreeMap<String, Subnet>,
    /// Route tables.
    pub route_tables: BTreeMap<String, RouteTable>,
    /// Internet gateways: the VPC each is attached to.
    pub internet_gateways: BTreeMap<String, InternetGateway>,
    /// NAT gateways.
    pub nat_gateways: BTreeMap<String, NatGateway>,
    /// Elastic addresses.
    pub addresses: BTreeMap<String, Address>,
    /// VPC endpoints.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// Network interfaces.
    pub interfaces: BTreeMap<String, Interface>,
    /// Security groups.
    pub groups: BTreeMap<String, Group>,
}

/// A VPC.
#[derive(Debug, Clone)]
pub struct Vpc {
    /// Id.
    pub id: String,
    /// IPv4 block.
    pub cidr: Cidr,
    /// The account's default VPC.
    pub default: bool,
    /// Tags.
    pub tags: Tags,
}

/// A subnet.
#[derive(Debug, Clone)]
pub struct Subnet {
    /// Id.
    pub id: String,
    /// Its VPC.
    pub vpc: String,
    /// IPv4 block.
    pub cidr: Cidr,
    /// Availability zone name.
    pub zone: String,
    /// The default subnet of its zone.
    pub default: bool,
    /// Tags.
    pub tags: Tags,
}

/// A route table.
#[derive(Debug, Clone)]
pub struct RouteTable {
    /// Id.
    pub id: String,
    /// Its VPC.
    pub vpc: String,
    /// Association id of the VPC's main association, if this is the main table.
    pub main: Option<String>,
    /// Subnet by association id.
    pub associations: BTreeMap<String, String>,
    /// Routes but the local one: gateway by destination.
    pub routes: BTreeMap<String, Gateway>,
    /// Tags.
    pub tags: Tags,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gateway {
    /// Internet gateway or gateway endpoint.
    Gateway(String),
    /// NAT gateway.
    Nat(String),
    /// Network interface.
    Interface(String),
}

/// An internet gateway.
#[derive(Debug, Clone)]
pub struct InternetGateway {
    /// Id.
    pub id: String,
    /// The VPC it is attached to.
    pub vpc: Option<String>,
    /// Tags.
    pub tags: Tags,
}

/// A NAT gateway.
#[derive(Debug, Clone)]
pub struct NatGateway {
    /// Id.
    pub id: String,
    /// Its subnet.
    pub subnet: String,
    /// Its VPC.
    pub vpc: String,
    /// pending, available, deleting, deleted, failed.
    pub state: &'static str,
    /// `public` or `private`.
    pub connectivity: String,
    /// Elastic address, for public ones.
    pub allocation: Option<String>,
    /// Its interface.
    pub interface: String,
    /// Private address.
    pub private_ip: String,
    /// Creation.
    pub created: Timestamp,
    /// Deletion.
    pub deleted: Option<Timestamp>,
    /// Tags.
    pub tags: Tags,
}

/// An elastic address.
#[derive(Debug, Clone)]
pub struct Address {
    /// Allocation id.
    pub id: String,
    /// Public address.
    pub ip: String,
    /// Who uses it (a NAT gateway's interface).
    pub interface: Option<String>,
    /// Tags.
    pub tags: Tags,
}

/// A VPC endpoint.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Id.
    pub id: String,
    /// `Gateway` or `Interface`.
    pub kind: String,
    /// Its VPC.
    pub vpc: String,
    /// Service name.
    pub service: String,
    /// State, lower-case as the wire has it.
    pub state: &'static str,
    /// Route tables of a gateway endpoint.
    pub route_tables: Vec<String>,
    /// Subnets of an interface endpoint.
    pub subnets: Vec<String>,
    /// Groups of an interface endpoint.
    pub groups: Vec<String>,
    /// Creation.
    pub created: Timestamp,
    /// Tags.
    pub tags: Tags,
}

/// A network interface; made by other services only.
#[derive(Debug, Clone)]
pub struct Interface {
    /// Id.
    pub id: String,
    /// Its subnet.
    pub subnet: String,
    /// Its VPC.
    pub vpc: String,
    /// Security groups.
    pub groups: Vec<String>,
    /// Private address.
    pub ip: String,
    /// What made it says.
    pub description: String,
    /// `interface`, `nat_gateway`, `vpc_endpoint`.
    pub kind: &'static str,
    /// Who made it: an ARN or id of ours, never on the wire.
    pub holder: String,
    /// Requester as on the wire.
    pub requester: &'static str,
    /// Tags.
    pub tags: Tags,
}

/// A security group.
#[derive(Debug, Clone)]
pub struct Group {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Description.
    pub description: String,
    /// Its VPC.
    pub vpc: String,
    /// Rules by id.
    pub rules: BTreeMap<String, Rule>,
    /// Tags.
    pub tags: Tags,
}

/// A security group rule: one peer each.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Id.
    pub id: String,
    /// Outbound.
    pub egress: bool,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, a number, or `-1` for all.
    pub protocol: String,
    /// First port; `None` for all traffic.
    pub from: Option<i64>,
    /// Last port.
    pub to: Option<i64>,
    /// The other side.
    pub peer: Peer,
    /// Description.
    pub description: Option<String>,
    /// Tags.
    pub tags: Tags,
}

/// The other side of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// IPv4 block.
    V4(Cidr),
    /// IPv6 block.
    V6(Ipv6Addr, u8),
    /// Interfaces of a group.
    Group(String),
    /// Prefix list.
    Prefix(String),
}

/// A new id such as `vpc-0123456789abcdef0`.
pub fn id(prefix: &str) -> String {
    format!("{prefix}-0{}", hex(16))
}

impl Ec2 {
    /// What a new account has.
    pub fn with_default_vpc(region: &str) -> Self {
        let mut ec2 = Self::default();
        let cidr = Cidr { base: u32::from(Ipv4Addr::new(172, 31, 0, 0)), bits: 16 };
        let vpc = ec2.add_vpc(cidr, true, Tags::new());
        for (n, zone) in (0_u32..).zip(["a", "b", "c"]) {
            let block = Cidr { base: cidr.base + (n << 12), bits: 20 };
            ec2.add_subnet(&vpc, block, format!("{region}{zone}"), true, Tags::new());
        }
        let gateway = id("igw");
        let attached = InternetGateway { id: gateway.clone(), vpc: Some(vpc.clone()), tags: Tags::new() };
        ec2.internet_gateways.insert(gateway.clone(), attached);
        if let Some(table) = ec2.route_tables.values_mut().find(|t| t.vpc == vpc) {
            table.routes.insert("0.0.0.0/0".into(), Gateway::Gateway(gateway));
        }
        ec2
    }

    /// A VPC with its main route table and default group; returns its id.
    pub fn add_vpc(&mut self, cidr: Cidr, default: bool, tags: Tags) -> String {
        let vpc = id("vpc");
        self.vpcs.insert(vpc.clone(), Vpc { id: vpc.clone(), cidr, default, tags });
        let table = RouteTable {
            id: id("rtb"),
            vpc: vpc.clone(),
            main: Some(id("rtbassoc")),
            associations: BTreeMap::new(),
            routes: BTreeMap::new(),
            tags: Tags::new(),
        };
        self.route_tables.insert(table.id.clone(), table);
        let group = self.add_group("default", "default VPC security group", &vpc, Tags::new());
        let inside = Rule {
            id: id("sgr"),
            egress: false,
            protocol: "-1".into(),
            from: None,
            to: None,
            peer: Peer::Group(group.clone()),
            description: None,
            tags: Tags::new(),
        };
        if let Some(group) = self.groups.get_mut(&group) {
            group.rules.insert(inside.id.clone(), inside);
        }
        vpc
    }

    /// A subnet; returns its id.
    pub fn add_subnet(&mut self, vpc: &str, cidr: Cidr, zone: String, default: bool, tags: Tags) -> String {
        let subnet = id("subnet");
        self.subnets.insert(subnet.clone(), Subnet { id: subnet.clone(), vpc: vpc.into(), cidr, zone, default, tags });
        subnet
    }

    /// A group that lets everything out, as new ones do; returns its id.
    pub fn add_group(&mut self, name: &str, description: &str, vpc: &str, tags: Tags) -> String {
        let group = id("sg");
        let out = Rule {
            id: id("sgr"),
            egress: true,
            protocol: "-1".into(),
            from: None,
            to: None,
            peer: Peer::V4(Cidr { base: 0, bits: 0 }),
            description: None,
            tags: Tags::new(),
        };
        let rules = BTreeMap::from([(out.id.clone(), out)]);
        let (name, description, vpc) = (name.to_owned(), description.to_owned(), vpc.to_owned());
        self.groups.insert(group.clone(), Group { id: group.clone(), name, description, vpc, rules, tags });
        group
    }

    /// An interface of another service in a subnet; `None` when the subnet is gone. Returns its id.
    pub fn add_interface(
        &mut self,
        subnet: &str,
        groups: &[String],
        holder: &str,
        description: String,
        requester: &'static str,
        kind: &'static str,
    ) -> Option<String> {
        let subnet = self.subnets.get(subnet)?;
        let taken: BTreeSet<&str> = self.interfaces.values().map(|i| i.ip.as_str()).collect();
        let last = u32::try_from(subnet.cidr.usable()).unwrap_or(u32::MAX).saturating_add(4);
        let ip = (4..last).map(|n| subnet.cidr.address(n).to_string()).find(|ip| !taken.contains(ip.as_str()))?;
        let interface = Interface {
            id: id("eni"),
            subnet: subnet.id.clone(),
            vpc: subnet.vpc.clone(),
            groups: groups.to_vec(),
            ip,
            description,
            kind,
            holder: holder.to_owned(),
            requester,
            tags: Tags::new(),
        };
        let id = interface.id.clone();
        self.interfaces.insert(id.clone(), interface);
        Some(id)
    }

    /// Removes the interfaces a resource held.
    pub fn drop_interfaces(&mut self, holder: &str) {
        self.interfaces.retain(|_, i| i.holder != holder);
    }

    /// The default VPC's id.
    pub fn default_vpc(&self) -> Option<&str> {
        self.vpcs.values().find(|v| v.default).map(|v| v.id.as_str())
    }

    /// The default group of a VPC.
    pub fn default_group(&self, vpc: &str) -> Option<&str> {
        self.groups.values().find(|g| g.vpc == vpc && g.name == "default").map(|g| g.id.as_str())
    }

    /// The route table a subnet uses: its own, else the VPC's main one.
    pub fn table_of(&self, subnet: &Subnet) -> Option<&RouteTable> {
        let own = |t: &&RouteTable| t.associations.values().any(|s| *s == subnet.id);
        let main = |t: &&RouteTable| t.vpc == subnet.vpc && t.main.is_some();
        self.route_tables.values().find(own).or_else(|| self.route_tables.values().find(main))
    }

    /// Whether a subnet's traffic to the internet leaves through an available NAT gateway.
    pub fn has_nat(&self, subnet: &Subnet) -> bool {
        self.table_of(subnet).and_then(|t| t.routes.get("0.0.0.0/0")).is_some_and(|gateway| match gateway {
            Gateway::Nat(nat) => self.nat_gateways.get(nat).is_some_and(|n| n.state == "available"),
            Gateway::Gateway(_) | Gateway::Interface(_) => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_account_has_a_default_vpc_without_nat() {
        let ec2 = Ec2::with_default_vpc("us-east-1");
        assert!(ec2.default_vpc().is_some());
        assert_eq!(ec2.subnets.len(), 3);
        assert!(!ec2.subnets.values().any(|s| ec2.has_nat(s)));
    }
}
