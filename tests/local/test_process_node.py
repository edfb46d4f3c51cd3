"""Pods as processes: what one sees with kubectl is what a real node would show."""

import asyncio
import contextlib
import json
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from podium.local import ControlPlane, LocalError
from podium.local.process_node.node import ProcessNode
from podium.local.processes import Identity, Process, Program, identify, is_alive, stop
from support.eventually import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

Json = dict[str, Any]

SERVER = """
import http.server, json, os, signal, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if self.path == '/healthz' and os.path.exists('sick') else 200)
        self.end_headers()
        self.wfile.write(json.dumps({'env': dict(os.environ), 'argv': sys.argv[1:]}).encode())
    def do_POST(self):
        open('sick', 'w').close()
        self.do_GET()
    def log_message(self, *_): pass
def drain(*_):
    print('drained', flush=True)
    threading.Thread(target=server.shutdown).start()
signal.signal(signal.SIGTERM, drain)
server = http.server.ThreadingHTTPServer((sys.argv[1], 8080), Handler)
print('serving', flush=True)
server.serve_forever()
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('up', flush=True)
while True:
    time.sleep(9)
"""


class Place:
    """A namespace with a stand-in node of its own."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self.plane = plane
        self.namespace = f"p-{secrets.token_hex(3)}"
        self.node = ProcessNode(
            plane.kubeconfig, folder / "node", name=f"node-{self.namespace}", namespace=self.namespace
        )

    async def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return await asyncio.to_thread(self.plane.run, "-n", self.namespace, *arguments, stdin=stdin)

    async def apply(self, *objects: Json) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        await self.kubectl("apply", "-f", "-", stdin=text)

    async def pods(self) -> list[Json]:
        items: list[Json] = json.loads(await self.kubectl("get", "pods", "-o", "json"))["items"]
        return items

    async def ready_pods(self, count: int) -> list[Json]:
        """Until so many pods are there, and all are ready."""
        return await eventually(
            self.pods, lambda pods: len(pods) == count and all(map(is_ready, pods)), within=20, every=0.2
        )

    async def until_pod(self, wanted: Any, within: float = 20) -> Json:
        """Until the only pod is as wanted."""
        pods = await eventually(
            self.pods, lambda pods: len(pods) == 1 and wanted(container(pods[0])), within=within, every=0.1
        )
        return container(pods[0])

    def process(self, pod: Json) -> Identity:
        found = self.node.identify(self.namespace, pod["metadata"]["name"])
        assert found is not None
        return found


def container(pod: Json) -> Json:
    """Its status."""
    found: list[Json] = pod.get("status", {}).get("containerStatuses") or [{"state": {}, "lastState": {}}]
    return found[0]


def is_ready(pod: Json) -> bool:
    return any(
        c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", [])
    )


def read_log(pod: Json) -> str:
    return Path(pod["metadata"]["annotations"]["podium.dev/logs"], "0.log").read_text()


def is_folder(path: str) -> bool:
    return Path(path).is_dir()


def find_processes(folder: Path) -> list[Identity]:
    """Those that work in this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(folder):
                found.append(identify(int(entry.name)))
    return [identity for identity in found if identity]


def deployment(replicas: int, script: str, *args: str, pod: Json | None = None, **more: Any) -> Json:
    one: Json = {
        "name": "worker",
        "image": "worker",
        "command": ["python3", "-c", script],
        "args": list(args),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **more,
    }
    labels = {"podium.dev/pool": "media"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "media"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [one], "terminationGracePeriodSeconds": 10, **(pod or {})},
            },
        },
    }


def server(replicas: int, *args: str, **more: Any) -> Json:
    """Pods that answer on port 8080 with their environment and arguments."""
    ready = {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1}
    more = {"readinessProbe": ready, "ports": [{"name": "http", "containerPort": 8080}], **more}
    return deployment(replicas, SERVER, "0.0.0.0", *args, **more)


@pytest.fixture
async def place(cluster: ControlPlane, tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(cluster, tmp_path)
    await asyncio.to_thread(cluster.run, "create", "namespace", place.namespace)
    async with place.node:
        yield place
    await asyncio.to_thread(cluster.run, "delete", "namespace", place.namespace, "--wait=false")


async def ask(pod: Json, method: str = "GET") -> Json:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://{pod['status']['podIP']}:8080/") as answer,
    ):
        body: Json = await answer.json(content_type=None)
        return body


