"""EC2 networking."""

from drive import check, refused, until


def tag(kind, **tags):
    return [{"ResourceType": kind, "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}]


def tcp(port, **peers):
    return [{"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **peers}]


def vpc_with_subnets(world, block="10.9"):
    """A VPC with two private subnets and two groups."""
    ec2 = world.ec2
    vpc = ec2.create_vpc(CidrBlock=f"{block}.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"{block}.{n}.0/24", AvailabilityZone=f"us-east-1{zone}")["Subnet"][
            "SubnetId"
        ]
        for n, zone in enumerate("ab")
    ]
    return vpc, subnets


@check("2.1 DescribeVpcs, DescribeSubnets, zones")
def a_new_account_has_a_default_vpc(world):
    ec2 = world.ec2
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}])["Subnets"]
    assert len(subnets) == 3 and all(s["State"] == "available" and s["MapPublicIpOnLaunch"] for s in subnets)
    assert subnets[0]["AvailableIpAddressCount"] == 4091
    zones = ec2.describe_availability_zones()["AvailabilityZones"]
    assert [(z["ZoneName"], z["ZoneId"]) for z in zones][0] == ("us-east-1a", "use1-az1"), zones


@check("2.3 ids: malformed, not found")
def ids_are_malformed_or_not_found(world):
    ec2 = world.ec2
    unknown = "0123456789abcdef0"
    for call, member, prefix, code in [
        (ec2.describe_vpcs, "VpcIds", "vpc", "InvalidVpcID.NotFound"),
        (ec2.describe_subnets, "SubnetIds", "subnet", "InvalidSubnetID.NotFound"),
        (ec2.describe_security_groups, "GroupIds", "sg", "InvalidGroup.NotFound"),
        (ec2.describe_route_tables, "RouteTableIds", "rtb", "InvalidRouteTableID.NotFound"),
        (ec2.describe_security_group_rules, "SecurityGroupRuleIds", "sgr", "InvalidSecurityGroupRuleId.NotFound"),
        (ec2.describe_network_interfaces, "NetworkInterfaceIds", "eni", "InvalidNetworkInterfaceID.NotFound"),
        (ec2.describe_nat_gateways, "NatGatewayIds", "nat", "NatGatewayNotFound"),
        (ec2.describe_vpc_endpoints, "VpcEndpointIds", "vpce", "InvalidVpcEndpointId.NotFound"),
        (ec2.describe_internet_gateways, "InternetGatewayIds", "igw", "InvalidInternetGatewayID.NotFound"),
        (ec2.describe_addresses, "AllocationIds", "eipalloc", "InvalidAllocationID.NotFound"),
    ]:
        refused(code, call, 400, **{member: [f"{prefix}-{unknown}"]})
    refused("InvalidGroupId.Malformed", ec2.describe_security_groups, 400, GroupIds=["nonsense"])
    refused("InvalidSubnetID.Malformed", ec2.describe_subnets, 400, SubnetIds=["subnet-x"])
    refused("InvalidParameterValue", ec2.describe_vpcs, 400, Filters=[{"Name": "nonsense", "Values": ["x"]}])


@check("2.1 VPC and subnet life; DependencyViolation; DryRunOperation 412")
def a_vpc_is_deleted_only_when_empty(world):
    ec2 = world.ec2
    refused("DryRunOperation", ec2.create_vpc, 412, CidrBlock="10.1.0.0/16", DryRun=True)
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16", TagSpecifications=tag("vpc", Name="one"))["Vpc"]["VpcId"]
    assert ec2.describe_vpcs(Filters=[{"Name": "tag:Name", "Values": ["one"]}])["Vpcs"][0]["VpcId"] == vpc
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.1.7.0/24")["Subnet"]["SubnetId"]
    refused("InvalidSubnet.Conflict", ec2.create_subnet, 400, VpcId=vpc, CidrBlock="10.1.7.0/25")
    refused("InvalidSubnet.Range", ec2.create_subnet, 400, VpcId=vpc, CidrBlock="10.2.0.0/24")
    refused("DependencyViolation", ec2.delete_vpc, 400, VpcId=vpc)
    ec2.delete_subnet(SubnetId=subnet)
    ec2.delete_vpc(VpcId=vpc)
    refused("InvalidVpcID.NotFound", ec2.describe_vpcs, 400, VpcIds=[vpc])


