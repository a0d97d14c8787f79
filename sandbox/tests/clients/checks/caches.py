"""ElastiCache."""

import os
import subprocess

from drive import check, refused, until
from checks.network import tcp, vpc_with_subnets

TOKEN = "first-token-0123456789"
OTHER = "second-token-0123456789"
THIRD = "third-token-0123456789"


def group_of(world, name):
    return world.elasticache.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]


def available(world, name):
    return until(lambda: group_of(world, name), lambda g: g["Status"] == "available", what=f"{name} available")


def new_group(world, name, **more):
    arguments = {
        "ReplicationGroupId": name,
        "ReplicationGroupDescription": "d",
        "CacheNodeType": "cache.t4g.micro",
        "NumCacheClusters": 1,
        **more,
    }
    return world.elasticache.create_replication_group(**arguments)["ReplicationGroup"]


@check("3.5 subnet groups")
def subnet_groups_are_lower_cased_and_held_by_caches(world):
    cache = world.elasticache
    vpc, subnets = vpc_with_subnets(world, "10.20")
    world.vpc, world.subnets = vpc, subnets
    made = cache.create_cache_subnet_group(
        CacheSubnetGroupName="Main", CacheSubnetGroupDescription="d", SubnetIds=subnets, Tags=[{"Key": "a", "Value": "b"}]
    )["CacheSubnetGroup"]
    assert made["CacheSubnetGroupName"] == "main" and made["VpcId"] == vpc and len(made["Subnets"]) == 2, made
    again = {"CacheSubnetGroupName": "main", "CacheSubnetGroupDescription": "d", "SubnetIds": subnets}
    refused("CacheSubnetGroupAlreadyExists", cache.create_cache_subnet_group, 400, **again)
    refused("CacheSubnetGroupNotFoundFault", cache.describe_cache_subnet_groups, 400, CacheSubnetGroupName="none")
    wrong = {**again, "CacheSubnetGroupName": "other", "SubnetIds": ["subnet-0123456789abcdef0"]}
    refused("InvalidSubnet", cache.create_cache_subnet_group, 400, **wrong)
    changed = cache.modify_cache_subnet_group(CacheSubnetGroupName="main", CacheSubnetGroupDescription="new")
    assert changed["CacheSubnetGroup"]["CacheSubnetGroupDescription"] == "new"
    refused("DependencyViolation", world.ec2.delete_subnet, 400, SubnetId=subnets[0])


@check("3.2 CreateReplicationGroup: lower-case id, creating, no endpoints; 3.6 AlreadyExists")
def a_group_has_no_endpoint_until_it_is_available(world):
    ec2 = world.ec2
    world.cache_group = ec2.create_security_group(GroupName="cache", Description="d", VpcId=world.vpc)["GroupId"]
    made = new_group(
        world,
        "Sessions",
        NumCacheClusters=2,
        AutomaticFailoverEnabled=True,
        MultiAZEnabled=True,
        CacheSubnetGroupName="main",
        SecurityGroupIds=[world.cache_group],
        TransitEncryptionEnabled=True,
        AuthToken=TOKEN,
        Tags=[{"Key": "owner", "Value": "us"}],
    )
    assert made["ReplicationGroupId"] == "sessions" and made["Status"] == "creating", made
    assert made["NodeGroups"] == [] and "ConfigurationEndpoint" not in made
    refused("ReplicationGroupAlreadyExists", new_group, 400, world=world, name="sessions")
    refused("InvalidReplicationGroupState", world.elasticache.delete_replication_group, 400, ReplicationGroupId="sessions")
    group = available(world, "SESSIONS")
    (shard,) = group["NodeGroups"]
    primary = shard["PrimaryEndpoint"]
    assert primary["Port"] == 6379 and primary["Address"].startswith("master.sessions."), primary
    assert primary["Address"].endswith(".use1.cache.amazonaws.com")
    assert shard["ReaderEndpoint"]["Address"].startswith("replica.sessions.")
    assert group["MemberClusters"] == ["sessions-001", "sessions-002"] and group["AuthTokenEnabled"]
    assert [m["CurrentRole"] for m in shard["NodeGroupMembers"]] == ["primary", "replica"]


