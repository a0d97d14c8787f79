"""App Runner: services, connectors, scaling, tags, and what a deployment takes from its surroundings."""

import json
import urllib.error
import urllib.request

from drive import check, refused, until
from checks.identity import TRUST, policy
from checks.network import tcp, vpc_with_subnets

QUICK = {"Protocol": "TCP", "Interval": 1, "Timeout": 1, "HealthyThreshold": 1, "UnhealthyThreshold": 2}


def source(image="web", variables=None, secrets=None, **more):
    configuration = {"Port": "8080", **more}
    if variables is not None:
        configuration["RuntimeEnvironmentVariables"] = variables
    if secrets is not None:
        configuration["RuntimeEnvironmentSecrets"] = secrets
    return {
        "AutoDeploymentsEnabled": False,
        "ImageRepository": {
            "ImageIdentifier": f"public.ecr.aws/example/{image}:latest",
            "ImageRepositoryType": "ECR_PUBLIC",
            "ImageConfiguration": configuration,
        },
    }


def create(world, name, **more):
    arguments = {"ServiceName": name, "SourceConfiguration": source(), "HealthCheckConfiguration": QUICK, **more}
    return world.apprunner.create_service(**arguments)


def described(world, arn):
    return world.apprunner.describe_service(ServiceArn=arn)["Service"]


def settled(world, arn):
    return until(
        lambda: described(world, arn), lambda s: s["Status"] != "OPERATION_IN_PROGRESS", what="the end of the operation"
    )


def operations(world, arn):
    return world.apprunner.list_operations(ServiceArn=arn)["OperationSummaryList"]


def outcome(world, arn, operation):
    """Status of an operation once it has ended."""
    settled(world, arn)
    (found,) = [o for o in operations(world, arn) if o["Id"] == operation]
    return found["Status"]


def ask(service, path="/"):
    """What an instance answers through the front."""
    with urllib.request.urlopen(f"https://{service['ServiceUrl']}{path}", timeout=20) as answer:
        return json.load(answer)


def events(world, service):
    group = f"/aws/apprunner/{service['ServiceName']}/{service['ServiceId']}/service"
    return [e["message"] for e in world.logs.filter_log_events(logGroupName=group)["events"]]


def remove(world, arn):
    world.apprunner.delete_service(ServiceArn=arn)
    until(lambda: described(world, arn), lambda s: s["Status"] == "DELETED", what="the deletion")


@check("1.7 life of a service; 1.4 defaults and units; 1.12 log groups")
def a_service_is_created_serves_and_is_listed(world):
    made = create(world, "first", InstanceConfiguration={"Cpu": "1 vCPU", "Memory": "2 GB"})
    service, arn = made["Service"], made["Service"]["ServiceArn"]
    assert service["Status"] == "OPERATION_IN_PROGRESS" and len(service["ServiceId"]) == 32
    assert "://" not in service["ServiceUrl"] and service["ServiceUrl"].endswith(".us-east-1.awsapprunner.com")
    assert outcome(world, arn, made["OperationId"]) == "SUCCEEDED"
    service = described(world, arn)
    assert service["Status"] == "RUNNING"
    # Units are numbers, whatever was sent.
    assert service["InstanceConfiguration"] == {"Cpu": "1024", "Memory": "2048"}
    assert service["NetworkConfiguration"]["EgressConfiguration"] == {"EgressType": "DEFAULT"}
    assert service["NetworkConfiguration"]["IpAddressType"] == "IPV4" and "Tags" not in service
    assert service["AutoScalingConfigurationSummary"]["AutoScalingConfigurationName"] == "DefaultConfiguration"
    (operation,) = operations(world, arn)
    assert operation["Type"] == "CREATE_SERVICE" and operation["TargetArn"] == arn and operation["EndedAt"]
    (listed,) = [s for s in world.apprunner.list_services()["ServiceSummaryList"] if s["ServiceName"] == "first"]
    assert "SourceConfiguration" not in listed and listed["Status"] == "RUNNING"
    assert ask(service)["env"]["PORT"].isdigit()
    said = events(world, service)
    for line in ["Service creation started.", "Successfully pulled your application image from ECR.",
                 "Health check is successful. Routing traffic to application.", "Service status is set to RUNNING."]:
        assert f"[AppRunner] {line}" in said, said
    group = f"/aws/apprunner/first/{service['ServiceId']}/service"
    streams = [s["logStreamName"] for s in world.logs.describe_log_streams(logGroupName=group)["logStreams"]]
    assert streams == ["deployment/" + operation["Id"].replace("-", ""), "events"], streams