@check("1.11 NAT check: route tables by subnet, else the VPC's main table; 2.1 NAT gateways")
def routes_say_whether_there_is_a_nat_gateway(world):
    ec2 = world.ec2
    vpc, (public, private) = vpc_with_subnets(world, "10.3")
    igw = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=igw, VpcId=vpc)
    (main,) = ec2.describe_route_tables(
        Filters=[{"Name": "vpc-id", "Values": [vpc]}, {"Name": "association.main", "Values": ["true"]}]
    )["RouteTables"]
    by_subnet = [{"Name": "association.subnet-id", "Values": [private]}]
    assert ec2.describe_route_tables(Filters=by_subnet)["RouteTables"] == []
    assert main["Routes"][0]["GatewayId"] == "local" and main["Associations"][0]["Main"]
    ec2.create_route(RouteTableId=main["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=igw)
    refused(
        "RouteAlreadyExists",
        ec2.create_route,
        400,
        RouteTableId=main["RouteTableId"],
        DestinationCidrBlock="0.0.0.0/0",
        GatewayId=igw,
    )
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    nat = ec2.create_nat_gateway(SubnetId=public, AllocationId=address)["NatGateway"]
    assert nat["State"] == "pending"
    refused("InvalidIPAddress.InUse", ec2.release_address, 400, AllocationId=address)
    state = lambda: ec2.describe_nat_gateways(NatGatewayIds=[nat["NatGatewayId"]])["NatGateways"][0]["State"]
    until(state, lambda s: s == "available", what="the NAT gateway")
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat["NatGatewayId"])
    association = ec2.associate_route_table(RouteTableId=table, SubnetId=private)["AssociationId"]
    (own,) = ec2.describe_route_tables(Filters=by_subnet)["RouteTables"]
    (route,) = [r for r in own["Routes"] if r["DestinationCidrBlock"] == "0.0.0.0/0"]
    assert route["NatGatewayId"] == nat["NatGatewayId"] and route["State"] == "active"
    refused("DependencyViolation", ec2.delete_route_table, 400, RouteTableId=table)
    ec2.delete_nat_gateway(NatGatewayId=nat["NatGatewayId"])
    until(state, lambda s: s == "deleted", what="the end of the NAT gateway")
    (own,) = ec2.describe_route_tables(Filters=by_subnet)["RouteTables"]
    assert [r["State"] for r in own["Routes"] if r["DestinationCidrBlock"] == "0.0.0.0/0"] == ["blackhole"]
    ec2.delete_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0")
    refused("InvalidRoute.NotFound", ec2.delete_route, 400, RouteTableId=table, DestinationCidrBlock="0.0.0.0/0")
    ec2.disassociate_route_table(AssociationId=association)
    ec2.delete_route_table(RouteTableId=table)
    ec2.release_address(AllocationId=address)
    assert ec2.describe_addresses()["Addresses"] == []
    refused("DependencyViolation", ec2.delete_internet_gateway, 400, InternetGatewayId=igw)
    ec2.detach_internet_gateway(InternetGatewayId=igw, VpcId=vpc)
    ec2.delete_internet_gateway(InternetGatewayId=igw)
    assert igw not in [g["InternetGatewayId"] for g in ec2.describe_internet_gateways()["InternetGateways"]]


@check("2.1 CreateSecurityGroup; 2.2 implicit egress; 2.3 errors")
def a_new_group_lets_everything_out(world):
    ec2 = world.ec2
    vpc, _ = vpc_with_subnets(world, "10.4")
    made = ec2.create_security_group(
        GroupName="web", Description="web", VpcId=vpc, TagSpecifications=tag("security-group", owner="a")
    )
    (group,) = ec2.describe_security_groups(GroupIds=[made["GroupId"]])["SecurityGroups"]
    assert group["IpPermissions"] == [] and group["Tags"] == [{"Key": "owner", "Value": "a"}]
    (out,) = group["IpPermissionsEgress"]
    assert out["IpProtocol"] == "-1" and out["IpRanges"] == [{"CidrIp": "0.0.0.0/0"}] and "FromPort" not in out
    create = lambda code, name, text="d": refused(
        code, ec2.create_security_group, 400, GroupName=name, Description=text, VpcId=vpc
    )
    create("InvalidGroup.Duplicate", "WEB")
    create("InvalidParameterValue", "sg-mine")
    create("InvalidGroup.Reserved", "default")
    create("InvalidParameterValue", "fine", "not < allowed")
    refused(
        "InvalidVpcID.NotFound",
        ec2.create_security_group,
        400,
        GroupName="x",
        Description="d",
        VpcId="vpc-0123456789abcdef0",
    )
    ec2.delete_security_group(GroupId=made["GroupId"])
    refused("InvalidGroup.NotFound", ec2.delete_security_group, 400, GroupId=made["GroupId"])
    default = ec2.describe_security_groups(
        Filters=[{"Name": "vpc-id", "Values": [vpc]}, {"Name": "group-name", "Values": ["default"]}]
    )["SecurityGroups"][0]["GroupId"]
    refused("CannotDelete", ec2.delete_security_group, 400, GroupId=default)


@check("2.2 normalisation; 2.1 rule ids; 2.3 InvalidPermission.Duplicate fails the batch")
def rules_are_normalised_and_have_ids(world):
    ec2 = world.ec2
    vpc, _ = vpc_with_subnets(world, "10.5")
    app = ec2.create_security_group(GroupName="app", Description="d", VpcId=vpc)["GroupId"]
    cache = ec2.create_security_group(GroupName="cache", Description="d", VpcId=vpc)["GroupId"]
    made = ec2.authorize_security_group_ingress(
        GroupId=cache,
        IpPermissions=[
            {
                "IpProtocol": "6",
                "FromPort": 6379,
                "ToPort": 6379,
                "UserIdGroupPairs": [{"GroupId": app, "Description": "app"}],
                "IpRanges": [{"CidrIp": "10.5.0.9/24"}],
            }
        ],
        TagSpecifications=tag("security-group-rule", owner="us"),
    )["SecurityGroupRules"]
    assert sorted(r.get("CidrIpv4", "") for r in made) == ["", "10.5.0.0/24"] and all(
        r["IpProtocol"] == "tcp" and r["SecurityGroupRuleId"].startswith("sgr-") for r in made
    ), made
    (group,) = ec2.describe_security_groups(GroupIds=[cache])["SecurityGroups"]
    (permission,) = group["IpPermissions"]
    assert permission["UserIdGroupPairs"] == [{"GroupId": app, "UserId": "123456789012", "Description": "app"}]
    duplicate = tcp(6379, UserIdGroupPairs=[{"GroupId": app}]) + tcp(7000, IpRanges=[{"CidrIp": "10.0.0.0/8"}])
    refused(
        "InvalidPermission.Duplicate",
        ec2.authorize_security_group_ingress,
        400,
        "already exists",
        GroupId=cache,
        IpPermissions=duplicate,
    )
    rules = lambda: ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [cache]}])[
        "SecurityGroupRules"
    ]
    assert len(rules()) == 3, "two of ours and the implicit egress rule; nothing of the refused batch"
    tagged = ec2.describe_security_group_rules(Filters=[{"Name": "tag:owner", "Values": ["us"]}])
    assert len(tagged["SecurityGroupRules"]) == 2
    ours = next(r for r in rules() if "ReferencedGroupInfo" in r)
    assert ours["ReferencedGroupInfo"]["GroupId"] == app
    refused("DependencyViolation", ec2.delete_security_group, 400, GroupId=app)
    revoked = ec2.revoke_security_group_ingress(GroupId=cache, SecurityGroupRuleIds=[ours["SecurityGroupRuleId"]])
    assert revoked["Return"] and revoked["RevokedSecurityGroupRules"][0]["ReferencedGroupId"] == app
    refused(
        "InvalidSecurityGroupRuleId.NotFound",
        ec2.revoke_security_group_ingress,
        400,
        GroupId=cache,
        SecurityGroupRuleIds=[ours["SecurityGroupRuleId"]],
    )
    ec2.delete_security_group(GroupId=app)
    refused(
        "InvalidPermission.NotFound",
        ec2.revoke_security_group_ingress,
        400,
        GroupId=cache,
        IpPermissions=tcp(6379, IpRanges=[{"CidrIp": "10.99.0.0/16"}]),
    )
    # A self-reference comes back as an explicit group.
    ec2.authorize_security_group_ingress(GroupId=cache, IpPermissions=tcp(6380, UserIdGroupPairs=[{"GroupId": cache}]))
    ec2.revoke_security_group_ingress(GroupId=cache, IpPermissions=tcp(6380, UserIdGroupPairs=[{"GroupId": cache}]))
    ec2.authorize_security_group_egress(GroupId=cache, IpPermissions=tcp(443, Ipv6Ranges=[{"CidrIpv6": "::/0"}]))
    ec2.revoke_security_group_egress(GroupId=cache, IpPermissions=tcp(443, Ipv6Ranges=[{"CidrIpv6": "::/0"}]))


