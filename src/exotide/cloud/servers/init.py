"""
PID 1 of an emulated server: starts the programs, restarts those that die, ends them on TERM.

Without a PID namespace it is only the oldest process (`is_pid_1` is false): then it adopts its
descendants' orphans as PID 1 would, and kills at its end what the kernel would kill.

Standard library only, and little of it: each server has one. It is run as a script:

    python -I -S init.py CONFIG.json

The configuration holds `programs` (name, argv, env, env_file, log, exporter), `stat` (the file
whose age tells whether the synthesised procfs is alive) and three times in seconds. Events go
to stdout, one JSON object per line. Commands come from stdin: `stop SECONDS`; the end of stdin
means that the cloud is gone, and stops the server too. With `orders`, the path of a FIFO, commands
come from there, and the server outlives its cloud.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time

POLL_S = 0.25
SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2)."""
BURY_WITHIN_S = 5.0
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


class Program:
    """One program that shall run as long as the server does."""

    def __init__(self, config: dict[str, object]) -> None:
        self.name = str(config["name"])
        self.argv = [str(word) for word in as_list(config["argv"])]
        self.env = {key: str(value) for key, value in as_dict(config.get("env")).items()}
        self.env_file = config.get("env_file")
        self.log = str(config["log"])
        self.exporter = bool(config.get("exporter"))
        self.pid: int | None = None
        self.start_at_s = 0.0
        self.clean = True

    def start(self) -> None:
        """Run the program in a session of its own, so that its children can be found."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self.pid = os.posix_spawn(
            self.argv[0],
            self.argv,
            self.environment(),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, self.log, flags, 0o640),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[*HANDLED, signal.SIGPIPE],
        )

    def environment(self) -> dict[str, str]:
        """Merge the env file, read anew at each start; its secrets are kept nowhere else."""
        merged = dict(self.env)
        if self.env_file and os.path.exists(str(self.env_file)):  # noqa: PTH110 - pathlib is heavy
            with open(str(self.env_file), encoding="utf-8") as lines:  # noqa: PTH123 - as above
                merged.update(parse_env(lines.read()))
        return merged

    def signal(self, number: int) -> None:
        """Signal the program itself; its children are its own business."""
        if self.pid is not None:
            os.kill(self.pid, number)


class Freshness:
    """Whether a file still changes, by one's own clock: file times may jump, this may not."""

    def __init__(self, path: str, stale_after_s: float) -> None:
        self.path = path
        self.stale_after_s = stale_after_s
        self.seen: tuple[int, int] | None = None
        self.changed_at_s: float | None = None

    def fresh(self, now_s: float) -> bool:
        """Look once; False until the first change, and when there was none for too long."""
        try:
            status = os.stat(self.path)  # noqa: PTH116 - pathlib is heavy
        except OSError:
            status = None
        if status is not None and self.seen != (status.st_ino, status.st_mtime_ns):
            self.seen = (status.st_ino, status.st_mtime_ns)
            self.changed_at_s = now_s
        return self.changed_at_s is not None and now_s - self.changed_at_s <= self.stale_after_s