@check("1.3 duplicate name; 1.4 limits; 13.1(5)")
def create_refuses_what_cannot_be(world):
    refused("InvalidRequestException", create, 400, "already exists: first", world=world, name="first")
    for text, name, more in [
        ("50", "many", {"SourceConfiguration": source(variables={f"V{n}": "" for n in range(51)})}),
        ("PORT", "port", {"SourceConfiguration": source(variables={"PORT": "1"})}),
        ("AWSAPPRUNNER", "reserved", {"SourceConfiguration": source(variables={"AWSAPPRUNNER_X": "1"})}),
        ("Instance Role have to be provided", "role", {"SourceConfiguration": source(secrets={"A": "arn:x"})}),
        ("Invalid combination", "units", {"InstanceConfiguration": {"Cpu": "256", "Memory": "4096"}}),
        ("assuming instance role", "norole", {"InstanceConfiguration": {"InstanceRoleArn": "arn:aws:iam::123456789012:role/none-such"}}),
        ("VPC connector", "egress", {"NetworkConfiguration": {"EgressConfiguration": {"EgressType": "VPC",
            "VpcConnectorArn": "arn:aws:apprunner:us-east-1:123456789012:vpcconnector/none/1/0"}}}),
    ]:
        refused("InvalidRequestException", create, 400, text, world=world, name=name, **more)
    unchecked = world.client("apprunner", parameter_validation=False)
    refused("InvalidRequestException", unchecked.create_service, 400, "length", ServiceName="abc", SourceConfiguration=source())
    refused("InvalidRequestException", unchecked.create_service, 400, "SourceConfiguration", ServiceName="no-source")


@check("1.6 replace semantics, absent members keep their value; 1.3 No configurations provided")
def an_update_replaces_whole_members(world):
    arn = next(s for s in world.apprunner.list_services()["ServiceSummaryList"] if s["ServiceName"] == "first")["ServiceArn"]
    update = lambda **a: world.apprunner.update_service(ServiceArn=arn, **a)
    refused("InvalidRequestException", update, 400, "No configurations provided in the UpdateService request.")
    begun = update(SourceConfiguration=source(variables={"A": "1", "B": "2"}))
    assert begun["Service"]["Status"] == "OPERATION_IN_PROGRESS"
    # Busy: InvalidState for an update, InvalidRequest for a deployment.
    refused("InvalidStateException", update, 400, InstanceConfiguration={"Cpu": "1024"})
    refused("InvalidStateException", world.apprunner.delete_service, 400, ServiceArn=arn)
    refused("InvalidStateException", world.apprunner.pause_service, 400, ServiceArn=arn)
    refused("InvalidRequestException", world.apprunner.start_deployment, 400, "isn't in RUNNING state", ServiceArn=arn)
    assert outcome(world, arn, begun["OperationId"]) == "SUCCEEDED"
    service = described(world, arn)
    assert service["HealthCheckConfiguration"]["Interval"] == 1, "a member that was not sent is kept"
    env = ask(service)["env"]
    assert env["A"] == "1" and env["B"] == "2"
    # Leaving a variable out drops it; a health check sent in part goes back to defaults (roadmap 143).
    settled(world, arn)
    update(SourceConfiguration=source(variables={"B": "3"}), HealthCheckConfiguration={"Interval": 2})
    service = settled(world, arn)
    assert service["HealthCheckConfiguration"]["Protocol"] == "TCP" and service["HealthCheckConfiguration"]["Timeout"] == 2
    env = ask(service)["env"]
    assert "A" not in env and env["B"] == "3"
    code = {"RepositoryUrl": "https://example.com/r", "SourceCodeVersion": {"Type": "BRANCH", "Value": "main"}}
    refused("InvalidRequestException", update, 400, "code and image", SourceConfiguration={"CodeRepository": code})
    types = [o["Type"] for o in operations(world, arn)]
    assert types == ["UPDATE_SERVICE", "UPDATE_SERVICE", "CREATE_SERVICE"], "newest first"


