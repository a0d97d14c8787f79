//! What routes, groups and rules mean for a connector.

use aws_sdk_ec2::types::{IpPermission, ReferencedSecurityGroup, Route, RouteTableAssociation, Tag, UserIdGroupPair};

use super::*;

fn table(association: RouteTableAssociation, route: Route) -> RouteTable {
    RouteTable::builder().associations(association).routes(route).build()
}

fn of_subnet(subnet: &str) -> RouteTableAssociation {
    RouteTableAssociation::builder().subnet_id(subnet).build()
}

fn main_table() -> RouteTableAssociation {
    RouteTableAssociation::builder().main(true).build()
}

fn default_route() -> aws_sdk_ec2::types::builders::RouteBuilder {
    Route::builder().destination_cidr_block("0.0.0.0/0").state(RouteState::Active)
}

fn gateway(id: &str, state: NatGatewayState) -> NatGateway {
    NatGateway::builder().nat_gateway_id(id).state(state).build()
}

#[test]
fn only_an_active_route_to_a_working_gateway_leads_out() {
    let nat = |id: &str| default_route().nat_gateway_id(id).build();
    let rows: Vec<(&str, RouteTable, bool)> = vec![
        ("a working NAT gateway", table(of_subnet("subnet-a"), nat("nat-up")), true),
        ("one that is being deleted", table(of_subnet("subnet-a"), nat("nat-down")), false),
        ("one that is not listed", table(of_subnet("subnet-a"), nat("nat-gone")), false),
        ("an internet gateway", table(of_subnet("subnet-a"), default_route().gateway_id("igw-1").build()), false),
        ("a transit gateway", table(of_subnet("subnet-a"), default_route().transit_gateway_id("tgw-1").build()), true),
        (
            "an instance's interface",
            table(of_subnet("subnet-a"), default_route().network_interface_id("eni-1").build()),
            true,
        ),
        (
            "a black hole",
            table(of_subnet("subnet-a"), default_route().nat_gateway_id("nat-up").state(RouteState::Blackhole).build()),
            false,
        ),
        ("the main table", table(main_table(), nat("nat-up")), true),
        ("another subnet's table", table(of_subnet("subnet-b"), nat("nat-up")), false),
        (
            "a narrower route",
            table(
                of_subnet("subnet-a"),
                Route::builder().destination_cidr_block("10.0.0.0/8").nat_gateway_id("nat-up").build(),
            ),
            false,
        ),
    ];
    for (what, table, expected) in rows {
        let gateways =
            vec![gateway("nat-up", NatGatewayState::Available), gateway("nat-down", NatGatewayState::Deleting)];
        assert_eq!(leads_out(&Routes { tables: vec![table], gateways }, "subnet-a"), expected, "{what}");
    }
}

#[test]
fn an_own_table_counts_before_the_main_one() {
    let tables = vec![
        table(main_table(), default_route().nat_gateway_id("nat-up").build()),
        table(of_subnet("subnet-a"), default_route().gateway_id("igw-1").build()),
    ];
    let routes = Routes { tables, gateways: vec![gateway("nat-up", NatGatewayState::Available)] };
    assert!(!leads_out(&routes, "subnet-a"));
    assert!(leads_out(&routes, "subnet-b"));
}

#[test]
fn groups_that_admit_the_connector_count_unless_they_are_the_stores() {
    let group = |id: &str, vpc: &str, source: &str| {
        let pair = UserIdGroupPair::builder().group_id(source).build();
        let permission = IpPermission::builder().ip_protocol("tcp").user_id_group_pairs(pair).build();
        SecurityGroup::builder().group_id(id).vpc_id(vpc).ip_permissions(permission).build()
    };
    let admitting = [
        group("sg-db", "vpc-1", "sg-connector"),
        group("sg-redis", "vpc-1", "sg-connector"),
        group("sg-far", "vpc-2", "sg-connector"),
        group("sg-other", "vpc-1", "sg-someone"),
    ];
    let stores = BTreeSet::from([GroupId::from("sg-redis")]);
    assert_eq!(admitted_by(&admitting, "vpc-1", &["sg-connector".into()], &stores), vec![GroupId::from("sg-db")]);
}

fn owner() -> Owner {
    Owner {
        installation: "default".into(),
        account: "123456789012".into(),
        region: "us-east-1".into(),
        namespace: "team".into(),
        name: "web".into(),
    }
}

#[test]
fn a_rule_is_ours_by_tag_and_admits_by_protocol_source_and_port() {
    let base = || {
        SecurityGroupRule::builder()
            .security_group_rule_id("sgr-1")
            .group_id("sg-redis")
            .referenced_group_info(ReferencedSecurityGroup::builder().group_id("sg-connector").build())
    };
    let ours = Tag::builder().key("sessionbackend.dev/owner").value("default/team/web").build();
    let (id, exact) =
        rule(&owner(), &base().ip_protocol("tcp").from_port(6379).to_port(6379).tags(ours).build()).unwrap();
    assert_eq!((id, exact.ours), (RuleId::from("sgr-1"), true));
    let source = GroupId::from("sg-connector");
    assert!(exact.admits(&source, 6379) && !exact.admits(&source, 6380));
    // EC2 leaves ports out for "all traffic"; some emulators say -1.
    for all in [base().ip_protocol("-1").build(), base().ip_protocol("-1").from_port(-1).to_port(-1).build()] {
        let (_, all) = rule(&owner(), &all).unwrap();
        assert!(all.admits(&source, 6379) && !all.ours);
    }
    let (_, udp) = rule(&owner(), &base().ip_protocol("udp").from_port(6379).to_port(6379).build()).unwrap();
    assert!(!udp.admits(&source, 6379));
}