class Init:
    """The loop of PID 1: one thread, one poll, no surprise."""

    def __init__(self, config: dict[str, object]) -> None:
        self.programs = [Program(as_dict(item)) for item in as_list(config["programs"])]
        self.backoff_s = as_float(config.get("backoff_s", 1.0))
        self.grace_s = as_float(config.get("grace_s", 60.0))
        self.freshness = Freshness(str(config["stat"]), as_float(config.get("stale_after_s", 2.0)))
        self.is_pid_1 = bool(config.get("is_pid_1", True))
        self.kill_at_s: float | None = None
        self.orders = str(config.get("orders", ""))
        self.source = 0
        self.commands = b""
        self.wake_read, self.wake_write = os.pipe()
        self.poll = select.poll()

    def run(self) -> int:
        """Run until told to stop; 0 when every program ended cleanly."""
        if not self.is_pid_1:
            adopt_orphans()
        self.listen()
        fresh = self.freshness.fresh(time.monotonic())
        self.start_due(time.monotonic(), fresh=fresh)
        say("booted")
        while not self.stopped():
            self.wait()
            self.reap()
            if self.kill_at_s is None:
                now_s = time.monotonic()
                fresh = self.freshness.fresh(now_s)
                self.hold_exporter(fresh=fresh)
                self.start_due(now_s, fresh=fresh)
        clean = all(program.clean and program.pid is None for program in self.programs)
        if not self.is_pid_1:
            self.bury()
        say("stopped", clean=clean)
        return 0 if clean else 1

    def listen(self) -> None:
        """Turn signals, commands and the cloud's end into events of one poll."""
        os.set_blocking(self.wake_write, False)
        os.set_blocking(self.wake_read, False)
        signal.set_wakeup_fd(self.wake_write)
        for number in HANDLED:
            signal.signal(number, self.on_signal)
        self.poll.register(self.wake_read, select.POLLIN)
        if self.orders:
            # Open for writing too, so that it never ends.
            self.source = os.open(self.orders, os.O_RDWR | os.O_NONBLOCK)
        self.poll.register(self.source, select.POLLIN | select.POLLHUP)
        os.set_blocking(1, False)

    def on_signal(self, number: int, _: object) -> None:
        if number != signal.SIGCHLD:
            self.stop(self.grace_s)

    def wait(self) -> None:
        for descriptor, _ in self.poll.poll(POLL_S * 1000):
            if descriptor == self.wake_read:
                os.read(self.wake_read, 4096)
            else:
                self.obey(os.read(self.source, 4096))

    def obey(self, data: bytes) -> None:
        if not data:  # the cloud is gone, whatever the reason
            self.poll.unregister(self.source)
            self.stop(0.0 if self.kill_at_s is None else None)
            return
        self.commands += data
        while b"\n" in self.commands:
            line, _, self.commands = self.commands.partition(b"\n")
            words = line.decode().split()
            if words and words[0] == "stop":
                self.stop(float(words[1]))

    def stop(self, grace_s: float | None) -> None:
        """Ask every program to end; the first request sets the deadline."""
        if self.kill_at_s is not None or grace_s is None:
            return
        self.kill_at_s = time.monotonic() + grace_s
        for program in self.programs:
            program.signal(signal.SIGTERM)

    def stopped(self) -> bool:
        if self.kill_at_s is None:
            return False
        # Whoever is left dies with PID 1: the kernel sees to it.
        running = any(program.pid is not None for program in self.programs)
        return not running or time.monotonic() >= self.kill_at_s

    def reap(self) -> None:
        """Collect the dead, adopted orphans too."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for program in self.programs:
                if program.pid == pid:
                    self.ended(program, os.waitstatus_to_exitcode(status))

    def bury(self) -> None:
        """Kill all descendants; each round brings the orphans of the one before up to us."""
        give_up_at_s = time.monotonic() + BURY_WITHIN_S
        while (left := descendants(os.getpid())) and time.monotonic() < give_up_at_s:
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)
            self.reap()

    def ended(self, program: Program, code: int) -> None:
        leader, program.pid = program.pid, None
        program.start_at_s = time.monotonic() + self.backoff_s
        program.clean = code in {0, -signal.SIGTERM}
        if leader is not None:
            with contextlib.suppress(OSError):
                os.killpg(leader, signal.SIGKILL)  # what it left behind
        if self.kill_at_s is None:
            say("program_ended", program=program.name, code=code)

    def hold_exporter(self, *, fresh: bool) -> None:
        """Stop the exporter while its numbers are frozen: they would read as 100 % busy."""
        for program in self.programs:
            if program.exporter and program.pid is not None and not fresh:
                say("exporter_stopped", reason="procfs is stale")
                program.signal(signal.SIGKILL)

    def start_due(self, now_s: float, *, fresh: bool) -> None:
        for program in self.programs:
            held = program.exporter and not fresh
            if program.pid is not None or held or now_s < program.start_at_s:
                continue
            try:
                program.start()
            except OSError as error:
                program.start_at_s = now_s + self.backoff_s
                say("program_failed", program=program.name, reason=str(error))
            else:
                say("program_started", program=program.name)


def adopt_orphans() -> None:
    """Become the parent of whatever our descendants leave behind."""
    import ctypes  # noqa: PLC0415 - a PID 1 needs neither it nor its memory

    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """Children of all threads, and theirs."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(f"/proc/{waiting.pop()}/task") as tasks:
            for task in tasks:
                with open(f"{task.path}/children", "rb") as children:  # noqa: PTH123 - as above
                    fresh = [int(word) for word in children.read().split()]
                found += fresh
                waiting += fresh
    return found


def say(event: str, **values: object) -> None:
    """Tell the cloud; if it does not listen, that is its loss."""
    with contextlib.suppress(OSError):
        os.write(1, (json.dumps({"event": event, **values}) + "\n").encode())


def parse_env(text: str) -> dict[str, str]:
    """Read KEY=value lines as systemd's EnvironmentFile does: comments, optional quotes."""
    found = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                value = value[1:-1]
            found[key.strip()] = value
    return found


def as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def as_dict(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def as_float(value: object) -> float:
    return float(str(value))


def main() -> int:
    """Run as PID 1 with the configuration named by the first argument."""
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123 - pathlib is heavy
        config = json.load(file)
    return Init(config).run()


if __name__ == "__main__":
    sys.exit(main())
