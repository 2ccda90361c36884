"""
A stand-in for Terraform with the provider: four resources of the root module, made by the SDK.

As the real one does: state of format 4, its lock of the kernel with the file that tells about it,
messages of -json, one signal stops after what is being made and a second one at once, a creation
that is cut off is not in the state, and it says `init` while that is due. `console` evaluates the
one expression that it is asked.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

STATE = Path("terraform.tfstate")
INFO = Path(".terraform.tfstate.lock.info")
VARIABLES = Path("terraform.tfvars.json")
LOCK_FILE = Path(".terraform.lock.hcl")
LOCKED = """provider "registry.terraform.io/exoscale/exoscale" {
  version     = "%s"
  constraints = ">= 0.60.0"
}
"""
NAME = "exotide"
GROUP, POOL, SERVER = (
    "module.pool.exoscale_security_group.members",
    "module.pool.exoscale_instance_pool.members",
    "module.monitoring.exoscale_compute_instance.monitoring",
)
CREATED = "terraform_data.created"
SIZES = "terraform_data.sizes"
ORDER = (CREATED, SIZES, GROUP, POOL, SERVER)
DEFAULTS = {
    "name": NAME,
    "zone": "at-vie-1",
    "template": "Linux Debian 12 (Bookworm) 64-bit",
    "min_size": "1",
    "max_size": "10",
    "agents_key": "",
    "agents_api_endpoint": "",
}
BEGAN = time.monotonic()
VARIABLE = "TF_VAR_exoscale_"
signals: list[int] = []


def say(kind: str, level: str = "info", **more: object) -> None:
    sys.stdout.write(json.dumps({"@level": level, "type": kind, **more}) + "\n")
    sys.stdout.flush()


def hook(kind: str, address: str, action: str, began: float) -> None:
    resource = {"addr": address}
    elapsed = int(time.time() - began)
    say(kind, hook={"resource": resource, "action": action, "elapsed_seconds": elapsed})


def trouble(summary: str, detail: str = "", address: str = "") -> None:
    told = {"severity": "error", "summary": summary, "detail": detail, "address": address}
    say("diagnostic", level="error", diagnostic=told)


def rest() -> None:
    """Wait a little; whom a test has forgotten does not wait for ever."""
    if time.monotonic() - BEGAN > 100:
        os._exit(1)
    time.sleep(0.02)


def wait_for_leave(address: str) -> None:
    """Take as long over one resource as a test wants: until it makes a file, or stops us."""
    waits_at = os.environ.get("FAKE_WAITS_AT")
    while waits_at and waits_at in address and not signals and not Path("go").exists():
        rest()


def interrupted(number: int, _: object) -> None:
    signals.append(number)
    if len(signals) > 1:
        os._exit(1)


class Stack:
    def __init__(self, variables: dict[str, str]) -> None:
        self.variables = variables
        self.file = STATE.open("a+")
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            trouble("Error acquiring the state lock", "resource temporarily unavailable")
            sys.exit(1)
        INFO.write_text(
            json.dumps(
                {
                    "Operation": "OperationTypeApply",
                    "Who": "tester@here",
                    "Created": datetime.now(UTC).isoformat(),
                }
            )
        )
        self.file.seek(0)
        text = self.file.read()  # not opened again: to close that would give up the lock
        self.known: dict[str, dict[str, Any]] = json.loads(text)["fake"] if text else {}
        from exoscale.api.v2 import Client  # noqa: PLC0415 - slow, and only needed here

        self.client = Client(
            os.environ[f"{VARIABLE}key"],
            os.environ[f"{VARIABLE}secret"],
            url=os.environ["EXOSCALE_API_ENDPOINT"],
        )

    def write(self) -> None:
        resources = [
            {
                "mode": "managed",
                "type": address.split(".")[-2],
                "name": address.split(".")[-1],
                "instances": [{"attributes": attributes}],
            }
            for address, attributes in self.known.items()
        ]
        state = {"version": 4, "resources": resources, "fake": self.known}
        self.file.seek(0)
        self.file.truncate()
        self.file.write(json.dumps(state))
        self.file.flush()

    def done(self, answer: dict[str, Any]) -> str:
        """Poll soon and often: tests wait for it."""
        while answer["state"] == "pending":
            time.sleep(0.02)
            answer = self.client.get_operation(id=answer["id"])
        if answer["state"] != "success":
            raise OSError(f"operation failed: {answer.get('message')}")
        return str(answer["reference"]["id"])

    def make(self, address: str) -> dict[str, Any]:
        client, own = self.client, self.variables["name"]
        if address == SIZES:
            sizes = {name: int(self.variables[f"{name}_size"]) for name in ("min", "max")}
            return {"id": "sizes", "output": {"value": sizes, "type": "object"}}
        if address == CREATED:
            value = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            return {"id": "created", "output": {"value": value, "type": "string"}}
        if address == GROUP:
            name = f"{own}-members"
            return {"id": self.done(client.create_security_group(name=name)), "name": name}
        kinds = client.list_instance_types()["instance-types"]
        micro = next(each["id"] for each in kinds if each["size"] == "micro")
        template = client.list_templates()["templates"][0]["id"]
        common = {
            "disk_size": 10,
            "instance_type": {"id": micro},
            "template": {"id": template},
            "security_groups": [{"id": self.known[GROUP]["id"]}],
        }
        attributes: dict[str, Any] = {"disk_size": 10, "zone": self.variables["zone"]}
        if address == POOL:
            answer = client.create_instance_pool(name=own, size=1, **common)
            attributes |= {"name": own, "size": 1, "instance_type": "standard.micro"}
        else:
            answer = client.create_instance(name=f"{own}-monitoring", **common)
            attributes |= {"name": f"{own}-monitoring", "type": "standard.micro"}
        if hang := os.environ.get("FAKE_HANGS_AT"):
            while hang in address:
                rest()  # until it is killed: as if the answer never came
        return attributes | {"id": self.done(answer)}

    def remove(self, address: str) -> None:
        own_id = self.known[address]["id"]
        if address == GROUP:
            self.done(self.client.delete_security_group(id=own_id))
        elif address == POOL:
            self.done(self.client.delete_instance_pool(id=own_id))
        elif address == SERVER:
            self.done(self.client.delete_instance(id=own_id))

    def work(self, address: str, action: str) -> bool:
        began = time.time()
        hook("apply_start", address, action, began)
        wait_for_leave(address)
        try:
            if action == "create":
                self.known[address] = self.make(address)
            else:
                self.remove(address)
                del self.known[address]
        except Exception as error:  # noqa: BLE001 - the SDK's, which is not imported
            hook("apply_errored", address, action, began)
            trouble(f"cannot {action}", str(error), address)
            return False
        finally:
            self.write()
        hook("apply_complete", address, action, began)
        return True

    def all(self, addresses: list[str], action: str, operation: str) -> int:
        count = 0
        if operation == "apply" and SIZES in self.known:
            self.known[SIZES] = self.make(SIZES)
            self.write()
        for address in addresses:
            if signals:
                trouble("execution halted")
                return 1
            if not self.work(address, action):
                return 1
            count += 1
        made, gone = (count, 0) if action == "create" else (0, count)
        changes = {"operation": operation, "add": made, "change": 0, "remove": gone}
        say("change_summary", changes=changes)
        return 0

    def outputs(self) -> None:
        hours = float(self.variables.get("time_to_live_h", "0"))
        created = datetime.fromisoformat(self.known[CREATED]["output"]["value"])
        due = (created + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ") if hours else ""
        values = {"destroy_after": due, "pool_id": self.known[POOL]["id"]}
        outputs: dict[str, Any] = {
            name: {"sensitive": False, "value": each} for name, each in values.items()
        }
        say("outputs", outputs=outputs | {"grafana_password": {"sensitive": True}})


def all_variables(words: list[str]) -> dict[str, str]:
    """As Terraform: defaults, then the environment, then the command line."""
    prefix = "TF_VAR_"
    environment = {
        name.removeprefix(prefix): each
        for name, each in os.environ.items()
        if name.startswith(prefix)
    }
    given = [word.removeprefix("-var=") for word in words if word.startswith("-var=")]
    in_file = json.loads(VARIABLES.read_text()) if VARIABLES.exists() else {}
    return DEFAULTS | environment | in_file | dict(each.split("=", 1) for each in given)


def console(variables: dict[str, str]) -> int:
    if complaint := os.environ.get("FAKE_CONSOLE_SAYS"):
        sys.stderr.write(complaint)
        return 1
    assert sys.stdin.read().startswith("jsonencode({ name = var.name")
    values: dict[str, object] = {name: variables[name] for name in ("name", "zone", "template")}
    values |= {name: int(variables[name]) for name in ("min_size", "max_size")}
    values["makes_keys"] = not variables["agents_key"]
    values["agents_endpoint"] = variables["agents_api_endpoint"]
    sys.stdout.write(json.dumps(json.dumps(values)) + "\n")
    return 0


def main() -> int:
    command, words = sys.argv[1], sys.argv[2:]
    if command == "validate":
        asked = 'This module is not yet installed. Run "terraform init" to install all modules'
        told = {"severity": "error", "summary": "Module not installed", "detail": asked}
        ready = Path(".terraform").is_dir()
        sys.stdout.write(json.dumps({"valid": ready, "diagnostics": [] if ready else [told]}))
        return 0 if ready else 1
    if command == "init":
        if complaint := os.environ.get("FAKE_INIT_SAYS"):
            sys.stderr.write(complaint)
            return 1
        Path(".terraform").mkdir()
        version = os.environ.get("FAKE_PROVIDER", "0.71.2")
        LOCK_FILE.write_text(LOCKED % version)
        return 0
    if command == "console":
        return console(all_variables(words))
    signal.signal(signal.SIGINT, interrupted)
    stack = Stack(all_variables(words))
    if command == "apply":
        status = stack.all([each for each in ORDER if each not in stack.known], "create", "apply")
        if status == 0:
            stack.outputs()
    else:
        known = [each for each in reversed(ORDER) if each in stack.known]
        status = stack.all(known, "delete", "destroy")
    INFO.unlink()
    return status


if __name__ == "__main__":
    sys.exit(main())
