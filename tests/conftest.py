"""The real servers that tests share: one API server and one Conductor for each process that runs tests."""

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from podium.local import Conductor, ControlPlane, MissingPrerequisites, free_port
from podium.local.cache import Cache
from podium.local.images import build_images, find_builder, image_name
from podium.local.node_host import find_node_host, why_no_node
from podium.local.processes import Processes
from support.bed import Bed
from support.servers import running

CHECKOUT = Path(__file__).parent.parent
SERVERS = frozenset({"cluster", "cluster_with_node", "conductor", "server"})


def pytest_configure() -> None:
    """A shell has what it runs in the background ignore Ctrl-C, and so all that this starts would."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for a real server is slow, also where nobody wrote that down."""
    for item in items:
        if SERVERS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes do not name a test: a file may hold the time it was made, and parallel collectors must agree."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real API server with Podium's CRDs: `.kubeconfig`, `.kubectl`, `.run(...)`."""
    with ControlPlane.start(tmp_path_factory.mktemp("cluster")) as plane:
        plane.run("apply", "--server-side", "-f", str(CHECKOUT / "crds"))
        plane.run("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        yield plane


@pytest.fixture(scope="session")
def cluster_with_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Another one, with Podium's CRDs and a node: Pods run. Skipped, and says why, where none can."""
    if obstacle := why_no_node(find_node_host()):
        pytest.skip(obstacle)
    with ControlPlane.start(tmp_path_factory.mktemp("cluster"), node=True) as plane:
        plane.run("apply", "--server-side", "-f", str(CHECKOUT / "crds"))
        plane.run("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        yield plane


@pytest.fixture(scope="session")
def archives() -> dict[str, Path]:
    """The project's images, built of this checkout: a file for each target (`operator`, `worker`)."""
    try:
        builder = find_builder()
    except MissingPrerequisites as missing:
        pytest.skip(str(missing))
    with Processes() as processes:
        return build_images(CHECKOUT, builder, Cache.of(), processes, archives=True)


@pytest.fixture(scope="session")
def worker_image(cluster_with_node: ControlPlane, archives: dict[str, Path]) -> str:
    """The name of the worker's image, which that node has."""
    cluster_with_node.node.load_image(archives["worker"])
    return image_name("worker")


@pytest.fixture(scope="session")
def operator_image(cluster_with_node: ControlPlane, archives: dict[str, Path]) -> str:
    """The name of the operator's image, likewise."""
    cluster_with_node.node.load_image(archives["operator"])
    return image_name("operator")


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


@pytest.fixture
async def bed_on_node(
    cluster_with_node: ControlPlane, conductor: Conductor, notices: tuple[str, str], tmp_path: Path
) -> AsyncIterator[Bed]:
    """The same where Pods run; they and the operator know Conductor by one address, `bed.conductor_url`."""
    url = await asyncio.to_thread(cluster_with_node.node.expose, conductor.url)
    async with Bed(cluster_with_node, conductor, notices, tmp_path, url) as ready:
        yield ready
