"""CloudWatch Logs."""

import time

from drive import check, refused


def now():
    return int(time.time() * 1000)


@check("6 groups and streams")
def groups_and_streams_exist_once(world):
    logs = world.logs
    refused(
        "ResourceNotFoundException",
        logs.filter_log_events,
        400,
        "The specified log group does not exist.",
        logGroupName="/none",
    )
    logs.create_log_group(logGroupName="/app/web")
    refused("ResourceAlreadyExistsException", logs.create_log_group, 400, logGroupName="/app/web")
    logs.create_log_stream(logGroupName="/app/web", logStreamName="a")
    refused("ResourceAlreadyExistsException", logs.create_log_stream, 400, logGroupName="/app/web", logStreamName="a")
    logs.create_log_stream(logGroupName="/app/web", logStreamName="b")
    (group,) = logs.describe_log_groups(logGroupNamePrefix="/app/")["logGroups"]
    assert group["arn"].endswith(":log-group:/app/web:*") and group["logGroupArn"].endswith(":log-group:/app/web")


@check("6 PutLogEvents")
def events_must_be_in_order(world):
    logs, at = world.logs, now()
    put = lambda stream, *events: logs.put_log_events(
        logGroupName="/app/web",
        logStreamName=stream,
        logEvents=[{"timestamp": t, "message": m} for t, m in events],
    )
    put("a", (at, "ERROR redis timeout"), (at + 1, "INFO fine"), (at + 2, "WARN slow"))
    put("b", (at + 1, "ERROR http 500"))
    backwards = lambda: put("a", (at + 1, "later"), (at, "earlier"))
    refused("InvalidParameterException", backwards, 400, "chronological")
    rejected = put("b", (at - 15 * 24 * 3600 * 1000, "old"))["rejectedLogEventsInfo"]
    assert rejected == {"tooOldLogEventEndIndex": 1}, rejected


@check("6 filter syntax: terms, phrases, ?a ?b, -x")
def patterns_choose_events(world):
    found = lambda pattern, **a: [
        e["message"] for e in world.logs.filter_log_events(logGroupName="/app/web", filterPattern=pattern, **a)["events"]
    ]
    assert found("ERROR") == ["ERROR redis timeout", "ERROR http 500"]
    assert found("ERROR -http") == ["ERROR redis timeout"]
    assert found("?INFO ?WARN") == ["INFO fine", "WARN slow"]
    assert found('"http 500"') == ["ERROR http 500"] and found('"500 http"') == []
    assert found("", logStreamNames=["b"]) == ["ERROR http 500"]
    assert found("", logStreamNamePrefix="a") == ["ERROR redis timeout", "INFO fine", "WARN slow"]
    refused(
        "InvalidParameterException",
        world.logs.filter_log_events,
        400,
        logGroupName="/app/web",
        logStreamNames=["a"],
        logStreamNamePrefix="a",
    )
    refused("ResourceNotFoundException", world.logs.filter_log_events, 400, logGroupName="/app/web", logStreamNames=["z"])


@check("6 an empty page with a nextToken is normal; 13.4")
def a_page_can_be_empty_and_go_on(world):
    logs, at = world.logs, now()
    logs.create_log_stream(logGroupName="/app/web", logStreamName="many")
    logs.put_log_events(
        logGroupName="/app/web",
        logStreamName="many",
        logEvents=[{"timestamp": at, "message": f"line {n}"} for n in range(1500)] + [{"timestamp": at, "message": "NEEDLE"}],
    )
    first = logs.filter_log_events(logGroupName="/app/web", filterPattern="NEEDLE")
    assert first["events"] == [] and first["nextToken"] and first["searchedLogStreams"] == [], first
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName="/app/web", filterPattern="NEEDLE")
    assert [e["message"] for p in pages for e in p["events"]] == ["NEEDLE"]
    start = logs.filter_log_events(logGroupName="/app/web", startTime=at + 10_000)
    assert start["events"] == [] and "nextToken" not in start


@check("6 GetLogEvents ends where the token stays the same")
def a_stream_is_read_to_its_end(world):
    read = lambda **a: world.logs.get_log_events(logGroupName="/app/web", logStreamName="a", startFromHead=True, **a)
    first = read(limit=2)
    assert [e["message"] for e in first["events"]] == ["ERROR redis timeout", "INFO fine"]
    second = read(nextToken=first["nextForwardToken"])
    assert [e["message"] for e in second["events"]] == ["WARN slow"]
    third = read(nextToken=second["nextForwardToken"])
    assert third["events"] == [] and third["nextForwardToken"] == second["nextForwardToken"]


@check("6 DescribeLogStreams")
def streams_are_ordered_by_name_or_time(world):
    streams = world.logs.describe_log_streams
    names = lambda **a: [s["logStreamName"] for s in streams(logGroupName="/app/web", **a)["logStreams"]]
    assert names() == ["a", "b", "many"] and names(descending=True) == ["many", "b", "a"]
    assert names(orderBy="LastEventTime", descending=True)[0] == "many" and names(logStreamNamePrefix="m") == ["many"]
    refused(
        "InvalidParameterException",
        streams,
        400,
        logGroupName="/app/web",
        orderBy="LastEventTime",
        logStreamNamePrefix="a",
    )
    world.logs.delete_log_group(logGroupName="/app/web")
    refused("ResourceNotFoundException", streams, 400, logGroupName="/app/web")
