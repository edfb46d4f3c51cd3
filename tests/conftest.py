"""The real servers that tests share: one API server and one Conductor for a whole run."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from podium.local import Conductor, ControlPlane, free_port
from support.bed import Bed
from support.servers import running

CHECKOUT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real API server with Podium's CRDs: `.kubeconfig`, `.kubectl`, `.run(...)`."""
    with ControlPlane.start(tmp_path_factory.mktemp("cluster")) as plane:
        plane.run("apply", "--server-side", "-f", str(CHECKOUT / "crds"))
        plane.run("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        yield plane


@pytest.fixture(scope="session")
def notices() -> tuple[str, str]:
    """Where Conductor sends its notices (host:port), and the secret they carry."""
    return f"127.0.0.1:{free_port()}", secrets.token_hex(16)


@pytest.fixture(scope="session")
def conductor(tmp_path_factory: pytest.TempPathFactory, notices: tuple[str, str]) -> Iterator[Conductor]:
    """A real Conductor: `.url` ends in /api."""
    address, token = notices
    with running(
        os.environ.get("PODIUM_TEST_SERVER", "sqlite"),
        tmp_path_factory.mktemp("conductor"),
        notice_url=f"http://{address}/notices",
        notice_token=token,
    ) as server:
        yield server


@pytest.fixture
async def bed(
    cluster: ControlPlane, conductor: Conductor, notices: tuple[str, str], tmp_path: Path
) -> AsyncIterator[Bed]:
    """A namespace of its own, an operator that can be crashed, and a worker."""
    async with Bed(cluster, conductor, notices, tmp_path) as ready:
        yield ready
