"""Pods really run on the local node, and it leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from podium.local import Conductor, ControlPlane, LocalError
from podium.local.network import Network, is_locked
from podium.local.processes import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RESTRICTED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
SERVE = """
import http.server, socketserver
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"hello")
socketserver.TCPServer.allow_reuse_address = True
print("serving", flush=True)
socketserver.ThreadingTCPServer(("", 8000), Hello).serve_forever()
"""
DRAIN = """
import signal, sys, time, urllib.request
def tell(what): urllib.request.urlopen(sys.argv[1] + "/" + what, data=b"").read()
def end(*_):
    tell("told"); time.sleep(3); tell("finished"); sys.exit(0)
signal.signal(signal.SIGTERM, end)
tell("started")
while True: time.sleep(1)
"""


@pytest.fixture(scope="module")
def namespace(cluster_with_node: ControlPlane) -> str:
    """One that takes only Pods of the restricted Pod Security Standard."""
    cluster_with_node.run("create", "namespace", "careful")
    label = "pod-security.kubernetes.io/enforce=restricted"
    cluster_with_node.run("label", "namespace", "careful", label)
    return "careful"


def _container(image: str, *command: str, **more: Any) -> dict[str, Any]:
    return {"name": "main", "image": image, "command": [*command], "securityContext": RESTRICTED, **more}


def _pod(name: str, container: dict[str, Any], **spec: Any) -> str:
    container = {key: value for key, value in container.items() if value != []}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"containers": [container], "restartPolicy": "Never", **spec},
        }
    )


def _read(url: str) -> str:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
        return str(answer.read().decode())


@pytest.fixture(scope="module")
def web(cluster_with_node: ControlPlane, worker_image: str, namespace: str) -> str:
    """A Deployment of two Pods with a Service of the same name."""
    container = _container(
        worker_image,
        "python3",
        "-c",
        SERVE,
        readinessProbe={"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1},
    )
    labels = {"app": "web"}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
            },
        },
    }
    cluster_with_node.run("apply", "-n", namespace, "-f", "-", stdin=json.dumps(deployment))
    cluster_with_node.run("expose", "-n", namespace, "deployment/web", "--port=80", "--target-port=8000")
    cluster_with_node.run("rollout", "status", "-n", namespace, "deployment/web", "--timeout=60s")
    return "web"


def _pods(cluster: ControlPlane, namespace: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(
        cluster.run("get", "pods", "-n", namespace, "-l", "app=web", "-o", "json")
    )["items"]
    return items


def _said(cluster: ControlPlane, namespace: str) -> str:
    try:
        return cluster.run("logs", "-n", namespace, "deployment/web")
    except LocalError as error:
        return str(error)


def test_a_deployment_of_careful_pods_becomes_ready(
    cluster_with_node: ControlPlane, namespace: str, web: str
) -> None:
    pods = _pods(cluster_with_node, namespace)
    assert len(pods) == 2
    assert all(_read(f"http://{pod['status']['podIP']}:8000/") == "hello" for pod in pods)
    assert "serving" in cluster_with_node.run("logs", "-n", namespace, "deployment/web")


def test_a_careless_pod_is_refused(
    cluster_with_node: ControlPlane, namespace: str, worker_image: str
) -> None:
    with pytest.raises(LocalError, match="violates PodSecurity"):
        cluster_with_node.run("run", "-n", namespace, "careless", f"--image={worker_image}")


def test_pods_find_services_by_name(cluster_with_node: ControlPlane, namespace: str, web: str) -> None:
    program = (
        "import socket, urllib.request as u; read = lambda url: u.urlopen(url).read(); "
        f"print(read('http://web'), read('http://web.{namespace}.svc.cluster.local'), "
        "socket.gethostbyname('kubernetes.default'))"
    )
    said = cluster_with_node.run("exec", "-n", namespace, "deployment/web", "--", "python3", "-c", program)
    assert said.split() == ["b'hello'", "b'hello'", cluster_with_node.node.network.api_service]


def test_a_deployment_is_scaled(cluster_with_node: ControlPlane, namespace: str, web: str) -> None:
    for replicas in (4, 1):
        cluster_with_node.run("scale", "-n", namespace, "deployment/web", f"--replicas={replicas}")
        cluster_with_node.run("rollout", "status", "-n", namespace, "deployment/web", "--timeout=60s")
        assert wait_until(lambda n=replicas: len(_pods(cluster_with_node, namespace)) == n, 30)


def test_pods_live_on_while_the_kubelet_is_away(
    cluster_with_node: ControlPlane, namespace: str, web: str
) -> None:
    address = _pods(cluster_with_node, namespace)[0]["status"]["podIP"]
    cluster_with_node.kill("kubelet")
    assert _read(f"http://{address}:8000/") == "hello"
    cluster_with_node.restart("kubelet")
    # It learns anew what it has.
    assert wait_until(lambda: "serving" in _said(cluster_with_node, namespace), 30)


@pytest.fixture
def heard() -> Iterator[tuple[str, list[str]]]:
    """A server on loopback: its URL, and the paths that were asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_request(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    server.server_close()


def test_a_pod_that_is_told_to_stop_finishes_first(
    cluster_with_node: ControlPlane,
    namespace: str,
    worker_image: str,
    heard: tuple[str, list[str]],
) -> None:
    url, paths = heard
    exposed = cluster_with_node.node.expose(url)
    manifest = _pod("slow", _container(worker_image, "python3", "-c", DRAIN, exposed))
    cluster_with_node.run("apply", "-n", namespace, "-f", "-", stdin=manifest)
    assert wait_until(lambda: "/started" in paths, 30)
    cluster_with_node.run("delete", "pod", "-n", namespace, "slow")
    assert paths == ["/started", "/told", "/finished"]


def _finished(cluster: ControlPlane, namespace: str, name: str) -> str:
    """How it ended."""
    phase = ("get", "pod", "-n", namespace, name, "-o", "jsonpath={.status.phase}")
    assert wait_until(lambda: cluster.run(*phase) in ("Succeeded", "Failed"), 60)
    return cluster.run(*phase)


def test_the_image_of_the_worker_runs_without_rights(
    cluster_with_node: ControlPlane, namespace: str, worker_image: str
) -> None:
    manifest = _pod("list", _container(worker_image, args=["list"]))
    cluster_with_node.run("apply", "-n", namespace, "-f", "-", stdin=manifest)
    assert _finished(cluster_with_node, namespace, "list") == "Succeeded"
    assert "resize(" in cluster_with_node.run("logs", "-n", namespace, "list")


def test_the_image_of_the_operator_works_in_the_cluster(
    cluster_with_node: ControlPlane, conductor: Conductor, namespace: str, operator_image: str
) -> None:
    grant = ("create", "clusterrolebinding", "podium", "--clusterrole=cluster-admin")
    cluster_with_node.run(*grant, f"--serviceaccount={namespace}:default")
    environment = {
        "PODIUM_CONDUCTOR_URL": cluster_with_node.node.expose(conductor.url),
        "PODIUM_NAMESPACES": namespace,
    }
    container = _container(
        operator_image,
        env=[{"name": name, "value": value} for name, value in environment.items()],
        readinessProbe={"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1},
    )
    cluster_with_node.run("apply", "-n", namespace, "-f", "-", stdin=_pod("operator", container))
    try:
        cluster_with_node.run(
            "wait", "-n", namespace, "--for=condition=Ready", "pod/operator", "--timeout=60s"
        )
    finally:
        print(cluster_with_node.run("logs", "-n", namespace, "operator"))
        cluster_with_node.run("delete", "pod", "-n", namespace, "operator", "--wait=false")
        cluster_with_node.run("delete", "clusterrolebinding", "podium")


START = """
import sys, time
from pathlib import Path
from podium.local import ControlPlane
plane = ControlPlane.start(Path(sys.argv[1]), node=True)
plane.run("run", "idle", "--image=localhost/podium-pause:1")
plane.run("wait", "--for=condition=Ready", "pod/idle", "--timeout=60s")
print(plane.node.network.number, flush=True)
if sys.argv[2] == "politely":
    plane.stop()
else:
    time.sleep(600)
"""


def _traces(network: Network, folder: Path) -> list[str]:
    """What is left on this machine of a node: processes, control groups, links, routes, mounts, files."""
    found = [f"process {pid}" for pid in _processes(str(folder))]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{network.name}")]
    for what in ("link", "route"):
        lines = subprocess.run(["ip", what], capture_output=True, text=True, check=True).stdout.splitlines()
        found += [line for line in lines if network.name in line.replace(":", " ").split()]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]
    found += [str(path) for path in (folder / "node/containerd", folder / "node/kubelet") if path.exists()]
    found += [str(path) for path in Path("/var/lib/cni").glob("**/*")]
    return found


def _processes(word: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word in path.read_text(errors="replace"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


@pytest.mark.parametrize("way", ["politely", "by kill -9"])
def test_however_it_ends_nothing_of_it_is_left(
    cluster_with_node: ControlPlane, tmp_path: Path, way: str
) -> None:
    folder = tmp_path / "cluster"
    starting = subprocess.Popen(
        [sys.executable, "-c", START, str(folder), way], stdout=subprocess.PIPE, text=True
    )
    assert starting.stdout is not None
    network = Network(int(starting.stdout.readline()))
    if way == "politely":
        assert starting.wait(60) == 0
    else:
        assert is_locked(network.lock)
        assert len(_traces(network, folder)) > 20
        os.kill(starting.pid, signal.SIGKILL)
        starting.wait()
        assert wait_until(lambda: not is_locked(network.lock), 30)
    deadline = time.monotonic() + 5
    while (left := _traces(network, folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    # And the one beside it noticed nothing.
    cluster_with_node.run("wait", "--for=condition=Ready", "node", "--all", "--timeout=1s")
    cluster_with_node.run("get", "--raw=/api/v1/nodes/podium-node/proxy/healthz")