@check("3.2 what a group does not tell: DescribeCacheClusters on a member")
def security_groups_subnet_group_and_version_are_on_the_members(world):
    group = group_of(world, "sessions")
    assert not {"SecurityGroupIds", "CacheSubnetGroupName", "EngineVersion", "Port"} & set(group), sorted(group)
    clusters = world.elasticache.describe_cache_clusters
    (member,) = clusters(CacheClusterId="sessions-001")["CacheClusters"]
    assert "CacheNodes" not in member or member["CacheNodes"] == []
    (member,) = clusters(CacheClusterId="sessions-001", ShowCacheNodeInfo=True)["CacheClusters"]
    assert member["SecurityGroups"] == [{"SecurityGroupId": world.cache_group, "Status": "active"}]
    assert member["CacheSubnetGroupName"] == "main" and member["EngineVersion"] == "7.1"
    assert member["CacheNodes"][0]["Endpoint"]["Port"] == 6379 and member["ReplicationGroupId"] == "sessions"
    assert len(clusters()["CacheClusters"]) == 2
    assert clusters(ShowCacheClustersNotInReplicationGroups=True)["CacheClusters"] == []
    refused("CacheClusterNotFound", clusters, 404, CacheClusterId="none")


@check("13.4 interfaces hold their security group; 2.1 DescribeNetworkInterfaces")
def the_caches_interfaces_hold_its_group(world):
    held = world.ec2.describe_network_interfaces(Filters=[{"Name": "group-id", "Values": [world.cache_group]}])
    assert sorted(i["Description"] for i in held["NetworkInterfaces"]) == [
        "ElastiCache sessions-001",
        "ElastiCache sessions-002",
    ]
    refused("DependencyViolation", world.ec2.delete_security_group, 400, GroupId=world.cache_group)
    refused("CacheSubnetGroupInUse", world.elasticache.delete_cache_subnet_group, 400, CacheSubnetGroupName="main")
    refused(
        "SubnetInUse",
        world.elasticache.modify_cache_subnet_group,
        400,
        CacheSubnetGroupName="main",
        SubnetIds=world.subnets[:1],
    )


@check("3.2, 3.3, 3.6 refusals of create")
def create_refuses_what_cannot_be(world):
    for code, more in [
        ("InvalidParameterValue", {"ReplicationGroupId": "9x"}),
        ("InvalidParameterValue", {"ReplicationGroupId": "a--b"}),
        ("InvalidParameterCombination", {"AuthToken": TOKEN}),
        ("InvalidParameterValue", {"AuthToken": "short", "TransitEncryptionEnabled": True}),
        ("InvalidParameterValue", {"AuthToken": "a-token/with-a-slash", "TransitEncryptionEnabled": True}),
        ("InvalidParameterCombination", {"AutomaticFailoverEnabled": True}),
        ("InvalidParameterCombination", {"NumNodeGroups": 2}),
        ("InvalidParameterValue", {"SecurityGroupIds": ["sg-0123456789abcdef0"]}),
        ("CacheSubnetGroupNotFoundFault", {"CacheSubnetGroupName": "none"}),
    ]:
        refused(code, new_group, 400, **{"world": world, "name": "x", **more})


@check("3.3 ROTATE, SET, DELETE; one modification at a time; No modifications were requested")
def tokens_are_rotated_set_and_deleted(world):
    cache = world.elasticache
    modify = lambda **m: cache.modify_replication_group(ReplicationGroupId="sessions", **m)["ReplicationGroup"]
    refused(
        "InvalidParameterCombination",
        cache.modify_replication_group,
        400,
        "No modifications were requested",
        ReplicationGroupId="sessions",
        ApplyImmediately=True,
    )
    refused("InvalidParameterCombination", modify, 400, AuthToken=OTHER, ApplyImmediately=True)
    refused(
        "InvalidParameterCombination", modify, 400, AuthToken=OTHER, AuthTokenUpdateStrategy="SET", ApplyImmediately=False
    )
    changed = modify(AuthToken=OTHER, AuthTokenUpdateStrategy="ROTATE", ApplyImmediately=True)
    assert changed["Status"] == "modifying" and changed["PendingModifiedValues"]["AuthTokenStatus"] == "ROTATING"
    refused("InvalidReplicationGroupState", modify, 400, AuthToken=THIRD, AuthTokenUpdateStrategy="SET", ApplyImmediately=True)
    host = available(world, "sessions")["NodeGroups"][0]["PrimaryEndpoint"]["Address"]
    assert ping(host, world.vpc, TOKEN) and ping(host, world.vpc, OTHER)
    modify(AuthToken=OTHER, AuthTokenUpdateStrategy="SET", ApplyImmediately=True)
    available(world, "sessions")
    assert not ping(host, world.vpc, TOKEN) and ping(host, world.vpc, OTHER)
    modify(AuthTokenUpdateStrategy="DELETE", ApplyImmediately=True)
    assert not available(world, "sessions")["AuthTokenEnabled"] and ping(host, world.vpc, None)
    # ROTATE on a group without a token leaves passwordless access working.
    modify(AuthToken=TOKEN, AuthTokenUpdateStrategy="ROTATE", ApplyImmediately=True)
    available(world, "sessions")
    assert ping(host, world.vpc, None) and ping(host, world.vpc, TOKEN)
    modify(AuthToken=TOKEN, AuthTokenUpdateStrategy="SET", ApplyImmediately=True)
    available(world, "sessions")
    assert not ping(host, world.vpc, None) and ping(host, world.vpc, TOKEN)


