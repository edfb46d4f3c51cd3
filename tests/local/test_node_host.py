"""Where no node can run, one sentence says why and what to do."""

from pathlib import Path

import pytest

from podium.local.node_host import NodeHost, why_no_node
from podium.local.prerequisites import Found, Need, missing


def test_a_machine_with_everything_can_carry_a_node() -> None:
    assert why_no_node(NodeHost(system="linux")) == ""


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        (NodeHost(system="darwin"), "needs Linux (this is darwin)"),
        (NodeHost(system="linux", user=1000), "needs root (you are user 1000)"),
        (NodeHost(system="linux", refusal="unshare failed"), "cannot run in this place (unshare failed)"),
        (
            NodeHost(system="linux", lacking=("containerd", "runc")),
            "programs that are not here: install Debian's containerd runc",
        ),
    ],
)
def test_what_is_in_the_way_is_named_with_the_way_round(host: NodeHost, reason: str) -> None:
    sentence = why_no_node(host)
    assert reason in sentence
    assert "kind" in sentence
    found = Found(node=host, free_bytes=100 * 1024**3)
    assert missing(frozenset({Need.NODE}), found, Path("/cache")) == (sentence,)