@check("2.3 default-VPC quirk of revoke")
def revoking_what_is_not_there_succeeds_in_a_default_vpc(world):
    ec2 = world.ec2
    group = ec2.create_security_group(GroupName="in-default", Description="d")["GroupId"]
    answer = ec2.revoke_security_group_ingress(
        GroupId=group, IpPermissions=tcp(1, IpRanges=[{"CidrIp": "10.0.0.0/8"}])
    )
    assert answer["Return"] and answer["UnknownIpPermissions"][0]["FromPort"] == 1, answer
    ec2.delete_security_group(GroupId=group)


@check("2.3 malformed rules; 2.4 rules per group")
def a_group_has_sixty_rules_each_way(world):
    ec2 = world.ec2
    group = ec2.create_security_group(GroupName="many", Description="d")["GroupId"]
    authorize = ec2.authorize_security_group_ingress
    refused("InvalidParameterValue", authorize, 400, GroupId=group, IpPermissions=tcp(1, IpRanges=[{"CidrIp": "x"}]))
    wrong = [{"IpProtocol": "tcp", "FromPort": 9, "ToPort": 8, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}]
    refused("InvalidParameterValue", authorize, 400, GroupId=group, IpPermissions=wrong)
    refused("InvalidPermission.Malformed", authorize, 400, GroupId=group, IpPermissions=tcp(1))
    authorize(GroupId=group, IpPermissions=[p for n in range(60) for p in tcp(n, IpRanges=[{"CidrIp": "10.0.0.0/8"}])])
    refused(
        "RulesPerSecurityGroupLimitExceeded",
        authorize,
        400,
        GroupId=group,
        IpPermissions=tcp(99, IpRanges=[{"CidrIp": "10.0.0.0/8"}]),
    )
    pages = list(
        ec2.get_paginator("describe_security_group_rules").paginate(
            Filters=[{"Name": "group-id", "Values": [group]}], PaginationConfig={"PageSize": 25}
        )
    )
    assert [len(p["SecurityGroupRules"]) for p in pages] == [25, 25, 11]
    unchecked = world.client("ec2", parameter_validation=False)
    refused("InvalidParameterValue", unchecked.describe_security_group_rules, 400, MaxResults=2)
    ec2.delete_security_group(GroupId=group)


