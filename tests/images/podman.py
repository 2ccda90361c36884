"""
Podman in namespaces of its own: what it builds, runs and keeps is gone when they are.

Its files lie in memory; its mounts and processes, whatever becomes of the tests, end with the
process that holds the namespaces, which ends with ours. The network is that of a Cell: containers
see its loopback device and nothing else, and so do builds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from exotide.cloud.servers.programs import SYSTEM_PATH
from exotide.realtools.cell import Cell

NEEDED: Final = {"podman": "podman", "crun": "crun", "catatonit": "catatonit"}
"""Programs and their Debian packages. The last one is what `--init` starts."""
UNSHARE: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
HOLD: Final = """
set -e
mount -t tmpfs -o mode=0755 exotide-images "$1"
mount -t tmpfs -o mode=1777 exotide-images /dev/shm
mkdir -p /var/lib/containers
mount -t tmpfs -o mode=0755 exotide-images /var/lib/containers
# crun refuses hosts with both versions of control groups, although it is told to use none.
umount -l /sys/fs/cgroup/unified 2> /dev/null || true
echo ready
exec cat
"""
OPTIONS: Final = (
    *("--storage-driver=overlay", "--cgroup-manager=cgroupfs", "--events-backend=none"),
    "--runtime=crun",
)
RUN: Final = (
    # No control groups, so that their version and their owner do not matter; limits that may be
    # set without the right to raise them.
    *("--cgroups=disabled", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"),
    *("--network=host", "--log-driver=k8s-file", "--pull=never"),
)
EPOCH: Final = "1700000000"
"""When all that is built was made: else each build would differ by its time."""
BUILD: Final = (
    *("--isolation=chroot", "--format=docker", "--pull=never", "--no-cache"),
    f"--timestamp={EPOCH}",
)


class NotPossible(Exception):
    """Images cannot be built or run here; says why and what to do."""


class Podman:
    """Everything by one engine, alive inside `with`. Needs root."""

    def __init__(self, cell: Cell) -> None:
        missing = [name for name in NEEDED if not shutil.which(name, path=SYSTEM_PATH)]
        if missing:
            packages = " ".join(NEEDED[name] for name in missing)
            raise NotPossible(f"no {', '.join(missing)}; run as root: apt-get install {packages}")
        self._cell = cell
        self._folder = Path(tempfile.mkdtemp(prefix="exi-"))
        self._holder = subprocess.Popen(
            [*UNSHARE, "sh", "-c", HOLD, "hold", str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            raise NotPossible(f"no namespaces for podman: {self._end()}")
        try:
            self("info")
        except AssertionError as error:
            self._end()
            raise NotPossible(str(error)) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def __call__(self, *words: str) -> str:
        """Run a command of podman and give what it prints; it has to succeed."""
        done = self.attempt(*words)
        assert done.returncode == 0, f"podman {words[0]}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def attempt(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of podman that may fail."""
        folder, of = self._folder, f"/proc/{self._holder.pid}/ns"
        enter = ("nsenter", f"--mount={of}/mnt", f"--pid={of}/pid_for_children", "--")
        options = (
            *(*OPTIONS, f"--root={folder}/root", f"--runroot={folder}/run"),
            *(f"--tmpdir={folder}/tmp", f"--runtime-flag=root={folder}/crun"),
        )
        return subprocess.run(
            self._cell.command(*enter, "podman", *options, *words),
            env={
                "PATH": SYSTEM_PATH,
                "HOME": str(folder),
                "TMPDIR": str(folder),
                # Health checks are made when a test asks, and not by timers of systemd.
                "DISABLE_HC_SYSTEMD": "true",
            },
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )

    def import_base(self, archive: Path, image: str) -> None:
        """Make an image of a tar of files; it has the PATH that official images have."""
        self("import", "--quiet", f"--change=ENV PATH={SYSTEM_PATH}", str(archive), image)

    def build(self, context: Path, image: str, *, base: str, wheels: Path, at: str) -> str:
        """Build a folder and give the image's id. Nothing can be downloaded meanwhile."""
        self(
            *("build", *BUILD, f"--build-arg=BASE={base}", f"--volume={wheels}:{at}:ro"),
            *("--tag", image, str(context)),
        )
        return self("image", "inspect", "--format={{.Id}}", image)

    def inspect(self, image: str) -> Any:
        """What docker would show of an image."""
        return json.loads(self("image", "inspect", image))[0]

    @contextmanager
    def container(
        self, image: str, *options: str, env: dict[str, str] | None = None
    ) -> Iterator[Container]:
        """Run an image until the end of the block, or until the test stops it."""
        name = f"exotide-{uuid.uuid4().hex[:8]}"
        # By file, since arguments can be read by every user of this machine.
        with tempfile.NamedTemporaryFile("w", suffix=".env") as file:
            file.writelines(f"{key}={value}\n" for key, value in (env or {}).items())
            file.flush()
            self("run", "--detach", f"--name={name}", *RUN, f"--env-file={file.name}",
                 *options, image)  # fmt: skip
        try:
            yield Container(self, name)
        finally:
            self("rm", "--force", "--volumes", "--time=0", name)

    def _end(self) -> str:
        """End everything and give what the holder had to say."""
        _, words = self._holder.communicate()
        self._folder.rmdir()
        return words.decode(errors="replace").strip() or "unshare failed"


