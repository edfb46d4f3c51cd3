"""Each node has addresses of its own, that nothing else on the machine uses."""

from ipaddress import IPv4Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.local import LocalError
from podium.local.network import Network, choose_network

ALL = IPv4Network("198.18.0.0/15")
numbers = st.integers(0, 127)


@given(numbers, numbers)
def test_two_nodes_share_no_address(one: int, other: int) -> None:
    assert (one == other) == Network(one).block.overlaps(Network(other).block)


@given(numbers)
def test_the_parts_of_a_block_are_apart(number: int) -> None:
    network = Network(number)
    link = IPv4Network(f"{network.here}/30", strict=False)
    assert ip_address(network.there) in link
    parts = (link, network.pods, network.services)
    assert all(part.subnet_of(network.block) and part.subnet_of(ALL) for part in parts)
    assert not any(one.overlaps(other) for one in parts for other in parts if one is not other)
    assert ip_address(network.api_service) in network.services


@given(st.sets(numbers), st.sets(numbers), st.integers())
def test_what_is_in_use_is_left_alone(routed: set[int], locked: set[int], seed: int) -> None:
    in_use = [Network(number).pods for number in routed]
    if len(routed | locked) == 128:
        return
    assert choose_network(in_use, locked, seed).number not in routed | locked


def test_when_all_are_in_use_it_says_so() -> None:
    with pytest.raises(LocalError, match=r"no block of addresses in 198\.18\.0\.0/15 is free"):
        choose_network([ALL], [], 0)
