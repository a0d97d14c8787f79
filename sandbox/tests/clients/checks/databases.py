"""Upstash's management API, over its public host, and the database behind it."""

import base64
import json
import os
import pathlib
import socket
import ssl
import urllib.error
import urllib.request

from drive import check, until
from checks.faults import admin

API = os.environ.get("UPSTASH_API_URL", "https://api.upstash.com").rstrip("/").removesuffix("/v2") + "/v2"
GROUND = json.loads((pathlib.Path(os.environ["SANDBOX_DIR"]) / "sandbox.json").read_text())
LOGIN = f"{GROUND['upstash_email']}:{GROUND['upstash_api_key']}"


def call(method, path, body=None, login=LOGIN):
    request = urllib.request.Request(API + path, method=method, data=None if body is None else json.dumps(body).encode())
    request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def good(method, path, body=None):
    status, answer = call(method, path, body)
    assert status == 200, (status, answer)
    return answer


def redis(host, port, *commands):
    """Inline commands over TLS with the host's name checked; the raw answers."""
    with socket.create_connection((host, port), timeout=10) as plain:
        with ssl.create_default_context().wrap_socket(plain, server_hostname=host) as tls:
            answers = []
            for command in commands:
                tls.sendall(command.encode() + b"\r\n")
                answers.append(tls.recv(4096).decode())
            return answers


SCHEMAS = json.loads((pathlib.Path(__file__).resolve().parents[3] / "models" / "upstash.json").read_text())
TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict}


def conforms(schema, value, path):
    """Holds a value against the vendor's published description; every member that is described must be there."""
    kind = schema.get("type", "object")
    assert isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool)), (path, value)
    assert "enum" not in schema or value in schema["enum"], (path, value)
    for name, member in schema.get("properties", {}).items():
        if member:
            assert name in value, f"{path}.{name} is missing"
            conforms(member, value[name], f"{path}.{name}")
    for n, item in enumerate(value if kind == "array" else []):
        conforms(schema.get("items", {}), item, f"{path}.{n}")


NEW = {"database_name": "sessions", "platform": "aws", "primary_region": "us-east-1", "plan": "payg"}


@check("11.1 Basic authentication; 11.6 statuses")
def a_wrong_key_is_401(_):
    status, body = call("GET", "/redis/databases", login="nobody@example.com:nothing")
    assert status == 401 and (body["error"] or body["message"])
    assert call("GET", "/redis/nonsense/there")[0] == 404
    assert call("POST", "/redis/databases")[0] == 405


@check("11.2, 11.3, 11.4 create: at once, with credentials; conforms to the description")
def a_database_is_created_with_credentials_and_answers(world):
    made = good("POST", "/redis/database", NEW)
    world.database = made
    conforms(SCHEMAS["Database"], made, "Database")
    # Not in the description, and used by every client.
    assert all(made[member] for member in ["password", "rest_token", "read_only_rest_token", "user_email"])
    assert made["endpoint"].endswith(".upstash.io") and made["port"] == 6379 and made["state"] == "active"
    said = redis(made["endpoint"], made["port"], f"AUTH {made['password']}", "PING")
    assert said == ["+OK\r\n", "+PONG\r\n"], said


@check("11.3 the older dialect; refusals")
def both_dialects_create_and_nonsense_is_400(_):
    old = good("POST", "/redis/database", {"name": "old-style", "region": "global", "primary_region": "eu-west-1"})
    assert old["primary_region"] == "eu-west-1" and old["database_name"] == "old-style"
    assert good("DELETE", f"/redis/database/{old['database_id']}") == "OK"
    for wrong in [
        {**NEW, "database_name": ""}, {**NEW, "primary_region": "mars-1"}, {**NEW, "plan": "huge"},
        {**NEW, "read_regions": ["us-east-1"]}, {**NEW, "plan": "free", "read_regions": ["eu-west-1"]},
        {"name": "x", "region": "us-east-1"},
    ]:
        assert call("POST", "/redis/database", wrong)[0] == 400, wrong


