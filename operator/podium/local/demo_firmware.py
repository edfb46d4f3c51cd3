"""The part of the demo that has devices: a commit becomes an image, and simulated boards run it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from podium.local.control_plane import run_kubectl
from podium.local.errors import LocalError
from podium.local.processes import Program
from podium.local.services import Probe, Service, free_port
from podium.local.stack import Stack
from podium.local.state import StackState

NAMESPACE = "podium-firmware"
DEVICES = 3
_WORKFLOWS = ("firmware-build-failed", "firmware-rollback", "firmware-ci", "device-update")
_FINISHED = frozenset({"Succeeded", "Failed", "TimedOut", "Terminated"})
_LOOK_EVERY = 0.5
# A firmware asks a board every 30 s how it is; here somebody watches.
_HEALTH = {"interval": "1s", "timeout": "500ms", "offlineAfter": "10s"}


def find_firmware() -> Path:
    """The folder of the firmware workflows and the sample: in the package, or in the checkout."""
    here = Path(__file__).resolve()
    for folder in (here.with_name("firmware"), here.parents[3] / "manifests" / "firmware"):
        if (folder / "sample" / "platformio.ini").exists():
            return folder
    raise LocalError("this installation of podium has no firmware workflows: install it again.")


def why_no_firmware() -> str:
    """What building and updating lacks on this machine, with the remedy; empty if nothing."""
    if sys.platform != "linux":
        return "simulated devices need an address each in 127.0.0.0/8, which only Linux has"
    if shutil.which("git") is None:
        return "git is not installed"
    modules = {
        "platformio": "podium[firmware]",
        "SCons": "podium[firmware]",
        "ziglang": "ziglang",
        "esptool": "esptool",
    }
    missing = dict.fromkeys(
        package for name, package in modules.items() if not importlib.util.find_spec(name)
    )
    packages = " ".join(f"'{package}'" for package in missing)
    return f"not installed: pip install {packages}" if packages else ""


class FirmwareDemo:
    """Simulated devices and a worker that builds, as parts of a stack, and what is done with them.

    Raises LocalError if anything does not end as it should.
    """

    def __init__(self, stack: Stack, say: Callable[[str], None], within: float = 240.0) -> None:
        self._stack = stack
        self._state: StackState = stack.state()
        self._folder = stack.folder / "firmware"
        self._say = say
        self._within = within
        self._shown = ""

    def run(self) -> None:
        """From a commit to boards that run it, watched."""
        firmware = find_firmware()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        commit = self._commit(firmware / "sample")
        devices = self._bring_devices()
        self._bring_worker()
        self._kubectl(
            "apply", *(word for name in _WORKFLOWS for word in ("-f", str(firmware / f"{name}.yaml")))
        )
        self._kubectl("wait", "workflow", "--all", "--for=condition=Ready", "--timeout=60s")
        self._kubectl("wait", "device", "--all", "--for=condition=Online", "--timeout=60s")
        first, *others = devices
        self._say(f"commit {commit[:7]} is built, and brought to {first['metadata']['name']}:")
        status = self._follow(
            {
                "firmware-ci-1": _run(
                    "firmware-ci-1", "firmware-ci", first,
                    repository=str(self._repository), commit=commit, chip="ESP32C3",
                )
            }
        )["firmware-ci-1"]  # fmt: skip
        (artifact,) = status["output"]["artifacts"]
        self._say(f"it is well there; the same image ({artifact['size']:,} bytes) for the others:")
        self._follow(
            {
                (name := f"update-{device['metadata']['name']}"): _run(
                    name, "device-update", device, sha256=artifact["sha256"], commit=commit
                )
                for device in others
            }
        )
        self._await_builds(commit)
        for what in ("workflowruns", "devices"):
            self._say(f"$ kubectl get {what} -n {NAMESPACE}\n{self._kubectl('get', what)}")

    @property
    def _repository(self) -> Path:
        return self._folder / "repository"

    def _commit(self, sample: Path) -> str:
        """The sample firmware as a repository with one commit; which one."""
        shutil.copytree(sample, self._repository, dirs_exist_ok=True)
        self._git("init", "--quiet")
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", "The firmware of the demo")
        return self._git("rev-parse", "HEAD")

    def _git(self, *arguments: str) -> str:
        # Whatever settings the user's git has: a signature that it asks for would want a passphrase.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        for who in ("AUTHOR", "COMMITTER"):
            environment |= {f"GIT_{who}_NAME": "podium demo", f"GIT_{who}_EMAIL": "demo@podium.dev"}
        done = subprocess.run(
            ["git", "-C", str(self._repository), *arguments],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise LocalError(f"git {arguments[0]}: {done.stderr.strip()}")
        return done.stdout.strip()

    def _bring_devices(self) -> list[dict[str, Any]]:
        """The simulator, and the objects of its devices."""
        control, ports = f"127.0.0.1:{free_port()}", (free_port(), free_port())
        argv = (
            *(sys.executable, "-m", "podium_workers.simulator", "devices", "--count", str(DEVICES)),
            *("--chip", "ESP32C3", "--board", "esp32-c3-devkitm-1", "--slot-size", "1310720"),
            *("--ota-port", str(ports[0]), "--health-port", str(ports[1]), "--boot-seconds", "2"),
        )
        # A board takes a second or two for it, and one sees what is going on.
        program = self._program("simulator", (*argv, "--rate", "20000", "--listen", control))
        self._stack.add(Service(program, f"http://{control}", Probe(f"http://{control}/devices")))
        printed = subprocess.run(
            [*argv, "--namespace", NAMESPACE, "--manifests"],
            env={**os.environ, **program.env}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if printed.returncode:
            raise LocalError(f"podium simulate devices --manifests: {printed.stderr.strip()}")
        bodies: list[dict[str, Any]] = [body for body in yaml.safe_load_all(printed.stdout) if body]
        for body in bodies:
            if body["kind"] == "DeviceModel":
                body["spec"]["health"] |= _HEALTH
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        self._apply([space, *bodies])
        return [body for body in bodies if body["kind"] == "Device"]

    def _bring_worker(self) -> None:
        address = f"127.0.0.1:{free_port()}"
        argv = (
            *(
                sys.executable,
                "-m",
                "podium_workers",
                "--no-builtin",
                "--functions",
                "podium_workers.firmware",
            ),
            *("--namespaces", NAMESPACE, "--data-dir", str(self._folder / "data")),
            *("--listen", address, "--log-format", "text"),
        )
        program = self._program("firmware-worker", argv)
        self._stack.add(Service(program, f"http://{address}", Probe(f"http://{address}/readyz")))

    def _program(self, name: str, argv: tuple[str, ...]) -> Program:
        env = {
            "CONDUCTOR_SERVER_URL": self._state.conductor_url,
            "WORKER_KUBECONFIG": str(self._state.kubeconfig),
            "PODIUM_SIMULATE_PASSWORD": "glow-worm",
            "PODIUM_OTA_HOST": "127.0.0.1",
            "PODIUM_OTA_PORT": "0",
        }
        if self._state.wishes.context:
            env["WORKER_CONTEXT"] = self._state.wishes.context
        log = self._stack.folder / "logs" / f"{name}.log"
        return Program(name, argv, self._folder, log, env, ("PODIUM_ARTIFACTS",))

    def _follow(self, runs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Starts them; their statuses when all have succeeded."""
        self._apply(list(runs.values()))
        deadline = time.monotonic() + self._within
        while True:
            found = {
                item["metadata"]["name"]: item.get("status") or {}
                for item in self._read("workflowruns")
                if item["metadata"]["name"] in runs
            }
            self._show([*(_words(name, status) for name, status in found.items()), *self._device_words()])
            for name, status in found.items():
                if status.get("phase") in _FINISHED - {"Succeeded"}:
                    raise LocalError(f"{name} ended {status['phase']}: {status.get('message', '')}")
            if all(status.get("phase") == "Succeeded" for status in found.values()):
                return found
            if time.monotonic() > deadline:
                raise LocalError(
                    f"not ended within {self._within:.0f} s: {', '.join(runs)}; "
                    f"podium logs RUN -n {NAMESPACE} says where it is"
                )
            time.sleep(_LOOK_EVERY)

    def _await_builds(self, commit: str) -> None:
        deadline = time.monotonic() + 30.0
        while not all(_build(item) == commit for item in self._read("devices")):
            if time.monotonic() > deadline:
                raise LocalError(
                    f"not every device says that it runs {commit}: kubectl get devices -n {NAMESPACE}"
                )
            time.sleep(_LOOK_EVERY)
        self._show(self._device_words())

    def _device_words(self) -> list[str]:
        return [
            f"{item['metadata']['name']} {_build(item)[:7] or '-'}"
            + ("" if (item.get("status") or {}).get("connectivity") == "Online" else " (no answer)")
            for item in self._read("devices")
        ]

    def _show(self, words: list[str]) -> None:
        line = "  " + " | ".join(words)
        if line != self._shown:
            self._say(line)
            self._shown = line

    def _apply(self, bodies: list[dict[str, Any]]) -> None:
        self._kubectl("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, bodies)))

    def _read(self, what: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json.loads(self._kubectl("get", what, "-o", "json"))["items"]
        return items

    def _kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return run_kubectl(
            self._state.kubectl, self._state.kubeconfig, *arguments, "-n", NAMESPACE, stdin=stdin
        )


def _run(name: str, workflow: str, device: dict[str, Any], **given: Any) -> dict[str, Any]:
    """A WorkflowRun that brings something to this device."""
    spec = device["spec"]
    secret = spec["credentialsSecret"]
    return {
        "apiVersion": device["apiVersion"],
        "kind": "WorkflowRun",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "workflow": workflow,
            "input": {
                **given,
                "device": {**spec["address"], "mac": spec["mac"], "chip": "ESP32C3"},
                "otaPassword": {"_type": "secretKeyRef", "name": secret["name"], "key": secret["key"]},
                "probeInterval": "500ms",
            },
        },
    }


def _words(name: str, status: dict[str, Any]) -> str:
    return " ".join(
        filter(None, (name, status.get("phase"), status.get("progress"), status.get("currentTask")))
    )


def _build(device: dict[str, Any]) -> str:
    reported = ((device.get("status") or {}).get("firmware") or {}).get("reported") or {}
    return str(reported.get("build", ""))
