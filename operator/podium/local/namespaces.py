"""Linux namespaces for one node: held open, entered, listened in, and left without a trace.

Run as a script, by path, as root, with nothing but the standard library:

    python -I -S namespaces.py hold PLAN                            make them and run the plan's program there
    python -I -S namespaces.py enter PID_FILE PROGRAM [ARGUMENT …]  run a program there
    python -I -S namespaces.py relay PID_FILE THERE HERE            let HOST:PORT there be HOST:PORT here

A node has a network, mounts and process ids of its own. None of them has a name, so the kernel takes all of
it away with their first process: every daemon and container, the mounts, the addresses, both ends of the link
and the routes through it. What the kernel leaves are control groups and files; a process that does nothing
else waits for the end, however it comes, and removes them. It holds the plan's lock until that is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, TypedDict

_CGROUPS = Path("/sys/fs/cgroup")
_SECONDS_TO_CLEAN = 20.0
# From <sched.h>, <sys/mount.h> and <sys/prctl.h>; os has setns and unshare from Python 3.12 on only.
_NEW_MOUNTS, _NEW_PIDS, _NEW_NETWORK = 0x0002_0000, 0x2000_0000, 0x4000_0000
_BIND, _RECURSIVE, _PRIVATE, _SHARED = 0x1000, 0x4000, 1 << 18, 1 << 20
_SIGNAL_AT_PARENTS_DEATH = 1
# Where daemons write whatever they are told. In the node these are its own: what the machine has there can be
# read, and nothing comes back.
_ITS_OWN = ("/var/lib", "/var/log")


class Plan(TypedDict):
    """What `hold` reads, as JSON. Addresses are IPv4."""

    name: str
    """Of the link on this machine, and of the control group."""
    here: str
    """The address of this machine's end of the link, with its prefix length: 198.18.4.1/30."""
    there: str
    """The address of the node's end."""
    routes: list[str]
    """Networks behind the node."""
    folder: str
    """The node's; it keeps its place when /var is made the node's own."""
    places: dict[str, str]
    """Folders of the node's that it sees at another path: that path, and where they are."""
    scratch: list[str]
    """Folders that are removed at the end."""
    lock: str
    pid_file: str
    argv: list[str]
    """The first program in the node; the node ends with it."""


def main() -> int:
    what, first, *rest = sys.argv[1:]
    # Root's PATH lacks these in some places; containerd looks for runc there, kube-proxy for nft.
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
    if what == "hold":
        plan: Plan = json.loads(Path(first).read_text())
        return hold(plan)
    if what == "enter":
        return enter(_first_process(Path(first)), rest)
    return relay(_first_process(Path(first)), _split(rest[0]), _split(rest[1]))


def hold(plan: Plan) -> int:
    """Makes the namespaces and returns the exit code of their program when it has ended."""
    # Open until the last process that knows it is gone: the one that cleans up.
    lock = os.open(plan["lock"], os.O_RDWR | os.O_CREAT, 0o644)
    # If this node ran before, its cleaner may not be through yet.
    if not _until(lambda: _locked(lock)):
        sys.exit(f"another node holds {plan['lock']}")
    # A leftover under this name can only be that of a node whose cleaner was killed too.
    _remove_cgroups(plan["name"])
    _run("ip", "link", "delete", plan["name"], check=False)
    ended, alive = os.pipe()
    if os.fork() == 0:
        os.close(alive)
        _clean_up(plan, ended)
    os.close(ended)
    _make_cgroups(plan["name"])
    there_read, there_write = os.pipe()
    linked_read, linked_write = os.pipe()
    parent = os.fork()
    if parent == 0:
        _die_with_parent()
        # Process ids are new for children only, so the first process of the node is one more fork away.
        _call("unshare", _NEW_MOUNTS | _NEW_PIDS | _NEW_NETWORK)
        first = os.fork()
        if first == 0:
            _die_with_parent()
            os.close(linked_write)
            if os.read(linked_read, 1) != b"!":
                os._exit(1)
            _be_first(plan)
        os.write(there_write, f"{first}\n".encode())
        os._exit(_wait_for(first))
    os.close(there_write)
    os.close(linked_read)
    with os.fdopen(there_read) as answer:
        first = int(answer.readline() or 0)
    if first:
        _link(plan, first)
        Path(plan["pid_file"]).write_text(f"{first}\n")
        signal.signal(signal.SIGTERM, lambda *_: os.kill(first, signal.SIGKILL))
        os.write(linked_write, b"!")
    return _wait_for(parent)


def _link(plan: Plan, first: int) -> None:
    name = plan["name"]
    _run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(first))
    _run("ip", "address", "add", plan["here"], "dev", name)
    _run("ip", "link", "set", name, "up")
    for network in plan["routes"]:
        _run("ip", "route", "add", network, "via", plan["there"], "dev", name)


