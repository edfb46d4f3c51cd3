"""The parts of the dev stack that are Podium's own: CRDs, operator, worker."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from podium.local.control_plane import run_kubectl
from podium.local.errors import LocalError
from podium.local.process_node.addresses import HEALTH_PORT
from podium.local.processes import Program
from podium.local.services import Probe, Service
from podium.local.state import StackState

NODE = "stand-in-node"
"""The name of the part that runs the pods."""


def find_crds() -> Path:
    """The folder of the CRDs: in the package, or in the checkout that it is installed from.

    Raises LocalError if there is none, which would be a broken installation.
    """
    here = Path(__file__).resolve()
    for folder in (here.with_name("crds"), here.parents[3] / "crds"):
        if any(folder.glob("*.yaml")):
            return folder
    raise LocalError("this installation of podium has no CRDs: install it again.")


def install_crds(kubectl: Path, kubeconfig: Path, crds: Path) -> None:
    """Applies them, and waits until their objects can be made."""
    run_kubectl(kubectl, kubeconfig, "apply", "--server-side", "--field-manager=podium-dev", "-f", str(crds))
    established = ("wait", "--for=condition=Established", "--timeout=60s")
    run_kubectl(kubectl, kubeconfig, *established, "-f", str(crds))


def cluster_answers(state: StackState) -> bool:
    """Whether the API server says that it is ready."""
    try:
        run_kubectl(state.kubectl, state.kubeconfig, "get", "--raw=/readyz", "--request-timeout=5s")
    except LocalError:
        return False
    return True


def operator_service(state: StackState, folder: Path) -> Service:
    """The operator, with the port and the secret that Conductor's notices were set up for."""
    env = {
        "KUBECONFIG": str(state.kubeconfig),
        "CONDUCTOR_SERVER_URL": state.conductor_url,
        "PODIUM_CONDUCTOR_URL": state.conductor_url,
        "PODIUM_LISTEN": f"127.0.0.1:{state.operator_port}",
        "PODIUM_NOTICE_TOKEN": state.notice_token,
    }
    foreign: tuple[str, ...] = ("PODIUM_CONTEXT",)
    if state.wishes.context:
        env["PODIUM_CONTEXT"], foreign = state.wishes.context, ()
    url = f"http://127.0.0.1:{state.operator_port}"
    program = Program(
        "operator",
        (sys.executable, "-m", "podium"),
        _own_folder(folder, "operator"),
        folder / "logs" / "operator.log",
        env,
        foreign,
    )
    return Service(program, url, Probe(f"{url}/readyz"))


def worker_service(state: StackState, folder: Path, port: int) -> Service:
    """One worker with every task that Podium ships, and the functions and namespaces that were asked for."""
    url = f"http://127.0.0.1:{port}"
    own = _own_folder(folder, "worker")
    argv: tuple[str, ...] = (
        *(sys.executable, "-m", "podium_workers"),
        *("--namespaces", ",".join(state.wishes.namespaces)),
        *("--data-dir", str(own / "data")),
        *("--listen", f"127.0.0.1:{port}"),
        *("--log-format", "text"),
    )
    # On a machine there is no service account: Secrets that runs refer to are read as its user.
    env = {"CONDUCTOR_SERVER_URL": state.conductor_url, "WORKER_KUBECONFIG": str(state.kubeconfig)}
    if state.wishes.context:
        env["WORKER_CONTEXT"] = state.wishes.context
    if state.wishes.functions:
        argv += ("--functions", ",".join(state.wishes.functions))
        env["PYTHONPATH"] = _python_path(state)
    program = Program("worker", argv, own, folder / "logs" / "worker.log", env)
    return Service(program, url, Probe(f"{url}/readyz"))


def node_service(state: StackState, folder: Path, address: str) -> Service:
    """The stand-in node: what pods of WorkerPools run on where the cluster is processes of this machine."""
    own = _own_folder(folder, NODE)
    argv = (
        *(sys.executable, "-m", "podium.local.process_node", str(state.kubeconfig), str(own)),
        *("--address", address),
    )
    env = {}
    if state.wishes.functions:
        env["PYTHONPATH"] = _python_path(state)
    program = Program(NODE, argv, own, folder / "logs" / f"{NODE}.log", env)
    url = f"http://{address}:{HEALTH_PORT}"
    return Service(program, url, Probe(f"{url}/healthz"))


def _python_path(state: StackState) -> str:
    """With the folder of the user's functions first."""
    path = (state.wishes.module_folder, os.environ.get("PYTHONPATH", ""))
    return os.pathsep.join(part for part in path if part)


def _own_folder(folder: Path, name: str) -> Path:
    own = folder / name
    own.mkdir(mode=0o700, exist_ok=True)
    return own