async def test_pods_get_ready_with_their_environment(place: Place) -> None:
    await place.kubectl("create", "secret", "generic", "login", "--from-literal=password=s3cret")
    await place.kubectl("create", "configmap", "options", "--from-literal=MODEL=small")
    field: Any = lambda path: {"fieldRef": {"fieldPath": path}}  # noqa: E731
    env = [
        {"name": "POD_IP", "valueFrom": field("status.podIP")},
        {"name": "POD_NAME", "valueFrom": field("metadata.name")},
        {"name": "NODE", "valueFrom": field("spec.nodeName")},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
        {"name": "LISTEN", "value": "$(POD_IP):9090"},
        {"name": "DATA", "value": "/data/results"},
    ]
    await place.apply(
        server(
            2,
            "--data=/data",
            "$(POD_NAME)",
            env=env,
            envFrom=[{"configMapRef": {"name": "options"}}],
            volumeMounts=[
                {"name": "data", "mountPath": "/data"},
                {"name": "login", "mountPath": "/etc/login"},
            ],
            pod={
                "volumes": [
                    {"name": "data", "emptyDir": {}},
                    {"name": "login", "secret": {"secretName": "login"}},
                ]
            },
        )
    )
    pods = await place.ready_pods(2)
    assert len({pod["status"]["podIP"] for pod in pods}) == 2
    for pod in pods:
        seen = await ask(pod)
        name, address = pod["metadata"]["name"], pod["status"]["podIP"]
        own = {
            key: seen["env"].get(key) for key in ("POD_IP", "POD_NAME", "NODE", "PASSWORD", "MODEL", "LISTEN")
        }
        assert own == {
            "POD_IP": address,
            "POD_NAME": name,
            "NODE": place.node.name,
            "PASSWORD": "s3cret",
            "MODEL": "small",
            "LISTEN": f"{address}:9090",
        }
        folder = seen["argv"][1].removeprefix("--data=")
        assert is_folder(folder)
        assert seen["env"]["DATA"] == f"{folder}/results"
        assert seen["argv"][0] == address
        assert seen["argv"][2] == name
        assert "PYTEST_CURRENT_TEST" not in seen["env"], (
            "the environment of this process is nobody's business"
        )
        # The rights of the service account, and no more.
        with pytest.raises(LocalError, match="forbidden"):
            await place.kubectl("get", "pods", f"--kubeconfig={seen['env']['KUBECONFIG']}")
        assert read_log(pod) == "serving\n"
    nodes = await place.kubectl("get", "nodes", "-l", "podium.dev/stand-in=process")
    assert f"{place.node.name}   Ready" in nodes
    available = "jsonpath={.status.availableReplicas}"
    await eventually(lambda: place.kubectl("get", "deployment", "media", "-o", available), "2".__eq__)


async def test_scaled_down_the_cheapest_pod_drains(place: Place) -> None:
    await place.apply(server(3))
    pods = await place.ready_pods(3)
    cheap, *dear = pods
    for pod in dear:
        cost = "controller.kubernetes.io/pod-deletion-cost=10"
        await place.kubectl("annotate", "pod", pod["metadata"]["name"], cost)
    leaving = place.process(cheap)
    watch = await asyncio.create_subprocess_exec(
        *(place.plane.kubectl, f"--kubeconfig={place.plane.kubeconfig}", "-n", place.namespace),
        *("get", "pod", cheap["metadata"]["name"], "--watch", "-o", "json"),
        stdout=asyncio.subprocess.PIPE,
    )
    await place.kubectl("scale", "deployment", "media", "--replicas=2")
    left = await place.ready_pods(2)
    assert {pod["metadata"]["name"] for pod in left} == {pod["metadata"]["name"] for pod in dear}
    assert not is_alive(leaving)
    assert read_log(cheap) == "serving\ndrained\n"
    watch.terminate()
    told = (await watch.communicate())[0].decode()
    assert '"reason": "Completed"' in told, "its end is told before it goes"
    assert '"exitCode": 0' in told
    await place.kubectl("scale", "deployment", "media", "--replicas=3")
    await place.ready_pods(3)


async def test_who_does_not_end_is_killed_after_the_grace_period(place: Place) -> None:
    await place.apply(deployment(1, STUBBORN, pod={"terminationGracePeriodSeconds": 1}))
    (pod,) = await place.ready_pods(1)
    process = place.process(pod)
    await eventually(lambda: asyncio.to_thread(read_log, pod), bool)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await place.kubectl("delete", "deployment", "media", "--cascade=foreground")
    assert await place.pods() == []
    assert loop.time() - began >= 1.0
    assert not is_alive(process)


async def test_a_crash_loop_is_told_with_its_last_words(place: Place) -> None:
    await place.apply(deployment(1, "import sys; print('no license'); sys.exit(3)"))
    seen = await place.until_pod(
        lambda c: (
            c.get("restartCount", 0) >= 2
            and c["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
        )
    )
    end = seen["lastState"]["terminated"]
    assert (end["exitCode"], end["reason"], end["message"]) == (3, "Error", "no license\n")
    assert "back-off" in seen["state"]["waiting"]["message"]
    (pod,) = await place.pods()
    assert pod["status"]["phase"] == "Running"
    assert not is_ready(pod)


async def test_a_command_that_is_not_there_is_told(place: Place) -> None:
    await place.apply(deployment(1, "", command=["no-such-program"]))
    seen = await place.until_pod(lambda c: c["lastState"].get("terminated"))
    assert seen["lastState"]["terminated"]["reason"] == "StartError"
    assert "no-such-program: No such file" in seen["lastState"]["terminated"]["message"]


async def test_an_image_that_cannot_be_pulled_is_told(place: Place) -> None:
    await place.apply(deployment(1, SERVER, image="missing/worker:1"))
    seen = await place.until_pod(lambda c: c["state"].get("waiting", {}).get("reason") == "ImagePullBackOff")
    assert "missing/worker:1" in seen["state"]["waiting"]["message"]
    (pod,) = await place.pods()
    assert pod["status"]["phase"] == "Pending"
    await place.kubectl("delete", "deployment", "media", "--cascade=foreground")
    assert await place.pods() == []


async def test_a_missing_secret_is_waited_for(place: Place) -> None:
    env = [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "later", "key": "password"}}}]
    await place.apply(server(1, env=env))
    seen = await place.until_pod(lambda c: c["state"].get("waiting", {}).get("message"))
    assert seen["state"]["waiting"] == {
        "reason": "CreateContainerConfigError",
        "message": 'secret "later" not found',
    }
    await place.kubectl("create", "secret", "generic", "later", "--from-literal=password=x")
    await place.ready_pods(1)


