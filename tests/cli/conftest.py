"""A namespace for the commands."""

from collections.abc import Iterator

import pytest

from cli.commands import Shell
from podium.local import ControlPlane


@pytest.fixture
def shell(cluster: ControlPlane) -> Iterator[Shell]:
    """A namespace of its own on the real API server, without an operator."""
    ready = Shell(cluster)
    cluster.run("create", "namespace", ready.namespace)
    yield ready
    cluster.run("delete", "namespace", ready.namespace, "--wait=false")
