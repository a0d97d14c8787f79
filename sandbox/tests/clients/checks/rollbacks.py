"""App Runner when a deployment does not go well."""

from drive import check, refused, until
from checks.faults import admin
from checks.services import QUICK, ask, create, described, events, operations, outcome, remove, settled, source


def new(world, name):
    config = source(variables={"VERSION": "1"})
    made = create(world, name, SourceConfiguration=config)
    return settled(world, made["Service"]["ServiceArn"])


def version(service):
    return service["SourceConfiguration"]["ImageRepository"]["ImageConfiguration"]["RuntimeEnvironmentVariables"]["VERSION"]


def update(world, arn, image="web", value="2"):
    return world.apprunner.update_service(
        ServiceArn=arn, SourceConfiguration=source(image, variables={"VERSION": value})
    )["OperationId"]


@check("1.7 rollback trap: RUNNING again with the old settings; 1.12 strings; A2")
def a_failing_update_quietly_returns_to_the_old_configuration(world):
    service = new(world, "unlucky")
    arn = service["ServiceArn"]
    for image, line in [
        ("broken", "Your application stopped or failed to start. See logs for more information. Container exit code: 3"),
        ("deaf", "Health check failed on protocol `TCP` [Port: '8080']. Check your configured port number."),
        ("none-such", "Failed to pull your application image."),
    ]:
        operation = update(world, arn, image)
        seen = set()

        def look():
            (found,) = [o for o in operations(world, arn) if o["Id"] == operation]
            seen.add(found["Status"])
            # The old version serves all the time.
            assert ask(service)["version"] == "1"
            return found["Status"]

        assert until(look, lambda s: s in ("SUCCEEDED", "FAILED", "ROLLBACK_SUCCEEDED")) == "ROLLBACK_SUCCEEDED", image
        assert "ROLLBACK_IN_PROGRESS" in seen, seen
        after = described(world, arn)
        assert after["Status"] == "RUNNING" and version(after) == "1", "nothing but the operation tells"
        assert any(line in said for said in events(world, service)), (line, events(world, service)[-6:])
    said = events(world, service)
    short = operation.replace("-", "")
    assert any(f"Deployment with ID : {short} failed. Failure reason :" in line for line in said), said[-6:]
    assert "[AppRunner] Service update failed. For details, see service logs." in said
    remove(world, arn)


@check("1.7 CREATE_FAILED: update rebuilds, or delete; 1.10 failed ones count")
def a_failed_create_can_be_rebuilt_or_deleted(world):
    made = create(world, "stillborn", SourceConfiguration=source("broken"))
    arn = made["Service"]["ServiceArn"]
    assert outcome(world, arn, made["OperationId"]) == "FAILED" and described(world, arn)["Status"] == "CREATE_FAILED"
    refused("InvalidRequestException", world.apprunner.start_deployment, 400, ServiceArn=arn)
    refused("InvalidStateException", world.apprunner.pause_service, 400, ServiceArn=arn)
    assert outcome(world, arn, update(world, arn)) == "SUCCEEDED" and described(world, arn)["Status"] == "RUNNING"
    assert ask(described(world, arn))["version"] == "2"
    remove(world, arn)


@check("13.1(3) injected: rollback, rollback after the shift, FAILED")
def faults_of_deployments_strike_the_next_one(world):
    service = new(world, "struck")
    arn = service["ServiceArn"]
    for kind, ends in [("rollback", "ROLLBACK_SUCCEEDED"), ("rollback-after-shift", "ROLLBACK_SUCCEEDED"), ("fail", "FAILED")]:
        admin("POST", "fault", {"deployment": kind, "name": "struck", "count": 1})
        operation, seen = update(world, arn), set()

        def look():
            seen.add(ask(service)["version"])
            return described(world, arn)["Status"]

        until(look, lambda s: s != "OPERATION_IN_PROGRESS")
        assert outcome(world, arn, operation) == ends, kind
        assert version(described(world, arn)) == "1" and described(world, arn)["Status"] == "RUNNING"
        assert seen == ({"1", "2"} if kind == "rollback-after-shift" else {"1"}), (kind, seen)
        until(lambda: ask(service)["version"], lambda v: v == "1")
    assert outcome(world, arn, update(world, arn)) == "SUCCEEDED", "the faults are used up"
    remove(world, arn)


@check("1.7 the operation may not be listed at once; 13.1(9)")
def an_operation_can_be_listed_late(world):
    service = new(world, "hidden")
    arn = service["ServiceArn"]
    admin("POST", "fault", {"deployment": "hide-operation", "name": "hidden", "count": 1, "seconds": 60})
    operation = update(world, arn)
    assert operation not in [o["Id"] for o in operations(world, arn)]
    until(lambda: [o["Id"] for o in operations(world, arn)], lambda ids: operation in ids)
    settled(world, arn)
    remove(world, arn)


@check("1.7 stuck OPERATION_IN_PROGRESS; A3")
def an_operation_can_be_stuck_until_the_vendor_clears_it(world):
    service = new(world, "stuck")
    arn = service["ServiceArn"]
    admin("POST", "fault", {"deployment": "stuck", "name": "stuck", "count": 1})
    operation = update(world, arn)
    until(lambda: operations(world, arn)[0]["Status"], lambda s: s == "IN_PROGRESS")
    refused("InvalidStateException", world.apprunner.delete_service, 400, ServiceArn=arn)
    admin("POST", "release", {"service": "stuck"})
    assert outcome(world, arn, operation) == "FAILED" and version(described(world, arn)) == "1"
    remove(world, arn)


@check("1.7 maintenance flips a service to OPERATION_IN_PROGRESS; A1")
def maintenance_makes_a_service_busy_without_an_operation(world):
    service = new(world, "maintained")
    arn = service["ServiceArn"]
    admin("POST", "maintenance", {"service": "maintained", "seconds": 60})
    assert described(world, arn)["Status"] == "OPERATION_IN_PROGRESS"
    assert [o["Type"] for o in operations(world, arn)] == ["CREATE_SERVICE"]
    refused("InvalidStateException", update, 400, world=world, arn=arn)
    assert settled(world, arn)["Status"] == "RUNNING"
    remove(world, arn)


@check("1.4 AutoDeploymentsEnabled: a pushed image deploys by itself")
def a_pushed_image_deploys_where_automatic_deployments_are_on(world):
    config = {**source(variables={"VERSION": "1"}), "AutoDeploymentsEnabled": True}
    arn = create(world, "automatic", SourceConfiguration=config, HealthCheckConfiguration=QUICK)["Service"]["ServiceArn"]
    other = new(world, "by-hand")["ServiceArn"]
    settled(world, arn)
    started = admin("POST", "push", {"image": config["ImageRepository"]["ImageIdentifier"]})
    assert [s.split("/")[1] for s in started["deployments"]] == ["automatic"], started
    assert described(world, arn)["Status"] == "OPERATION_IN_PROGRESS"
    assert described(world, arn)["SourceConfiguration"]["AutoDeploymentsEnabled"]
    settled(world, arn)
    assert operations(world, arn)[0]["Type"] == "START_DEPLOYMENT" and operations(world, arn)[0]["Status"] == "SUCCEEDED"
    remove(world, arn)
    remove(world, other)