async def test_a_pod_that_no_node_fits_stays_pending(place: Place) -> None:
    await place.apply(server(1, pod={"nodeSelector": {"gpu": "yes"}}))
    (pod,) = await eventually(
        place.pods, lambda pods: len(pods) == 1 and pods[0]["status"].get("conditions"), every=0.1
    )
    assert pod["status"]["conditions"][0]["reason"] == "Unschedulable"
    assert "nodeName" not in pod["spec"]


async def test_a_killed_process_is_restarted_in_its_pod(place: Place) -> None:
    await place.apply(server(1))
    (pod,) = await place.ready_pods(1)
    stop([place.process(pod)], grace=0)
    seen = await place.until_pod(lambda c: c.get("restartCount") == 1 and c["ready"])
    assert seen["lastState"]["terminated"]["exitCode"] == 128 + signal.SIGKILL
    (again,) = await place.pods()
    assert again["metadata"]["uid"] == pod["metadata"]["uid"]
    assert again["status"]["podIP"] == pod["status"]["podIP"]


async def test_who_is_not_alive_is_restarted(place: Place) -> None:
    alive = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1, "failureThreshold": 2}
    await place.apply(server(1, livenessProbe=alive))
    (pod,) = await place.ready_pods(1)
    await ask(pod, "POST")
    seen = await place.until_pod(lambda c: c.get("restartCount") == 1)
    assert seen["lastState"]["terminated"]["exitCode"] == 0, "it was asked to end, and drained"


async def test_what_its_program_leaves_behind_ends_with_it(place: Place) -> None:
    script = "import subprocess, sys; print(subprocess.Popen(['sleep', '600']).pid, flush=True); sys.exit(1)"
    await place.apply(deployment(1, script))
    seen = await place.until_pod(lambda c: c["lastState"].get("terminated"))
    child = int(seen["lastState"]["terminated"]["message"].split()[0])
    await eventually(lambda: asyncio.to_thread(identify, child), lambda found: found is None)


async def test_stopped_the_node_takes_all_with_it(cluster: ControlPlane, tmp_path: Path) -> None:
    place = Place(cluster, tmp_path)
    await asyncio.to_thread(cluster.run, "create", "namespace", place.namespace)
    await place.node.start()
    await place.apply(server(3))
    running = [place.process(pod) for pod in await place.ready_pods(3)]
    await place.node.stop()
    assert not any(map(is_alive, running))
    assert place.node.name not in await place.kubectl("get", "nodes", "-o", "name")
    assert all("nodeName" not in pod["spec"] for pod in await place.pods())
    await place.kubectl("delete", "namespace", place.namespace, "--timeout=30s")
    with pytest.raises(LocalError, match="not found"):
        await place.kubectl("get", "namespace", place.namespace)


async def test_killed_the_node_leaves_no_process_and_another_goes_on(
    cluster: ControlPlane, tmp_path: Path
) -> None:
    place = Place(cluster, tmp_path)
    name = place.node.name
    await asyncio.to_thread(cluster.run, "create", "namespace", place.namespace)
    argv = (
        *(
            sys.executable,
            "-m",
            "podium.local.process_node",
            str(cluster.kubeconfig),
            str(tmp_path / "first"),
        ),
        *("--namespace", place.namespace, "--name", name),
    )
    first = await asyncio.to_thread(Process.start, Program("node", argv, tmp_path, tmp_path / "log"))
    await place.apply(server(2))
    await place.ready_pods(2)
    running = await asyncio.to_thread(find_processes, tmp_path / "first" / "pods")
    assert len(running) == 4, "two pods and their leashes"
    await asyncio.to_thread(first.kill)
    await eventually(lambda: asyncio.to_thread(lambda: any(map(is_alive, running))), lambda left: not left)
    async with place.node:
        pods = await eventually(
            place.pods,
            lambda pods: (
                len(pods) == 2 and all(container(p).get("restartCount") == 1 and is_ready(p) for p in pods)
            ),
            every=0.1,
        )
        assert container(pods[0])["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    await place.kubectl("delete", "namespace", place.namespace, "--wait=false")
