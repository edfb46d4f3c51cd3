"""Loopback addresses: a network for each stand-in node, an address for each of its pods."""

from __future__ import annotations

import random
import socket

from podium.local.errors import LocalError

HEALTH_PORT = 10248
"""Where a kubelet tells of its health; whoever listens there has the network."""
# 127.0.0.0/16 is used by others: localhost itself, Debian's 127.0.1.1, resolvers.
_NETWORKS = range(64, 250)


def find_network() -> str:
    """The node's address in a network that no other stand-in node has. Raises LocalError."""
    with claim_network() as claim:
        return str(claim.getsockname()[0])


def claim_network(address: str | None = None) -> socket.socket:
    """A listening socket at the node's address, which claims that network. Raises LocalError."""
    wanted = [address] if address else [f"127.{n}.0.1" for n in random.sample(_NETWORKS, len(_NETWORKS))]
    error: OSError | None = None
    for candidate in wanted:
        claim = socket.socket()
        try:
            claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            claim.bind((candidate, HEALTH_PORT))
            claim.listen()
        except OSError as failure:
            claim.close()
            error = failure
        else:
            return claim
    raise LocalError(
        f"no loopback network for a stand-in node ({wanted[-1]}:{HEALTH_PORT}: {error and error.strerror}); "
        "it needs all of 127.0.0.0/8 on the loopback device, as on Linux."
    )


class Addresses:
    """Those of the pods of one node; one that was given back is used last."""

    def __init__(self, node_address: str) -> None:
        network = node_address.removesuffix(".0.1")
        self._all = (f"{network}.{high}.{low}" for high in range(1, 255) for low in range(1, 255))
        self._free: list[str] = []

    def take(self) -> str:
        """Raises LocalError if more than 64,000 are in use."""
        found = next(self._all, None) or (self._free.pop(0) if self._free else None)
        if found is None:
            raise LocalError("this stand-in node has no address left for a pod.")
        return found

    def give_back(self, address: str) -> None:
        self._free.append(address)