def _be_first(plan: Plan) -> NoReturn:
    """Process 1 of the node: makes it fit to live in, starts the program, and buries the orphans."""
    _mount("none", "/", flags=_RECURSIVE | _PRIVATE)
    # The kubelet passes mounts on to containers, so they must spread; within the node only.
    _mount("none", "/", flags=_RECURSIVE | _SHARED)
    _mount("proc", "/proc", "proc")
    folder = os.open(plan["folder"], os.O_PATH)
    _mount("tmpfs", "/run", "tmpfs", options="mode=755")
    for number, path in enumerate(_ITS_OWN):
        upper, work = f"/run/own/{number}/upper", f"/run/own/{number}/work"
        Path(upper).mkdir(parents=True)
        Path(work).mkdir()
        _mount("overlay", path, "overlay", options=f"lowerdir={path},upperdir={upper},workdir={work}")
    if Path(plan["folder"]).is_relative_to("/var"):
        _mount(f"/proc/self/fd/{folder}", plan["folder"], flags=_BIND | _RECURSIVE)
    os.close(folder)
    for seen, place in plan["places"].items():
        for path in (seen, place):
            Path(path).mkdir(parents=True, exist_ok=True)
        _mount(place, seen, flags=_BIND | _RECURSIVE)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "address", "add", f"{plan['there']}/{plan['here'].partition('/')[2]}", "dev", "eth0")
    _run("ip", "link", "set", "eth0", "up")
    _run("ip", "route", "add", "default", "via", plan["here"].partition("/")[0])
    program = os.fork()
    if program == 0:
        os.execv(plan["argv"][0], plan["argv"])  # noqa: S606 - no shell is wanted
    os._exit(_wait_for(program))


def enter(first: int, argv: list[str]) -> int:
    """Runs a program beside process `first`; its exit code, or 128 + signal. Passes polite signals on."""
    # The process ids last: /proc is the node's own as soon as the mounts are.
    namespaces = [os.open(f"/proc/{first}/ns/{kind}", os.O_RDONLY) for kind in ("net", "mnt", "pid")]
    for namespace in namespaces:
        _call("setns", namespace, 0)
        os.close(namespace)
    program = os.fork()
    if program == 0:
        _die_with_parent()
        os.execv(argv[0], argv)  # noqa: S606 - no shell is wanted
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(program, number))
    return _wait_for(program)


def relay(first: int, listen: tuple[str, int], target: tuple[str, int]) -> int:
    """Makes `target` of this machine's network answer at `listen` of the node's, until the node is gone."""
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/proc/{first}/ns/net", os.O_RDONLY)
    _call("setns", there, _NEW_NETWORK)
    # A socket stays in the network that it was made in.
    server = socket.create_server(listen, backlog=512)
    _call("setns", here, _NEW_NETWORK)
    os.close(there)
    asyncio.run(_serve(server, target, os.pidfd_open(first)))
    return 0


async def _serve(server: socket.socket, target: tuple[str, int], node: int) -> None:
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(node, gone.set)

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream = await asyncio.open_connection(*target)
        except OSError:
            # As close as one can come to "connection refused" for a connection that was accepted.
            writer.transport.abort()
            return
        await asyncio.gather(_copy(reader, upstream[1]), _copy(upstream[0], writer))

    await asyncio.start_server(on_connection, sock=server)
    await gone.wait()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(65_536):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


def _clean_up(plan: Plan, ended: int) -> NoReturn:
    """Waits until the node has ended, and removes what the kernel does not."""
    # Not in the group that is killed with the node.
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.read(ended, 1)
    Path(plan["pid_file"]).unlink(missing_ok=True)
    _remove_cgroups(plan["name"])
    for folder in plan["scratch"]:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _make_cgroups(name: str) -> None:
    # Of the newer kind, a group has only the controllers that the one above it hands down.
    if (offered := _CGROUPS / "cgroup.controllers").exists():
        for controller in offered.read_text().split():
            with contextlib.suppress(OSError):
                (_CGROUPS / "cgroup.subtree_control").write_text(f"+{controller}")
    for cgroup in _cgroups(name):
        cgroup.mkdir()
        # Of the older kind, a group of CPUs begins empty and takes no process.
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if (cgroup / setting).exists() and (cgroup.parent.name == "cpuset"):
                (cgroup / setting).write_text((cgroup.parent / setting).read_text())


def _remove_cgroups(name: str) -> None:
    """Innermost first; again, while the last processes in them are dying."""

    def removed() -> bool:
        for cgroup in _cgroups(name):
            for folder, _, _ in os.walk(cgroup, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
        return not any(cgroup.exists() for cgroup in _cgroups(name))

    if not _until(removed):
        print(f"there are still control groups of {name}", file=sys.stderr)


def _cgroups(name: str) -> Iterator[Path]:
    """The node's group in each hierarchy: there is one of the newer kind, or one for each controller."""
    if (_CGROUPS / "cgroup.controllers").exists():
        yield _CGROUPS / name
        return
    for hierarchy in sorted(_CGROUPS.iterdir()):
        if not hierarchy.is_symlink() and (hierarchy / "cgroup.procs").exists():
            yield hierarchy / name


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _SECONDS_TO_CLEAN
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _wait_for(child: int) -> int:
    """Reaps whatever ends, until `child` does; its exit code, or 128 + signal."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _die_with_parent() -> None:
    _call("prctl", _SIGNAL_AT_PARENTS_DEATH, int(signal.SIGKILL))


def _mount(source: str, target: str, kind: str = "", *, flags: int = 0, options: str = "") -> None:
    _call(
        "mount",
        source.encode(),
        target.encode(),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        options.encode(),
    )


def _call(name: str, *arguments: object) -> None:
    """A function of the C library that answers 0. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{arguments}: {os.strerror(number)}")


def _run(*argv: str, check: bool = True) -> None:
    answer = subprocess.run(argv, capture_output=True, text=True, check=False)
    if check and answer.returncode != 0:
        raise OSError(f"{' '.join(argv)}: {answer.stderr.strip()}")


def _first_process(pid_file: Path) -> int:
    return int(pid_file.read_text())


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    sys.exit(main())
