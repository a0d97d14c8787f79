"""Faults on request: what each does to a vendor's client, and that the request log tells."""

import json
import os
import urllib.request

from botocore.exceptions import ConnectionClosedError, HTTPClientError, ReadTimeoutError

from drive import check, refused


def admin(method, route, body=None):
    request = urllib.request.Request(
        f"{os.environ['AWS_ENDPOINT_URL']}/_sandbox/{route}", method=method, data=json.dumps(body).encode()
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def strike(kind, service, operation=None, count=1, **more):
    fault = {"call": kind, "service": service, "count": count, **more}
    if operation:
        fault["operation"] = operation
    return admin("POST", "fault", fault)["id"]


@check("0.2 throttling codes; 0.3 classes")
def throttling_is_the_services_own_error(world):
    for service, call, code, status in [
        ("apprunner", world.apprunner.list_services, "ThrottlingException", 400),
        ("secretsmanager", world.secretsmanager.list_secrets, "ThrottlingException", 400),
        ("elasticache", world.elasticache.describe_replication_groups, "Throttling", 400),
        ("ec2", world.ec2.describe_vpcs, "RequestLimitExceeded", 503),
    ]:
        strike("throttle", service)
        refused(code, call, status)
        call()


@check("1.3 500; 2.3 UnauthorizedOperation 403; 0.3 permission and credentials classes")
def failures_and_denials_are_the_services_own_error(world):
    for kind, service, call, code, status in [
        ("500", "apprunner", world.apprunner.list_services, "InternalServiceErrorException", 500),
        ("500", "secretsmanager", world.secretsmanager.list_secrets, "InternalServiceError", 500),
        ("500", "ec2", world.ec2.describe_vpcs, "InternalError", 500),
        ("500", "elasticache", world.elasticache.describe_events, "InternalFailure", 500),
        ("denied", "apprunner", world.apprunner.list_services, "AccessDeniedException", 400),
        ("denied", "ec2", world.ec2.describe_vpcs, "UnauthorizedOperation", 403),
        ("denied", "iam", world.iam.list_roles, "AccessDenied", 403),
        ("expired-credentials", "sts", world.sts.get_caller_identity, "ExpiredToken", 403),
        ("expired-credentials", "apprunner", world.apprunner.list_services, "ExpiredTokenException", 403),
        ("not-subscribed", "apprunner", world.apprunner.list_services, "SubscriptionRequiredException", 400),
    ]:
        strike(kind, service)
        refused(code, call, status)
        call()


@check("0.2 what a client sees of a lost request and a lost reply")
def a_lost_reply_was_executed_and_a_lost_request_was_not(world):
    sm = world.secretsmanager
    for kind, there in [("lost", False), ("lost-reply", True)]:
        strike(kind, "secretsmanager", "CreateSecret")
        try:
            sm.create_secret(Name=f"fault/{kind}", SecretString="v")
        except (ConnectionClosedError, HTTPClientError):
            pass
        else:
            raise AssertionError(f"{kind}: there was an answer")
        names = [s["Name"] for s in sm.list_secrets()["SecretList"]]
        assert (f"fault/{kind}" in names) == there, (kind, names)


@check("0.2 no time-out by default: a hanging call needs the client's own")
def a_hanging_call_is_ended_by_the_client(world):
    strike("hang", "apprunner")
    try:
        world.client("apprunner", read_timeout=1).list_services()
    except ReadTimeoutError:
        pass
    else:
        raise AssertionError("the call was answered")


@check("1.7, 2.3, 4 eventual consistency")
def a_stale_read_does_not_see_the_latest_change(world):
    sm = world.secretsmanager
    sm.create_secret(Name="fault/new", SecretString="v")
    strike("stale", "secretsmanager")
    refused("ResourceNotFoundException", sm.describe_secret, 400, SecretId="fault/new")
    sm.describe_secret(SecretId="fault/new")


@check("13.1(9) every n-th call; list and removal")
def every_third_call_fails_until_the_fault_is_removed(world):
    fault = admin("POST", "fault", {"call": "throttle", "service": "sts", "every": 3})["id"]
    outcomes = []
    for _ in range(6):
        try:
            world.sts.get_caller_identity()
            outcomes.append("ok")
        except world.sts.exceptions.ClientError:
            outcomes.append("no")
    assert outcomes == ["ok", "ok", "no"] * 2, outcomes
    assert [f["id"] for f in admin("GET", "fault")] == [fault]
    assert admin("DELETE", "fault", {"id": fault}) == {"removed": True}
    assert admin("GET", "fault") == []


@check("the request log")
def the_log_tells_every_call(world):
    world.secretsmanager.create_secret(Name="fault/logged", SecretString="a-value-nobody-may-see")
    strike("lost-reply", "secretsmanager", "TagResource")
    try:
        world.secretsmanager.tag_resource(SecretId="fault/logged", Tags=[{"Key": "a", "Value": "b"}])
    except HTTPClientError:
        pass
    log = admin("GET", "log")
    made, tagged = [c for c in log if c["resource"] == "fault/logged"]
    assert (made["operation"], made["outcome"], made["mutating"]) == ("CreateSecret", "ok", True), made
    assert (tagged["operation"], tagged["outcome"]) == ("TagResource", "lost-reply"), tagged
    assert not any(c["mutating"] for c in log if c["operation"].startswith(("Describe", "List", "Get")))
    assert "a-value-nobody-may-see" not in json.dumps(log)


@check("calls without a vendor's protocol take the same path")
def a_call_by_name_is_the_same_call(world):
    answer = admin("POST", "call", {"service": "sts", "operation": "GetCallerIdentity"})
    assert answer["Account"] == world.sts.get_caller_identity()["Account"]
    assert admin("GET", "clock")["speed"] > 1
