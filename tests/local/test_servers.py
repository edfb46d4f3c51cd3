"""A real control plane and a real Conductor, as the tests and `podium dev` start them."""

import json
import signal
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from podium.local import Conductor, ControlPlane, LocalError, MissingPrerequisites, free_port
from podium.local.build import Binaries
from podium.local.cache import Cache
from podium.local.processes import Processes, wait_until
from podium.local.services import Probe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane.start(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def test_deployments_come_down_to_pods(cluster: ControlPlane) -> None:
    cluster.run("create", "deployment", "web", "--image=web", "--replicas=2")
    assert wait_until(lambda: len(cluster.run("get", "pods", "-l", "app=web", "-o", "name").split()) == 2, 30)


def test_a_deleted_namespace_goes_with_what_is_in_it(cluster: ControlPlane) -> None:
    cluster.run("create", "namespace", "brief")
    cluster.run("create", "configmap", "x", "-n", "brief")
    cluster.run("delete", "namespace", "brief", "--timeout=60s")
    assert "brief" not in cluster.run("get", "namespaces", "-o", "name")


def test_what_belongs_to_something_deleted_is_collected(cluster: ControlPlane) -> None:
    cluster.run("create", "configmap", "owner")
    uid = cluster.run("get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}")
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    metadata = {"name": "owned", "ownerReferences": [owner]}
    owned = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    cluster.run("apply", "-f", "-", stdin=json.dumps(owned))
    cluster.run("delete", "configmap", "owner")
    assert wait_until(lambda: "owned" not in cluster.run("get", "configmaps", "-o", "name"), 60)


def test_rights_are_enforced(cluster: ControlPlane) -> None:
    with pytest.raises(LocalError, match="forbidden"):
        cluster.run("get", "secrets", "--as=nobody")


def test_only_its_owner_can_read_the_way_in(cluster: ControlPlane) -> None:
    assert cluster.kubeconfig.stat().st_mode & 0o777 == 0o600
    assert all(key.stat().st_mode & 0o777 == 0o600 for key in cluster.kubeconfig.parent.glob("pki/*.key"))


def test_it_comes_back_with_its_data(cluster: ControlPlane) -> None:
    cluster.run("create", "configmap", "kept")
    for server in ("kube-apiserver", "etcd"):
        cluster.kill(server)
        with pytest.raises(LocalError):
            cluster.run("get", "configmap", "kept", "--request-timeout=2s")
        cluster.restart(server)
        assert wait_until(lambda: "kept" in cluster.run("get", "configmaps", "-o", "name"), 30)


def test_two_do_not_disturb_each_other(cluster: ControlPlane, tmp_path: Path) -> None:
    with ControlPlane.start(tmp_path) as other:
        other.run("create", "configmap", "elsewhere")
        assert "elsewhere" not in cluster.run("get", "configmaps", "-o", "name")
    cluster.run("get", "--raw=/readyz")


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'no such flag' >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(LocalError, match=r"(?s)ended with exit code 3 before it was ready.*no such flag"):
        ControlPlane.start(tmp_path / "cluster", binaries=Binaries(broken, broken, broken, broken))


def test_ready_binaries_are_used_and_only_the_rest_is_built(tmp_path: Path) -> None:
    from podium.local.build import find_assets, provide_binaries

    built = provide_binaries(Cache.of(), Processes(), environment={"PATH": ""})
    for name, path in (("etcd", built.etcd), ("kube-apiserver", built.apiserver)):
        (tmp_path / name).symlink_to(path)
    environment = {"PATH": "", "KUBEBUILDER_ASSETS": str(tmp_path)}
    assert set(find_assets(environment)) == {"etcd", "kube-apiserver"}
    binaries = provide_binaries(Cache.of(), Processes(), environment=environment)
    assert binaries == Binaries(
        tmp_path / "etcd", tmp_path / "kube-apiserver", built.controller_manager, built.kubectl
    )


def test_without_a_compiler_the_remedies_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisites, match=r"Go 1\.26 or newer"):
        ControlPlane.start(tmp_path, cache=Cache(tmp_path / "cache"), environment={"PATH": ""})