@dataclass(frozen=True, slots=True)
class Container:
    """A container that was started."""

    podman: Podman
    name: str

    def is_healthy(self) -> bool:
        """Run the image's own health check in the container."""
        done = self.podman.attempt("healthcheck", "run", self.name)
        assert "no defined healthcheck" not in done.stderr, done.stderr
        return done.returncode == 0

    def await_health(self, within_s: float = 20.0) -> None:
        """Ask five times a second: containers start in real time."""
        ends_at = time.monotonic() + within_s
        while not self.is_healthy():
            assert self.is_running(), self.logs()
            assert time.monotonic() < ends_at, self.logs()
            time.sleep(0.2)

    def is_running(self) -> bool:
        return self._state("Running") == "true"

    def signal(self, name: str) -> None:
        """Send a signal to the first process."""
        self.podman("kill", f"--signal={name}", self.name)

    def stop(self, grace_s: int = 30) -> tuple[int, float]:
        """As `docker stop`: the exit code, 137 if it had to be killed, and the seconds it took."""
        began = time.monotonic()
        self.podman("stop", f"--time={grace_s}", self.name)
        took_s = time.monotonic() - began
        return int(self._state("ExitCode")), took_s

    def output(self, *command: str) -> str:
        """Run a command in the container, as `docker exec`."""
        return self.podman("exec", self.name, *command)

    def logs(self) -> str:
        done = self.podman.attempt("logs", self.name)
        return done.stdout + done.stderr

    def program(self, name: str) -> dict[str, str]:
        """What /proc says of the only process whose command line holds a name."""
        text = self.output("sh", "-c", PROCESSES)
        found = [block for block in text.split("\n\n") if name in block.splitlines()[0]]
        assert len(found) == 1, text
        lines = [line.partition(":") for line in found[0].splitlines()[1:]]
        return {key: value.strip() for key, _, value in lines}

    def _state(self, name: str) -> str:
        return self.podman("inspect", f"--format={{{{.State.{name}}}}}", self.name)


PROCESSES: Final = """
for folder in /proc/[0-9]*; do
  [ "${folder#/proc/}" = $$ ] && continue
  tr '\\0' ' ' < $folder/cmdline; echo; cat $folder/status; echo
done
"""


def regular_files(source: Path, target: Path, *, mode: int) -> Path:
    """
    Copy a folder as the contract's checker packs it: links are left out.

    Args:
        mode: Of the files; 0o600 is what a checkout has whose owner's umask is strict.
    """
    for folder, _, names in os.walk(source):
        copied = target / Path(folder).relative_to(source)
        copied.mkdir(mode=mode | (mode & 0o444) >> 2)
        for name in names:
            path = Path(folder) / name
            if path.is_file() and not path.is_symlink():
                shutil.copyfile(path, copied / name)
                (copied / name).chmod(mode)
    return target
