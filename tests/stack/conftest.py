"""A local cloud without processes, and a stack on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from exotide.cloud.testing import RunningCloud, running_cloud
from exotide.stack import Patience, Stack, StackSettings, Step
from exotide.stack.api import Api, connect
from exotide.stack.create import build
from exotide.stack.destroy import tear_down


class Cut(Exception):  # it stands for a process that is killed
    """The kit ended between two requests."""


@dataclass
class Account:
    """One account on a cloud, with what the tests ask of it."""

    settings: StackSettings
    api: Api
    steps: list[Step] = field(default_factory=list)

    def create(self, **changes: Any) -> Stack:
        return build(self.api, self.changed(**changes), progress=self.steps.append)

    def destroy(self) -> None:
        tear_down(self.api, self.settings, progress=self.steps.append)

    def changed(self, **changes: Any) -> StackSettings:
        names = self.settings.__dataclass_fields__
        return StackSettings(**{name: getattr(self.settings, name) for name in names} | changes)

    def told(self) -> list[str]:
        told, self.steps = [str(step) for step in self.steps], []
        return told

    def cut_after(self, answers: int) -> None:
        """Raise Cut when so many answers have come; the request has been carried out."""
        left = [answers]

        def count(*_: object, **__: object) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Cut

        self.api.client.http_client.hooks["response"] = [count]

    def mend(self) -> None:
        self.api.client.http_client.hooks["response"] = []

    def census(self) -> dict[str, int]:
        """How many of each kind exist, whatever their names."""
        lists = {
            "security-groups": "list_security_groups",
            "instance-pools": "list_instance_pools",
            "load-balancers": "list_load_balancers",
            "instances": "list_instances",
            "iam-roles": "list_iam_roles",
            "api-keys": "list_api_keys",
        }
        return {key: len(self.api.call(name)[key]) for key, name in lists.items()}


@pytest.fixture
def cloud() -> Iterator[RunningCloud]:
    with running_cloud() as cloud:
        yield cloud


@pytest.fixture
def settings(cloud: RunningCloud) -> StackSettings:
    access = cloud.access
    return StackSettings(key=access.key, secret=access.secret, endpoint=cloud.url, zone=access.zone)


@pytest.fixture
def account(settings: StackSettings) -> Iterator[Account]:
    with connect(settings, Patience(first_s=0.002, longest_s=0.05, limit_s=20)) as api:
        yield Account(settings=settings, api=api)