class Listener:
    """Takes notices, and counts them by path, secret and status."""

    def __init__(self) -> None:
        self.seen: Counter[tuple[str, str, str]] = Counter()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                listener.seen[self.path, self.headers["Authorization"], body["status"]] += 1
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_request(self, *_: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/notices"


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.server.shutdown()
    listener.server.server_close()


@pytest.fixture(scope="module")
def conductor(listener: Listener, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conductor]:
    folder = tmp_path_factory.mktemp("conductor")
    with Conductor.start(folder, notice_url=listener.url, notice_token="s3cret") as conductor:
        yield conductor


def _ask(method: str, url: str, body: object = None) -> str:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.read().decode())


def _register(conductor: Conductor, name: str) -> None:
    task = {"name": f"{name}-task", "taskReferenceName": "t", "type": "SIMPLE"}
    definition = {"name": name, "version": 1, "tasks": [task], "timeoutSeconds": 600}
    more = {
        "timeoutPolicy": "ALERT_ONLY",
        "ownerEmail": "a@example.org",
        "workflowStatusListenerEnabled": True,
    }
    _ask("PUT", f"{conductor.url}/metadata/workflow", [{**definition, **more}])


def test_it_tells_of_each_change_with_the_secret(conductor: Conductor, listener: Listener) -> None:
    _register(conductor, "told")
    run = _ask("POST", f"{conductor.url}/workflow/told", {})
    _ask("PUT", f"{conductor.url}/workflow/{run}/pause")
    _ask("PUT", f"{conductor.url}/workflow/{run}/resume")
    _ask("DELETE", f"{conductor.url}/workflow/{run}?reason=enough")
    expected = {
        ("/notices/workflow", "Bearer s3cret", "RUNNING"),
        ("/notices/workflow", "Bearer s3cret", "PAUSED"),
        ("/notices/workflow", "Bearer s3cret", "TERMINATED"),
        ("/notices/task", "Bearer s3cret", "SCHEDULED"),
        ("/notices/task", "Bearer s3cret", "CANCELED"),
    }
    assert wait_until(lambda: expected <= set(listener.seen), 20), listener.seen


def test_a_burst_is_not_lost(conductor: Conductor, listener: Listener) -> None:
    _register(conductor, "burst")
    scheduled = ("/notices/task", "Bearer s3cret", "SCHEDULED")
    before = listener.seen[scheduled]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: _ask("POST", f"{conductor.url}/workflow/burst", {}), range(200)))
    assert wait_until(lambda: listener.seen[scheduled] - before >= 198, 30), listener.seen


def test_it_listens_on_loopback_only(conductor: Conductor) -> None:
    port = int(conductor.url.split(":")[2].split("/")[0])
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    addresses = {
        line.split()[1].rsplit(":", 1)[0]
        for line in listening.splitlines()
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
    }
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert addresses


def test_killed_it_comes_back_at_the_same_address_with_its_runs(conductor: Conductor) -> None:
    _register(conductor, "kept")
    run = _ask("POST", f"{conductor.url}/workflow/kept", {})
    conductor.kill()
    with pytest.raises(urllib.error.URLError):
        _ask("GET", f"{conductor.url}/workflow/{run}")
    conductor.resume()
    assert json.loads(_ask("GET", f"{conductor.url}/workflow/{run}"))["status"] == "RUNNING"
    conductor.restart()
    assert json.loads(_ask("GET", f"{conductor.url}/workflow/{run}"))["status"] == "RUNNING"


def test_it_can_be_made_to_hang(conductor: Conductor) -> None:
    probe = Probe(f"{conductor.url}/metadata/workflow")
    conductor.signal(signal.SIGSTOP)
    try:
        assert not probe.answers(timeout=1)
    finally:
        conductor.signal(signal.SIGCONT)
    assert wait_until(probe.answers, 30)