def ping(host, vpc, password):
    """PING over TLS from inside the VPC, by redis-cli."""
    secret = ["-a", password, "--no-auth-warning"] if password else []
    command = [os.environ["SANDBOX_BIN"], "--dir", os.environ["SANDBOX_DIR"], "exec", "--from", f"vpc:{vpc}", "--"]
    command += ["redis-cli", "-h", host, "--tls", *secret, "PING"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return said.stdout.strip() == "PONG"


@check("3.2 ModifyReplicationGroup of settings")
def groups_and_description_are_modified(world):
    other = world.ec2.create_security_group(GroupName="other", Description="d", VpcId=world.vpc)["GroupId"]
    world.elasticache.modify_replication_group(
        ReplicationGroupId="sessions",
        ReplicationGroupDescription="new",
        SecurityGroupIds=[other, world.cache_group],
        ApplyImmediately=True,
    )
    assert available(world, "sessions")["Description"] == "new"
    held = world.ec2.describe_network_interfaces(Filters=[{"Name": "group-id", "Values": [other]}])
    assert len(held["NetworkInterfaces"]) == 2
    refused("ReplicationGroupNotFoundFault", world.elasticache.modify_replication_group, 404, ReplicationGroupId="none")


@check("3.1 tags; 3.6 a tag change can leave a group in modifying for a moment")
def tags_are_by_arn(world):
    cache, arn = world.elasticache, group_of(world, "sessions")["ARN"]
    added = cache.add_tags_to_resource(ResourceName=arn, Tags=[{"Key": "x", "Value": "y"}])["TagList"]
    assert {t["Key"] for t in added} == {"owner", "x"}
    available(world, "sessions")
    assert cache.list_tags_for_resource(ResourceName=arn)["TagList"] == added
    left = cache.remove_tags_from_resource(ResourceName=arn, TagKeys=["x"])["TagList"]
    assert {t["Key"] for t in left} == {"owner"}
    available(world, "sessions")
    refused("TagNotFound", cache.remove_tags_from_resource, 404, ResourceName=arn, TagKeys=["x"])
    refused("InvalidARN", cache.list_tags_for_resource, 400, ResourceName="nonsense")
    refused("ReplicationGroupNotFoundFault", cache.list_tags_for_resource, 404, ResourceName=arn + "x")


@check("3.2 names without TLS and with cluster mode; DescribeReplicationGroups pages")
def names_differ_without_tls_and_in_cluster_mode(world):
    new_group(world, "plain")
    new_group(world, "shards", ClusterMode="disabled")
    plain = available(world, "plain")["NodeGroups"][0]["PrimaryEndpoint"]["Address"]
    assert plain.startswith("plain.") and ".ng.0001.use1.cache.amazonaws.com" in plain, plain
    made = world.elasticache.create_replication_group(
        ReplicationGroupId="clustered",
        ReplicationGroupDescription="d",
        CacheNodeType="cache.t4g.micro",
        NumNodeGroups=2,
        ReplicasPerNodeGroup=1,
        TransitEncryptionEnabled=True,
    )["ReplicationGroup"]
    assert made["ClusterEnabled"] and len(made["MemberClusters"]) == 4
    clustered = available(world, "clustered")
    assert clustered["ConfigurationEndpoint"]["Address"].startswith("clustercfg.clustered."), clustered
    assert "PrimaryEndpoint" not in clustered["NodeGroups"][0]
    refused("InvalidParameterValue", world.elasticache.describe_replication_groups, 400, MaxRecords=5)
    pages = world.elasticache.get_paginator("describe_replication_groups").paginate(PaginationConfig={"PageSize": 20})
    assert len([g for p in pages for g in p["ReplicationGroups"]]) == 4


@check("3.2 delete: deleting, then not found")
def a_deleted_group_is_not_found(world):
    cache = world.elasticache
    for name in ["plain", "shards", "clustered"]:
        available(world, name)
        assert cache.delete_replication_group(ReplicationGroupId=name)["ReplicationGroup"]["Status"] == "deleting"
        refused("InvalidReplicationGroupState", cache.delete_replication_group, 400, ReplicationGroupId=name)

    def gone():
        return [g["ReplicationGroupId"] for g in cache.describe_replication_groups()["ReplicationGroups"]]

    until(gone, lambda left: left == ["sessions"], what="the end of three groups")
    refused("ReplicationGroupNotFoundFault", cache.describe_replication_groups, 404, ReplicationGroupId="plain")


@check("3.4 serverless")
def a_serverless_cache_is_tls_only_and_lower_case(world):
    cache = world.elasticache
    made = cache.create_serverless_cache(
        ServerlessCacheName="Less",
        Engine="valkey",
        SubnetIds=world.subnets,
        SecurityGroupIds=[world.cache_group],
        CacheUsageLimits={"DataStorage": {"Maximum": 5, "Unit": "GB"}},
        Tags=[{"Key": "a", "Value": "b"}],
    )["ServerlessCache"]
    assert made["ServerlessCacheName"] == "less" and made["Status"] == "creating" and "Endpoint" not in made
    refused("ServerlessCacheAlreadyExistsFault", cache.create_serverless_cache, 400, ServerlessCacheName="less", Engine="redis")
    refused("InvalidServerlessCacheStateFault", cache.delete_serverless_cache, 400, ServerlessCacheName="less")
    one = lambda: cache.describe_serverless_caches(ServerlessCacheName="less")["ServerlessCaches"][0]
    ready = until(one, lambda c: c["Status"] == "available", what="the serverless cache")
    endpoint, reader = ready["Endpoint"], ready["ReaderEndpoint"]
    assert endpoint["Port"] == 6379 and reader == {"Address": endpoint["Address"], "Port": 6380}
    assert endpoint["Address"].endswith(".serverless.use1.cache.amazonaws.com")
    assert ready["SubnetIds"] == world.subnets and ready["SecurityGroupIds"] == [world.cache_group]
    assert cache.list_tags_for_resource(ResourceName=ready["ARN"])["TagList"] == [{"Key": "a", "Value": "b"}]
    modify = cache.modify_serverless_cache
    refused("InvalidParameterCombination", modify, 400, ServerlessCacheName="less")
    refused("InvalidParameterCombination", modify, 400, ServerlessCacheName="less", Description="x", DailySnapshotTime="01:00")
    assert modify(ServerlessCacheName="less", Description="x")["ServerlessCache"]["Status"] == "modifying"
    until(one, lambda c: c["Status"] == "available", what="the end of the modification")
    assert cache.delete_serverless_cache(ServerlessCacheName="less")["ServerlessCache"]["Status"] == "deleting"
    all_of_them = lambda: cache.describe_serverless_caches()["ServerlessCaches"]
    until(all_of_them, lambda left: left == [], what="the end of the serverless cache")
    refused("ServerlessCacheNotFoundFault", cache.describe_serverless_caches, 404, ServerlessCacheName="less")
    refused("InvalidParameterValue", cache.create_serverless_cache, 400, ServerlessCacheName="m", Engine="memcached")


@check("3.1 DescribeEvents")
def events_tell_what_happened(world):
    events = world.elasticache.describe_events(SourceIdentifier="sessions", SourceType="replication-group")["Events"]
    assert "Replication group sessions created" in [e["Message"] for e in events], events
    refused("InvalidParameterCombination", world.elasticache.describe_events, 400, SourceIdentifier="sessions")


@check("3.5 delete of a subnet group is synchronous and blocked while used")
def the_last_cache_frees_subnet_group_and_security_group(world):
    cache = world.elasticache
    cache.delete_replication_group(ReplicationGroupId="sessions")
    refused("CacheSubnetGroupInUse", cache.delete_cache_subnet_group, 400, CacheSubnetGroupName="main")
    until(lambda: cache.describe_replication_groups()["ReplicationGroups"], lambda g: g == [], what="the end")
    cache.delete_cache_subnet_group(CacheSubnetGroupName="main")
    assert [g["CacheSubnetGroupName"] for g in cache.describe_cache_subnet_groups()["CacheSubnetGroups"]] == ["default"]
    world.ec2.delete_security_group(GroupId=world.cache_group)
