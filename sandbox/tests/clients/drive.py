"""Drives the operations the sandbox offers with the vendors' own client (botocore) and asserts what the product
branches on. Runs inside `sandbox exec`:  drive.py [--every-operation] [ROOM...]
Exits 0 only when every check passed and, where that is asked for, no operation was left out.

Each check names the section of the reference (cloud-apis) whose statement it shows.
"""

import importlib
import json
import pathlib
import sys
import time
import traceback

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

SERVICES = ["apprunner", "ec2", "elasticache", "iam", "secretsmanager", "logs", "sts"]
ROOMS = ["wire", "identity", "secrets", "network", "caches", "logs", "services", "rollbacks", "databases", "faults"]
MODELS = pathlib.Path(__file__).resolve().parents[2] / "models"


class World:
    """Clients of one account, and which operations they used."""

    def __init__(self):
        self.seen = set()
        self.session = botocore.session.get_session()
        for service in SERVICES:
            setattr(self, service, self.client(service))

    def client(self, service, **config):
        """A client without retries, so that a check sees every answer."""
        config = {"retries": {"total_max_attempts": 1}, "read_timeout": 60, **config}
        client = self.session.create_client(service, region_name="us-east-1", config=Config(**config))
        note = lambda model, **_: self.seen.add((service, model.name))
        client.meta.events.register(f"before-call.{service}", note)
        return client

    def left_out(self):
        """Operations that are offered and were not driven."""
        offered = set()
        for service in SERVICES:
            model = json.loads((MODELS / f"{service}.json").read_text())
            offered |= {(service, name) for name in model["operations"]}
        return sorted(offered - self.seen)


def refused(code, call, /, status=None, saying="", **arguments):
    """The error a call is answered with: its code, HTTP status and a part of its text are asserted."""
    try:
        answer = call(**arguments)
    except ClientError as error:
        said = error.response["Error"]
        assert said["Code"] == code, f"{said['Code']} ({said['Message']}) instead of {code}"
        assert saying in said["Message"], f"{saying!r} is not in {said['Message']!r}"
        got = error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert status is None or got == status, f"HTTP {got} instead of {status}"
        return error.response
    raise AssertionError(f"{code} was expected, the answer is {answer}")


def until(look, wanted=bool, seconds=60, what="the condition"):
    """Polls `look` until `wanted` holds of it."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if wanted(found):
            return found
        assert time.monotonic() < end, f"{what} did not come: {found}"
        time.sleep(0.05)


def check(section):
    """Marks a check with the section of the reference it shows."""

    def mark(function):
        function.section = section
        return function

    return mark


def main(only, every_operation):
    sys.modules["drive"] = sys.modules["__main__"]
    world = World()
    failed = passed = 0
    for room in ROOMS:
        if only and room not in only:
            continue
        module = importlib.import_module(f"checks.{room}")
        for name, function in list(vars(module).items()):
            if not hasattr(function, "section") or function.__module__ != module.__name__:
                continue
            started = time.monotonic()
            try:
                function(world)
                passed += 1
                print(f"ok   {room}.{name} [{function.section}] {time.monotonic() - started:.2f} s", flush=True)
            except Exception:
                failed += 1
                print(f"FAIL {room}.{name} [{function.section}]\n{traceback.format_exc()}", flush=True)
    left_out = world.left_out() if every_operation else []
    for service, name in left_out:
        print(f"FAIL {service}.{name} was not driven")
    print(f"{passed} passed, {failed} failed, {len(world.seen)} operations driven")
    return 1 if failed or left_out else 0


if __name__ == "__main__":
    rooms = set(sys.argv[1:]) - {"--every-operation"}
    sys.exit(main(rooms, "--every-operation" in sys.argv))