@check("11.2 get with credentials=hide; list")
def credentials_can_be_hidden(world):
    path = f"/redis/database/{world.database['database_id']}"
    assert good("GET", path)["password"] == world.database["password"]
    hidden = good("GET", path + "?credentials=hide")
    assert not {"password", "rest_token", "read_only_rest_token"} & set(hidden)
    (listed,) = good("GET", "/redis/databases")
    conforms(SCHEMAS["Database"], listed, "Database")
    assert listed["database_id"] == world.database["database_id"] and "password" not in listed


@check("11.5 reset-password: everything at once, no overlap")
def a_reset_ends_the_old_password_at_once(world):
    old, host = world.database, world.database["endpoint"]
    new = good("POST", f"/redis/reset-password/{old['database_id']}")
    assert new["password"] != old["password"] and new["rest_token"] != old["rest_token"]
    assert redis(host, 6379, f"AUTH {old['password']}")[0].startswith("-WRONGPASS")
    assert redis(host, 6379, f"AUTH {new['password']}")[0] == "+OK\r\n"
    world.database = new


@check('11.2 mutations that answer "OK"; 11.5 already enabled is a 400')
def switches_answer_ok_once(world):
    name = world.database["database_id"]
    for switch in ["eviction", "autoupgrade"]:
        assert good("POST", f"/redis/enable-{switch}/{name}") == "OK"
        status, body = call("POST", f"/redis/enable-{switch}/{name}")
        assert status == 400 and "already enabled" in body["error"], body
        assert good("POST", f"/redis/disable-{switch}/{name}") == "OK"
    assert good("POST", f"/redis/rename/{name}", {"name": "renamed"})["database_name"] == "renamed"
    assert good("PATCH", f"/redis/update-budget/{name}", {"budget": 50}) == "OK"
    assert good("POST", f"/redis/enable-tls/{name}")["tls"]
    assert good("GET", f"/redis/database/{name}")["budget"] == 50


@check("11.2 change-plan is {id}/change-plan; 11.5 modifying_state")
def plan_and_regions_change_in_a_while(world):
    name = world.database["database_id"]
    one = lambda: good("GET", f"/redis/database/{name}")
    assert good("POST", f"/redis/{name}/change-plan", {"plan_name": "fixed_250mb"}) == "OK"
    assert one()["modifying_state"] != ""
    until(one, lambda d: d["modifying_state"] == "", what="the plan")
    assert call("POST", f"/redis/{name}/change-plan", {"plan_name": "fixed_250mb"})[0] == 400
    assert good("POST", f"/redis/update-regions/{name}", {"read_regions": ["eu-west-1"]}) == "OK"
    after = until(one, lambda d: d["modifying_state"] == "", what="the regions")
    assert after["read_regions"] == ["eu-west-1"] and after["all_members"] == ["us-east-1", "eu-west-1"]
    assert call("POST", f"/redis/update-regions/{name}", {"read_regions": ["us-east-1"]})[0] == 400


@check("11.5 stats")
def stats_count_real_commands(world):
    name, host = world.database["database_id"], world.database["endpoint"]
    before = good("GET", f"/redis/stats/{name}")["total_monthly_requests"]
    redis(host, 6379, f"AUTH {world.database['password']}", "SET a 1", "GET a")
    after = good("GET", f"/redis/stats/{name}?period=1h")
    conforms(SCHEMAS["DatabaseStats"], after, "DatabaseStats")
    assert after["total_monthly_requests"] >= before + 2 and after["keyspace"][0]["x"].endswith("+0000 UTC"), after
    assert call("GET", f"/redis/stats/{name}?period=9y")[0] == 400


@check("11.5 delete is immediate; 404 afterwards")
def a_deleted_database_is_404(world):
    path = f"/redis/database/{world.database['database_id']}"
    assert good("DELETE", path) == "OK"
    assert call("GET", path)[0] == 404 and call("DELETE", path)[0] == 404
    assert good("GET", "/redis/databases") == []


@check("11.2 every operation offered")
def every_operation_was_called(_):
    called = {c["operation"] for c in admin("GET", "log") if c["service"] == "upstash" and c["outcome"] == "ok"}
    assert called == {
        "ListDatabases", "CreateDatabase", "GetDatabase", "DeleteDatabase", "RenameDatabase", "ResetPassword",
        "EnableTls", "EnableEviction", "DisableEviction", "EnableAutoUpgrade", "DisableAutoUpgrade", "ChangePlan",
        "UpdateBudget", "UpdateRegions", "GetStats",
    }, called
