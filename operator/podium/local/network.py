"""The addresses of one node: a block of its own for each, so that several can run on one machine."""

from __future__ import annotations

import fcntl
import ipaddress
import json
import random
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from podium.local.errors import LocalError

# Set aside for measuring devices on a bench (RFC 2544): what people's own networks and tunnels do not use.
_ALL = ipaddress.IPv4Network("198.18.0.0/15")
_BLOCKS = 2 ** (22 - _ALL.prefixlen)
_LOCKS = Path("/run/podium")


@dataclass(frozen=True)
class Network:
    """Block `number` of 128: a link between this machine and the node, the pods, and the Services behind it.

    This machine reaches the node, its pods and its Services; they reach only the node and each other.
    """

    number: int

    @property
    def name(self) -> str:
        """Of the link, and of the control group."""
        return f"podium{self.number}"

    @property
    def lock(self) -> Path:
        """Whoever uses the block holds this."""
        return _LOCKS / f"node-{self.number}.lock"

    @property
    def block(self) -> ipaddress.IPv4Network:
        return list(_ALL.subnets(new_prefix=22))[self.number]

    @property
    def here(self) -> str:
        """The address of this machine, as the node sees it."""
        return str(self.block[1])

    @property
    def there(self) -> str:
        """The address of the node."""
        return str(self.block[2])

    @property
    def pods(self) -> ipaddress.IPv4Network:
        return list(self.block.subnets(new_prefix=24))[1]

    @property
    def services(self) -> ipaddress.IPv4Network:
        return list(self.block.subnets(new_prefix=24))[2]

    @property
    def api_service(self) -> str:
        """Where pods find the API server: the Service `kubernetes` always has the first address."""
        return str(self.services[1])


def choose_network(in_use: Iterable[ipaddress.IPv4Network], locked: Iterable[int], seed: float) -> Network:
    """A free block. Raises LocalError if there is none."""
    taken, busy = list(in_use), frozenset(locked)
    numbers = [number for number in range(_BLOCKS) if number not in busy]
    for network in map(Network, random.Random(seed).sample(numbers, len(numbers))):
        if not any(network.block.overlaps(other) for other in taken):
            return network
    raise LocalError(f"no block of addresses in {_ALL} is free for a node: end one of those that run.")


def find_network(seed: float) -> Network:
    """A block that nothing on this machine uses now. Raises LocalError."""
    _LOCKS.mkdir(mode=0o755, exist_ok=True)
    answer = subprocess.run(
        ["ip", "-json", "-4", "route", "show", "table", "all"], capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        raise LocalError(f"the routes of this machine cannot be read: {answer.stderr.strip()}")
    destinations = [route.get("dst", "default") for route in json.loads(answer.stdout or "[]")]
    # The way to everywhere else is in nobody's way.
    networks = [ipaddress.IPv4Network(text, strict=False) for text in destinations if text != "default"]
    locked = [number for number in range(_BLOCKS) if is_locked(Network(number).lock)]
    return choose_network([network for network in networks if network.prefixlen > 0], locked, seed)


def is_locked(lock: Path) -> bool:
    """Whether a node holds this lock, or what cleans up behind one."""
    try:
        with lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
