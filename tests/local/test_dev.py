"""`podium dev` with real parts: what a user sees, and that nothing is left behind."""

import functools
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from podium.local import Conductor, ControlPlane
from podium.local.control_plane import run_kubectl
from podium.local.network import is_locked
from podium.local.node_host import find_node_host, why_no_node
from podium.local.processes import Identity, identify, is_alive, stop, wait_until
from podium.local.services import Probe
from podium.local.state import read_state

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COMMAND = (sys.executable, "-c", "from podium.cli.dev import dev; dev(prog_name='podium dev')")
BARE = ("--no-operator", "--no-worker")


class Dev:
    """The command, with a state folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {k: v for k, v in os.environ.items() if k not in ("KUBECONFIG", "PODIUM_CONTEXT")}
        self.env["PODIUM_STATE"] = str(root)

    def run(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            env={**self.env, **(env or {})},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def open(self, *arguments: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen([*COMMAND, *arguments], env=self.env, stdout=pipe, stderr=pipe, text=True)

    def status(self, name: str = "default") -> dict[str, dict[str, object]]:
        report = json.loads(self.run("status", "--name", name, "-o", "json").stdout)
        return {part["name"]: part for part in report["parts"]}

    def identities(self, name: str = "default") -> list[Identity]:
        state = read_state(self.root / "dev" / name)
        return [part.identity for part in state.parts.values() if part.identity] if state else []


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    dev = Dev(tmp_path / "state")
    yield dev
    for folder in (dev.root / "dev").glob("*"):
        dev.run("down", "--name", folder.name)


def test_up_status_env_logs_down(dev: Dev) -> None:
    up = dev.run("up")
    assert up.returncode == 0, up.stderr
    assert 'podium dev "default" is up' in up.stdout
    assert "pods of WorkerPools run as processes of this machine (stand-in; no images)" in up.stdout
    assert "starting conductor" in up.stderr

    status = dev.run("status")
    assert status.returncode == 0
    servers = ("etcd", "kube-apiserver", "kube-controller-manager", "conductor")
    for part in (*servers, "stand-in-node", "operator", "worker"):
        assert f"\n{part} " in status.stdout
    pids = {name: part["pid"] for name, part in dev.status().items()}

    env = dev.run("env")
    assert [line.split("=")[0] for line in env.stdout.splitlines()] == [
        "export KUBECONFIG",
        "export CONDUCTOR_SERVER_URL",
        "export PATH",
    ]
    shell = f"{env.stdout}\nkubectl get workflows && command -v podium && echo $CONDUCTOR_SERVER_URL"
    answer = subprocess.run(["sh", "-ec", shell], capture_output=True, text=True, check=True)
    assert "No resources found" in answer.stderr
    with urllib.request.urlopen(answer.stdout.split()[-1] + "/metadata/workflow", timeout=10) as definitions:
        assert definitions.status == 200

    assert "Started Conductor" in dev.run("logs", "conductor").stdout
    wrong = dev.run("logs", "conducter")
    assert wrong.returncode == 1
    assert "conductor" in wrong.stderr

    again = dev.run("up")
    assert 'podium dev "default" is already up' in again.stdout
    assert pids == {name: part["pid"] for name, part in dev.status().items()}

    wrong = dev.run("status", "--name", "defualt")
    assert wrong.returncode == 1
    assert 'there is no dev stack "defualt"; there are: default.' in wrong.stderr

    told = dev.root / "dev/default/stand-in-node/pods/default/sleeper/work/pid"
    pod = "kubectl run sleeper --labels podium.dev/pool=x --image x --command -- sh -c"
    subprocess.run(["sh", "-ec", f"{env.stdout}\n{pod} 'echo $$$$ > pid; exec sleep 900'"], check=True)
    assert wait_until(lambda: told.exists() and told.read_text() != "", 20)
    sleeper = identify(int(told.read_text()))
    assert sleeper is not None

    running = [*dev.identities(), sleeper]
    assert all(map(is_alive, running))
    down = dev.run("down")
    assert down.returncode == 0, down.stderr
    assert not any(map(is_alive, running))
    assert not dev.root.exists()
    assert dev.run("down").returncode == 0
    env = dev.run("env")
    assert (env.returncode, env.stdout) == (1, "")


def test_with_a_node_pods_run(dev: Dev, tmp_path: Path) -> None:
    if obstacle := why_no_node(find_node_host()):
        pytest.skip(obstacle)
    up = dev.run("up", "--node", *BARE)
    assert up.returncode == 0, up.stderr
    state = read_state(dev.root / "dev" / "default")
    assert state is not None
    assert state.node is not None
    run = functools.partial(run_kubectl, state.kubectl, state.kubeconfig)
    run("run", "idle", "--image=localhost/podium-pause:1")
    run("wait", "--for=condition=Ready", "pod/idle", "--timeout=60s")
    # The address of Conductor is one that holds for Pods too.
    assert state.node.network.there in state.conductor_url
    assert Probe(f"{state.conductor_url}/metadata/workflow").answers()

    (tmp_path / "no-image.tar").write_text("this is no archive")
    load = dev.run("load", str(tmp_path / "no-image.tar"))
    assert load.returncode == 1
    assert "no-image.tar cannot be loaded" in load.stderr

    containerd = state.parts["containerd"].identity
    assert containerd is not None
    stop([containerd], grace=0)
    assert dev.run("up", *BARE).returncode == 0
    run("wait", "--for=condition=Ready", "pod/idle", "--timeout=90s")

    assert dev.run("down").returncode == 0
    assert not is_locked(state.node.network.lock)
    assert not dev.root.exists()


def test_a_stack_without_a_node_says_how_to_get_one(dev: Dev, tmp_path: Path) -> None:
    assert dev.run("up", "--node", "--context", "mine").returncode == 2
    assert dev.run("up", *BARE).returncode == 0
    (tmp_path / "image.tar").touch()
    load = dev.run("load", str(tmp_path / "image.tar"))
    assert load.returncode == 1
    assert "start it with --node" in load.stderr


def test_what_died_is_restarted_and_the_rest_left_alone(dev: Dev) -> None:
    assert dev.run("up", "--no-worker").returncode == 0
    before = {name: part["pid"] for name, part in dev.status().items()}
    killed = [identify(int(str(before[name]))) for name in ("operator", "conductor", "etcd")]
    stop([identity for identity in killed if identity], grace=0)
    status = dev.run("status")
    assert status.returncode == 1
    assert "no" in next(line for line in status.stdout.splitlines() if line.startswith("etcd")).split()

    assert dev.run("up", "--no-worker").returncode == 0
    after = {name: part["pid"] for name, part in dev.status().items()}
    assert dev.run("status").returncode == 0
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"operator", "conductor", "etcd"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_up_leaves_nothing_running(dev: Dev, number: int) -> None:
    up = dev.open("up", *BARE)
    assert wait_until(lambda: len(dev.identities()) >= 3, 120)
    started = dev.identities()
    up.send_signal(number)
    up.communicate(timeout=60)
    assert wait_until(lambda: not any(map(is_alive, started)), 90)
    if number == signal.SIGKILL:
        # Nobody was left to tidy up; the next command does.
        assert dev.run("status").returncode == 1
        assert dev.run("down").returncode == 0
    assert not dev.root.exists()


def test_a_failed_up_leaves_nothing(dev: Dev) -> None:
    up = dev.run("up", "--conductor-url", "http://127.0.0.1:9", *BARE)
    assert up.returncode == 1
    assert "podium: no Conductor answers at http://127.0.0.1:9/api" in up.stderr
    assert not dev.root.exists()


def test_missing_programs_are_told_together(dev: Dev, tmp_path: Path) -> None:
    bare = {"PATH": str(tmp_path), "PODIUM_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    up = dev.run("up", env=bare)
    assert up.returncode == 1
    lines = up.stderr.splitlines()
    assert any(line.startswith("podium: Go 1.26 or newer is needed") for line in lines)
    assert any(line.startswith("podium: Maven 3.8 or newer is needed") for line in lines)
    assert not dev.root.exists()


def test_two_ups_at_once_make_one_stack(dev: Dev) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: dev.run("up", *BARE), range(2))
    assert (first.returncode, second.returncode) == (0, 0)
    assert sorted("already" in up.stdout for up in (first, second)) == [False, True]
    assert dev.run("status").returncode == 0


def test_a_named_context_and_a_conductor_of_the_users(dev: Dev, tmp_path: Path) -> None:
    with (
        ControlPlane.start(tmp_path / "theirs") as cluster,
        Conductor.start(tmp_path / "their-conductor") as conductor,
    ):
        theirs = {
            "KUBECONFIG": str(cluster.kubeconfig),
            "PATH": f"{cluster.kubectl.parent}:{os.environ['PATH']}",
        }
        wrong = dev.run("up", "--context", "ghost", *BARE, env=theirs)
        assert wrong.returncode == 1
        assert 'there is no context "ghost" in the kubeconfig; there are: podium-local.' in wrong.stderr

        server = conductor.url.removesuffix("/api")
        up = dev.run("up", "--context", cluster.context, "--conductor-url", server, "--no-worker", env=theirs)
        assert up.returncode == 0, up.stderr
        assert "using the context podium-local" in up.stderr
        assert {name: part["healthy"] for name, part in dev.status().items()} == {
            "cluster": True,
            "conductor": True,
            "operator": True,
        }
        refused = dev.run("up", "--context", "another", env=theirs)
        assert refused.returncode == 1
        assert "with another cluster or Conductor" in refused.stderr

        cluster.kill()
        assert dev.run("status").returncode == 1
        cluster.restart()
        down = dev.run("down")
        assert down.returncode == 0
        assert "are still in the cluster of podium-local" in down.stderr
        assert "podium.dev" in cluster.run("get", "crds", "-o", "name")
        assert not dev.root.exists()


KIND = """#!/bin/sh
echo "$KIND_EXPERIMENTAL_PROVIDER $*" >> {folder}/calls
while [ $# -gt 0 ]; do [ "$1" = --kubeconfig ] && target=$2; [ "$1" = create ] && create=1; shift; done
[ -n "$create" ] && cp {kubeconfig} "$target"
exit 0
"""


def test_a_kind_cluster_is_made_and_deleted_by_its_own_name(dev: Dev, tmp_path: Path) -> None:
    """No engine can be taken for granted here: a stand-in for kind hands out a real control plane."""
    with (
        ControlPlane.start(tmp_path / "node") as cluster,
        Conductor.start(tmp_path / "conductor") as conductor,
    ):
        programs = tmp_path / "bin"
        programs.mkdir()
        kind = KIND.format(folder=tmp_path, kubeconfig=cluster.kubeconfig)
        for name, script in (("kind", kind), ("podman", "#!/bin/sh\n"), ("docker", "#!/bin/sh\nexit 1\n")):
            (programs / name).write_text(script)
            (programs / name).chmod(0o755)
        env = {"PATH": f"{programs}:{cluster.kubectl.parent}:{os.environ['PATH']}"}
        up = dev.run("up", "--name", "k", "--conductor-url", conductor.url, *BARE, env=env)
        assert up.returncode == 0, up.stderr
        assert cluster.url in up.stdout
        assert dev.run("status", "--name", "k").returncode == 0
        assert dev.run("down", "--name", "k", env=env).returncode == 0
        assert not dev.root.exists()
    folder = dev.root / "dev" / "k"
    kubeconfig = f"--kubeconfig {folder / 'kubeconfig'}"
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"podman create cluster --name podium-k {kubeconfig} --wait 180s",
        f"podman delete cluster --name podium-k {kubeconfig}",
    ]