@check("2.1 CreateTags, DeleteTags")
def tags_are_put_on_and_taken_off(world):
    ec2 = world.ec2
    vpc, (subnet, _) = vpc_with_subnets(world, "10.6")
    ec2.create_tags(Resources=[vpc, subnet], Tags=[{"Key": "team", "Value": "a"}])
    told = ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [vpc, subnet]}])["Tags"]
    assert sorted(t["ResourceType"] for t in told) == ["subnet", "vpc"], told
    ec2.delete_tags(Resources=[vpc], Tags=[{"Key": "team", "Value": "other"}])
    assert len(ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [vpc]}])["Tags"]) == 1
    ec2.delete_tags(Resources=[vpc], Tags=[{"Key": "team"}])
    assert ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [vpc]}])["Tags"] == []
    refused("InvalidID", ec2.create_tags, 400, Resources=["x-1"], Tags=[{"Key": "a", "Value": "b"}])


@check("10.1 DescribeVpcEndpoints")
def endpoints_are_listed_by_vpc(world):
    ec2 = world.ec2
    vpc, subnets = vpc_with_subnets(world, "10.7")
    (main,) = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"]
    gateway = ec2.create_vpc_endpoint(
        VpcId=vpc, ServiceName="com.amazonaws.us-east-1.s3", RouteTableIds=[main["RouteTableId"]]
    )["VpcEndpoint"]
    assert gateway["VpcEndpointType"] == "Gateway" and gateway["State"].lower() == "available"
    interface = ec2.create_vpc_endpoint(
        VpcId=vpc,
        ServiceName="com.amazonaws.us-east-1.secretsmanager",
        VpcEndpointType="Interface",
        SubnetIds=subnets,
    )["VpcEndpoint"]
    mine = lambda: ec2.describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["VpcEndpoints"]
    until(mine, lambda all: [e["State"].lower() for e in all] == ["available"] * 2, what="the interface endpoint")
    assert len(ec2.describe_network_interfaces(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["NetworkInterfaces"]) == 2
    ids = [gateway["VpcEndpointId"], interface["VpcEndpointId"]]
    answer = ec2.delete_vpc_endpoints(VpcEndpointIds=ids + ["vpce-0123456789abcdef0"])
    assert [u["Error"]["Code"] for u in answer["Unsuccessful"]] == ["InvalidVpcEndpointId.NotFound"]
    until(mine, lambda all: all == [], what="the end of the endpoints")
