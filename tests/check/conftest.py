"""A local cloud without processes, and the environment in which a customer uses it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exotide.check.account import ExoscaleAccount
from exotide.cloud.testing import RunningCloud, running_cloud
from exotide.stack import Patience, StackSettings
from exotide.stack.api import Api, connect

EXOTIDE = str(Path(sys.executable).parent / "exotide")


@pytest.fixture
def cloud() -> Iterator[RunningCloud]:
    with running_cloud() as cloud:
        yield cloud


@pytest.fixture
def environment(cloud: RunningCloud) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], **cloud.environment}


@pytest.fixture
def settings(cloud: RunningCloud) -> StackSettings:
    access = cloud.access
    return StackSettings(key=access.key, secret=access.secret, endpoint=cloud.url, zone=access.zone)


@pytest.fixture
def api(settings: StackSettings) -> Iterator[Api]:
    with connect(settings, Patience(first_s=0.002, longest_s=0.05, limit_s=20)) as api:
        yield api


@pytest.fixture
def account(api: Api) -> ExoscaleAccount:
    return ExoscaleAccount(api=api)