@check("1.8 pause, resume, StartDeployment")
def a_paused_service_takes_only_resume_and_delete(world):
    arn = next(s for s in world.apprunner.list_services()["ServiceSummaryList"] if s["ServiceName"] == "first")["ServiceArn"]
    ar = world.apprunner
    operation = ar.start_deployment(ServiceArn=arn)["OperationId"]
    assert outcome(world, arn, operation) == "SUCCEEDED"
    assert operations(world, arn)[0]["Type"] == "START_DEPLOYMENT"
    operation = ar.pause_service(ServiceArn=arn)["OperationId"]
    assert outcome(world, arn, operation) == "SUCCEEDED" and described(world, arn)["Status"] == "PAUSED"
    refused("InvalidStateException", ar.update_service, 400, ServiceArn=arn, InstanceConfiguration={"Cpu": "1024"})
    refused("InvalidRequestException", ar.start_deployment, 400, ServiceArn=arn)
    refused("InvalidStateException", ar.pause_service, 400, ServiceArn=arn)
    operation = ar.resume_service(ServiceArn=arn)["OperationId"]
    assert outcome(world, arn, operation) == "SUCCEEDED"
    assert ask(described(world, arn))["env"]["B"] == "3", "the last version and configuration"
    refused("InvalidStateException", ar.resume_service, 400, ServiceArn=arn)


