"""What is in the images: made from their folder alone, with nothing that is not needed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from . import materials
from .conftest import BASE, NAMES, Images
from .podman import Podman

Added: TypeAlias = list[tuple[tarfile.TarInfo, bytes]]

EXPECTED: dict[str, dict[str, Any]] = {
    "autoscaler": {
        "User": "10001:10001",
        "Entrypoint": ["exotide-autoscaler"],
        "ExposedPorts": {"8090/tcp": {}},
        "Volumes": {"/srv/autoscaler": {}},
    },
    "servicediscovery": {
        # The entry point gives up root for the owner of what is mounted: see its tests.
        "User": None,
        "Entrypoint": ["sh", "/opt/exotide/entrypoint.sh"],
        "ExposedPorts": {"9177/tcp": {}},
        "Volumes": None,
    },
    "slowapp": {
        "User": "10001:10001",
        "Entrypoint": ["python", "/opt/exotide/slowapp.py"],
        "ExposedPorts": {"8080/tcp": {}},
        "Volumes": None,
    },
}
MOST_BYTES = {"autoscaler": 12 << 20, "servicediscovery": 7 << 20, "slowapp": 100 << 10}
FOLDERS = {
    "autoscaler": {"opt/exotide", "srv/autoscaler"},
    "servicediscovery": {"opt/exotide", "srv/service-discovery"},
    "slowapp": {"opt/exotide"},
}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def layers(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Added]:
    """Gives what the layers of an image hold that the base has not."""
    folder = tmp_path_factory.mktemp("layers")

    @cache
    def layers(image: str) -> Added:
        archive = folder / "image.tar"
        podman("save", "--quiet", "--format=docker-archive", f"--output={archive}", image)
        below = len(podman.inspect(BASE)["RootFS"]["Layers"])
        with tarfile.open(archive) as whole:
            own = json.loads(read(whole, "manifest.json"))[0]["Layers"][below:]
            found = [pair for layer in own for pair in unpacked(read(whole, layer))]
        archive.unlink()
        return found

    return layers


@pytest.fixture
def added(layers: Callable[[str], Added], images: Images, name: str) -> Added:
    return layers(images[name])


def unpacked(layer: bytes) -> Added:
    with tarfile.open(fileobj=io.BytesIO(layer)) as files:
        return [(member, read(files, member) if member.isreg() else b"") for member in files]


def read(archive: tarfile.TarFile, member: str | tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


def test_an_image_says_who_runs_what_and_how_to_see_whether_it_works(
    podman: Podman, images: Images, name: str
) -> None:
    shown = podman.inspect(images[name])
    config = shown["Config"]
    assert {key: config.get(key) for key in EXPECTED[name]} == EXPECTED[name]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Labels"]["org.opencontainers.image.title"] == f"exotide-{name}"
    assert config["Labels"]["org.opencontainers.image.version"] == version(name)
    check = shown["Healthcheck"]
    assert check["Test"][:3] == ["CMD", "python", "-c"]
    assert check["Timeout"] < check["Interval"]


def version(name: str) -> str:
    own = materials.ROOT / name / "pyproject.toml"
    file = own if own.exists() else materials.ROOT / "pyproject.toml"
    return str(tomllib.loads(file.read_text())["project"]["version"])


def test_an_image_adds_its_program_to_the_base_and_nothing_else(added: Added, name: str) -> None:
    size = sum(member.size for member, _ in added)
    assert 0 < size < MOST_BYTES[name], f"{size:,} bytes"
    touched = {str(parent) for folder in FOLDERS[name] for parent in Path(folder).parents}
    touched.add("run")  # by the builder itself
    strange = [
        member.name
        for member, _ in added
        if not (member.isdir() and member.name in touched)
        and not any(f"{member.name}/".startswith(f"{folder}/") for folder in FOLDERS[name])
    ]
    assert strange == []
    own = [member for member, _ in added if member.name.startswith("opt/")]
    assert {(member.uid, member.gid) for member in own} == {(0, 0)}
    assert [member.name for member in own if member.mode & 0o6022 and not member.issym()] == []


def test_an_image_holds_no_secret_and_nothing_of_the_machine_that_built_it(
    podman: Podman, images: Images, added: Added, name: str
) -> None:
    telling = {str(images.folder), f"{materials.WHEELS}/", *addresses()}
    history = podman("history", "--no-trunc", "--format=json", images[name])
    shown = podman("image", "inspect", images[name]) + history
    assert [text for text in telling if text in shown] == []
    assert "EXOSCALE_" not in shown
    found = [
        (text, member.name)
        for member, content in added
        for text in telling
        if text.encode() in content
    ]
    assert found == []


def addresses() -> Iterator[str]:
    """Yield where this host's pip goes, which may hold a password."""
    shown = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    values = [line.partition("=")[2].strip("'") for line in shown.splitlines()]
    values += [text for key, text in os.environ.items() if key.lower().endswith("_proxy")]
    yield from {text for text in values if "://" in text}


@pytest.mark.parametrize("name", ["autoscaler", "slowapp"])
def test_built_again_elsewhere_it_is_the_same_to_the_last_bit(
    podman: Podman, images: Images, name: str
) -> None:
    first = podman.inspect(images[name])
    again = podman.inspect(images.build(name, mode=0o644))
    assert again["RootFS"] == first["RootFS"]
    assert again["Config"] == first["Config"]