@check("10.1 App Runner tags; 1.7 tags are not in Service")
def services_and_connectors_have_tags(world):
    ar = world.apprunner
    arn = next(s for s in ar.list_services()["ServiceSummaryList"] if s["ServiceName"] == "first")["ServiceArn"]
    ar.tag_resource(ResourceArn=arn, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}])
    ar.tag_resource(ResourceArn=arn, Tags=[{"Key": "a", "Value": "2"}])
    assert ar.list_tags_for_resource(ResourceArn=arn)["Tags"] == [{"Key": "a", "Value": "2"}, {"Key": "b", "Value": ""}]
    ar.untag_resource(ResourceArn=arn, TagKeys=["a", "none"])
    assert ar.list_tags_for_resource(ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": ""}]
    refused("InvalidRequestException", ar.tag_resource, 400, ResourceArn=arn, Tags=[{"Key": "aws:x", "Value": ""}])
    refused("ResourceNotFoundException", ar.list_tags_for_resource, 400, ResourceArn=arn[:-1] + "z")


@check("1.12 auto scaling configurations; MinSize is the number of instances")
def scaling_configurations_are_revisions(world):
    ar = world.apprunner
    make = lambda **a: ar.create_auto_scaling_configuration(AutoScalingConfigurationName="three", **a)[
        "AutoScalingConfiguration"
    ]
    one = make(MinSize=2, MaxSize=4)
    two = make(MinSize=3, MaxSize=4)
    assert (one["AutoScalingConfigurationRevision"], two["AutoScalingConfigurationRevision"]) == (1, 2) and two["Latest"]
    refused("InvalidRequestException", make, 400, MinSize=3, MaxSize=2)
    latest = ar.describe_auto_scaling_configuration(
        AutoScalingConfigurationArn=two["AutoScalingConfigurationArn"].rsplit("/", 2)[0]
    )["AutoScalingConfiguration"]
    assert latest["AutoScalingConfigurationRevision"] == 2, "without a revision it is the latest"
    listed = ar.list_auto_scaling_configurations(AutoScalingConfigurationName="three")
    assert len(listed["AutoScalingConfigurationSummaryList"]) == 2
    made = create(world, "three-of-us", AutoScalingConfigurationArn=two["AutoScalingConfigurationArn"])
    service = settled(world, made["Service"]["ServiceArn"])
    pids = {ask(service)["pid"] for _ in range(12)}
    assert len(pids) == 3, "requests are spread over three instances without stickiness"
    delete = ar.delete_auto_scaling_configuration
    refused("InvalidRequestException", delete, 400, AutoScalingConfigurationArn=two["AutoScalingConfigurationArn"])
    gone = delete(AutoScalingConfigurationArn=one["AutoScalingConfigurationArn"])["AutoScalingConfiguration"]
    assert gone["Status"] == "INACTIVE"
    remove(world, service["ServiceArn"])


@check("1.11 connectors: synchronous, immutable, duplicate group set, in use, INACTIVE; 13.1(6)")
def connectors_are_held_by_services(world):
    ar, ec2 = world.apprunner, world.ec2
    vpc, subnets = vpc_with_subnets(world, "10.30")
    group = ec2.create_security_group(GroupName="app", Description="d", VpcId=vpc)["GroupId"]
    make = lambda name, **a: ar.create_vpc_connector(
        VpcConnectorName=name, **{"Subnets": subnets, "SecurityGroups": [group], **a}
    )["VpcConnector"]
    connector = make("sessions", Tags=[{"Key": "owner", "Value": "us"}])
    arn = connector["VpcConnectorArn"]
    assert connector["Status"] == "ACTIVE" and connector["VpcConnectorRevision"] == 1
    refused("InvalidRequestException", make, 400, f"Existing VPC connector arn: {arn}", name="other")
    refused("InvalidRequestException", make, 400, "does not exist", name="wrong", Subnets=["subnet-0123456789abcdef0"])
    assert ar.list_tags_for_resource(ResourceArn=arn)["Tags"] == [{"Key": "owner", "Value": "us"}]
    other_vpc, other_subnets = vpc_with_subnets(world, "10.31")
    refused("InvalidRequestException", make, 400, "same VPC", name="mixed", Subnets=[subnets[0], other_subnets[0]])
    default = make("by-default", Subnets=other_subnets, SecurityGroups=[])
    assert len(default["SecurityGroups"]) == 1, "the VPC's default group"
    egress = {"EgressConfiguration": {"EgressType": "VPC", "VpcConnectorArn": arn}}
    made = create(world, "inside", NetworkConfiguration=egress)["Service"]["ServiceArn"]
    settled(world, made)
    refused("InvalidRequestException", ar.delete_vpc_connector, 400, "is being used by other services", VpcConnectorArn=arn)
    held = ec2.describe_network_interfaces(Filters=[{"Name": "group-id", "Values": [group]}])["NetworkInterfaces"]
    assert held and {"Key": "AWSAppRunnerManaged", "Value": "true"} in held[0]["TagSet"]
    refused("DependencyViolation", ec2.delete_security_group, 400, GroupId=group)
    remove(world, made)
    gone = ar.delete_vpc_connector(VpcConnectorArn=arn)["VpcConnector"]
    assert gone["Status"] == "INACTIVE" and gone["DeletedAt"]
    assert ar.describe_vpc_connector(VpcConnectorArn=arn)["VpcConnector"]["Status"] == "INACTIVE"
    assert [c["VpcConnectorName"] for c in ar.list_vpc_connectors()["VpcConnectors"]] == ["by-default"]
    refused("ResourceNotFoundException", ar.delete_vpc_connector, 400, VpcConnectorArn=arn)
    refused("ResourceNotFoundException", ar.describe_vpc_connector, 400, VpcConnectorArn=arn[:-4] + "zzzz")

    def free():
        try:
            ec2.delete_security_group(GroupId=group)
            return True
        except ec2.exceptions.ClientError:
            return False

    until(free, what="the connector's interfaces letting go of the group")
    ar.delete_vpc_connector(VpcConnectorArn=default["VpcConnectorArn"])


@check("1.5 secrets are resolved only while deploying, through the instance role")
def a_reference_is_resolved_at_each_deployment(world):
    sm, iam, ar = world.secretsmanager, world.iam, world.apprunner
    secret = sm.create_secret(Name="svc/url", SecretString="one")["ARN"]
    keyed = sm.create_secret(Name="svc/json", SecretString=json.dumps({"user": "u", "n": 1}))["ARN"]
    role = iam.create_role(RoleName="instance", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    document = policy("secretsmanager:GetSecretValue", ["arn:aws:secretsmanager:*:*:secret:svc/*"])
    iam.put_role_policy(RoleName="instance", PolicyName="read", PolicyDocument=document)
    config = source(variables={"PLAIN": "p"}, secrets={"URL": secret, "USER_NAME": f"{keyed}:user::"})
    instance = {"InstanceRoleArn": role}
    made = create(world, "secretive", SourceConfiguration=config, InstanceConfiguration=instance)
    service = settled(world, made["Service"]["ServiceArn"])
    arn = service["ServiceArn"]
    env = ask(service)["env"]
    assert (env["URL"], env["USER_NAME"], env["PLAIN"]) == ("one", "u", "p")
    shown = service["SourceConfiguration"]["ImageRepository"]["ImageConfiguration"]["RuntimeEnvironmentSecrets"]
    assert shown["URL"] == secret, "references, never values"
    sm.put_secret_value(SecretId=secret, SecretString="two")
    assert ask(service)["env"]["URL"] == "one"
    assert outcome(world, arn, ar.start_deployment(ServiceArn=arn)["OperationId"]) == "SUCCEEDED"
    assert ask(service)["env"]["URL"] == "two"
    # Without the permission, and without the secret, the deployment fails and what runs goes on.
    iam.delete_role_policy(RoleName="instance", PolicyName="read")
    operation = ar.start_deployment(ServiceArn=arn)["OperationId"]
    assert outcome(world, arn, operation) == "ROLLBACK_SUCCEEDED" and described(world, arn)["Status"] == "RUNNING"
    assert any("AccessDeniedException" in line for line in events(world, service))
    assert ask(service)["env"]["URL"] == "two"
    iam.put_role_policy(RoleName="instance", PolicyName="read", PolicyDocument=document)
    sm.delete_secret(SecretId=secret)
    operation = ar.start_deployment(ServiceArn=arn)["OperationId"]
    assert outcome(world, arn, operation) == "ROLLBACK_SUCCEEDED"
    sm.restore_secret(SecretId=secret)
    assert outcome(world, arn, ar.start_deployment(ServiceArn=arn)["OperationId"]) == "SUCCEEDED"
    # A member is replaced as a whole: without its role the service cannot keep its secrets.
    refused("InvalidRequestException", ar.update_service, 400, "Instance Role", ServiceArn=arn, InstanceConfiguration={"Cpu": "1024", "Memory": "2048"})
    remove(world, arn)


@check("1.3 Failed to assume instance-role-arn")
def a_role_must_trust_the_tasks(world):
    trust = TRUST.replace("tasks.apprunner", "build.apprunner")
    role = world.iam.create_role(RoleName="builder", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    refused(
        "InvalidRequestException",
        create,
        400,
        "Failed to assume instance-role-arn",
        world=world,
        name="builder",
        InstanceConfiguration={"InstanceRoleArn": role},
    )


@check("1.6 REPOSITORY: what the API says is ignored; 13.1(5)")
def a_repository_configuration_ignores_the_api(world):
    code = {
        "RepositoryUrl": "https://github.com/example/web",
        "SourceCodeVersion": {"Type": "BRANCH", "Value": "main"},
        "CodeConfiguration": {
            "ConfigurationSource": "REPOSITORY",
            "CodeConfigurationValues": {"Runtime": "PYTHON_3", "RuntimeEnvironmentVariables": {"IGNORED": "1"}},
        },
    }
    made = create(world, "from-code", SourceConfiguration={"CodeRepository": code})
    service = settled(world, made["Service"]["ServiceArn"])
    assert service["Status"] == "RUNNING" and service["SourceConfiguration"]["AutoDeploymentsEnabled"]
    assert "IGNORED" not in ask(service)["env"]
    remove(world, service["ServiceArn"])


@check("1.10 quota of services; ListServices pages of at most 20")
def lists_come_in_pages(world):
    refused("InvalidRequestException", world.apprunner.list_services, 400, NextToken="nonsense")
    for n in range(3):
        create(world, f"page-{n}")
    first = world.apprunner.list_services(MaxResults=2)
    second = world.apprunner.list_services(MaxResults=2, NextToken=first["NextToken"])
    names = [s["ServiceName"] for p in [first, second] for s in p["ServiceSummaryList"]]
    assert len(set(names)) == 4 and "NextToken" not in second, names
    for summary in world.apprunner.list_services()["ServiceSummaryList"]:
        if summary["ServiceName"].startswith("page-"):
            settled(world, summary["ServiceArn"])
            remove(world, summary["ServiceArn"])


@check("1.7, 1.8 delete: DELETED for a while, the host unknown, the name free")
def a_deleted_service_is_described_as_deleted(world):
    ar = world.apprunner
    arn = next(s for s in ar.list_services()["ServiceSummaryList"] if s["ServiceName"] == "first")["ServiceArn"]
    url = described(world, arn)["ServiceUrl"]
    remove(world, arn)
    assert ar.list_services()["ServiceSummaryList"] == []
    refused("ResourceNotFoundException", ar.delete_service, 400, ServiceArn=arn)
    refused("ResourceNotFoundException", ar.describe_service, 400, ServiceArn=arn[:-4] + "zzzz")
    # The front no longer knows the host.
    try:
        urllib.request.urlopen(f"https://{url}/", timeout=10)
    except (urllib.error.URLError, OSError):
        pass
    else:
        raise AssertionError("the deleted service still answers")
    again = create(world, "first")["Service"]["ServiceArn"]
    assert again != arn
    settled(world, again)
    remove(world, again)


@check("1.11 and 13.1(7): who reaches what")
def egress_decides_who_is_reached(world):
    ec2, cache, ar = world.ec2, world.elasticache, world.apprunner
    vpc, (first, second) = vpc_with_subnets(world, "10.40")
    app = ec2.create_security_group(GroupName="app", Description="d", VpcId=vpc)["GroupId"]
    store = ec2.create_security_group(GroupName="store", Description="d", VpcId=vpc)["GroupId"]
    cache.create_cache_subnet_group(CacheSubnetGroupName="reach", CacheSubnetGroupDescription="d", SubnetIds=[first])
    cache.create_replication_group(
        ReplicationGroupId="reach",
        ReplicationGroupDescription="d",
        CacheNodeType="cache.t4g.micro",
        CacheSubnetGroupName="reach",
        SecurityGroupIds=[store],
    )
    group = lambda: cache.describe_replication_groups(ReplicationGroupId="reach")["ReplicationGroups"][0]
    host = until(group, lambda g: g["Status"] == "available")["NodeGroups"][0]["PrimaryEndpoint"]["Address"]
    connector = ar.create_vpc_connector(VpcConnectorName="reach", Subnets=[second], SecurityGroups=[app])["VpcConnector"]
    inside = {"EgressConfiguration": {"EgressType": "VPC", "VpcConnectorArn": connector["VpcConnectorArn"]}}
    service = settled(world, create(world, "reacher", NetworkConfiguration=inside)["Service"]["ServiceArn"])
    reach = lambda name, port: ask(service, f"/connect?host={name}&port={port}")["outcome"]
    assert reach(host, 6379) == "timed out", "no rule"
    ec2.authorize_security_group_ingress(GroupId=store, IpPermissions=tcp(6379, UserIdGroupPairs=[{"GroupId": app}]))
    until(lambda: reach(host, 6379), lambda o: o == "open", what="the rule by group")
    ec2.revoke_security_group_ingress(GroupId=store, IpPermissions=tcp(6379, UserIdGroupPairs=[{"GroupId": app}]))
    until(lambda: reach(host, 6379), lambda o: o == "timed out", what="the end of the rule")
    ec2.authorize_security_group_ingress(GroupId=store, IpPermissions=tcp(6379, IpRanges=[{"CidrIp": "10.40.1.0/24"}]))
    until(lambda: reach(host, 6379), lambda o: o == "open", what="the rule by the connector's subnet")
    assert reach("api.upstash.com", 443) == "timed out", "VPC egress without NAT has no internet"
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    nat = ec2.create_nat_gateway(SubnetId=first, AllocationId=address)["NatGateway"]["NatGatewayId"]
    (main,) = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"]
    ec2.create_route(RouteTableId=main["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat)
    until(lambda: reach("api.upstash.com", 443), lambda o: o == "open", what="the NAT gateway")
    ar.update_service(ServiceArn=service["ServiceArn"], NetworkConfiguration={"EgressConfiguration": {"EgressType": "DEFAULT"}})
    settled(world, service["ServiceArn"])
    assert reach("api.upstash.com", 443) == "open" and reach(host, 6379) == "timed out", "Default egress has no VPC"
    remove(world, service["ServiceArn"])
    cache.delete_replication_group(ReplicationGroupId="reach")
    ar.delete_vpc_connector(VpcConnectorArn=connector["VpcConnectorArn"])
