"""The part of the demo that has devices: a commit becomes an image, and simulated boards run it."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from podium.local.demo_stage import FINISHED, Stage
from podium.local.errors import LocalError
from podium.local.processes import Program
from podium.local.services import Probe, Service, free_port

NAMESPACE = "podium-firmware"
DEVICES = 3
_WORKFLOWS = ("firmware-build-failed", "firmware-rollback", "firmware-ci", "device-update")
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
        "platformio": ".[firmware]",
        "SCons": ".[firmware]",
        "ziglang": "ziglang",
        "esptool": "esptool",
    }
    missing = dict.fromkeys(
        package for name, package in modules.items() if not importlib.util.find_spec(name)
    )
    packages = " ".join(f"'{package}'" for package in missing)
    return f"not installed: in a checkout of Podium, pip install {packages}" if packages else ""


class FirmwareDemo:
    """Simulated devices and a worker that builds, as parts of a stack, and what is done with them.

    Raises LocalError if anything does not end as it should.
    """

    def __init__(self, stage: Stage, within: float = 240.0) -> None:
        self._stage = stage
        self._folder = stage.stack.folder / "firmware"
        self._repository = self._folder / "repository"
        self._within = within

    def run(self) -> None:
        """From a commit to boards that run it, watched."""
        firmware, say = find_firmware(), self._stage.say
        self._folder.mkdir(mode=0o700, exist_ok=True)
        commit = self._commit(firmware / "sample")
        first, *others = self._bring_devices()
        self._bring_worker()
        files = [("-f", str(firmware / f"{name}.yaml")) for name in _WORKFLOWS]
        self._kubectl("apply", *itertools.chain(*files))
        self._kubectl("wait", "workflow", "--all", "--for=condition=Ready", "--timeout=60s")
        self._kubectl("wait", "device", "--all", "--for=condition=Online", "--timeout=60s")
        say(f"commit {commit[:7]} is built, and brought to {first['metadata']['name']}:")
        built = self._follow(
            _run(
                "firmware-ci-1", "firmware-ci", first,
                repository=str(self._repository), commit=commit, chip="ESP32C3",
            )
        )["firmware-ci-1"]["output"]  # fmt: skip
        for gate in built["gates"]:
            say(f"  {'passed' if gate['passed'] else 'FAILED'}: {gate['message']}")
        (artifact,) = built["artifacts"]
        say(f"it is well there; the same image ({artifact['size']:,} bytes) for the others:")
        self._follow(
            *(
                _run(
                    f"update-{device['metadata']['name']}", "device-update", device,
                    sha256=artifact["sha256"], commit=commit,
                )
                for device in others
            )
        )  # fmt: skip
        self._stage.until(
            lambda: all(_build(item) == commit for item in self._read("devices")),
            within=30.0,
            otherwise=lambda: f"a device does not run {commit}: kubectl get devices -n {NAMESPACE}",
        )
        for what in ("workflowruns", "devices"):
            say(f"$ kubectl get {what} -n {NAMESPACE}\n{self._kubectl('get', what)}")

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
        self._stage.stack.add(Service(program, f"http://{control}", Probe(f"http://{control}/devices")))
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
        self._stage.apply([space, *bodies])
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
        self._stage.stack.add(Service(program, f"http://{address}", Probe(f"http://{address}/readyz")))

    def _program(self, name: str, argv: tuple[str, ...]) -> Program:
        state = self._stage.state
        env = {
            "CONDUCTOR_SERVER_URL": state.conductor_url,
            "WORKER_KUBECONFIG": str(state.kubeconfig),
            "PODIUM_SIMULATE_PASSWORD": "glow-worm",
            "PODIUM_OTA_HOST": "127.0.0.1",
            "PODIUM_OTA_PORT": "0",
        }
        if state.wishes.context:
            env["WORKER_CONTEXT"] = state.wishes.context
        log = self._stage.stack.folder / "logs" / f"{name}.log"
        return Program(name, argv, self._folder, log, env, ("PODIUM_ARTIFACTS",))

    def _follow(self, *runs: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Starts them; name → status, when all have succeeded."""
        names = {run["metadata"]["name"] for run in runs}
        found: dict[str, dict[str, Any]] = {}
        self._stage.apply(runs)

        def all_succeeded() -> bool:
            nonlocal found
            found = {
                item["metadata"]["name"]: item.get("status") or {}
                for item in self._read("workflowruns")
                if item["metadata"]["name"] in names
            }
            words = [*(_words(name, status) for name, status in found.items()), *self._device_words()]
            self._stage.say_once("  " + " | ".join(words))
            for name, status in found.items():
                if status.get("phase") in FINISHED - {"Succeeded"}:
                    raise LocalError(f"{name} ended {status['phase']}: {status.get('message', '')}")
            return all(status.get("phase") == "Succeeded" for status in found.values())

        self._stage.until(
            all_succeeded,
            within=self._within,
            otherwise=lambda: f"{', '.join(names)}; podium logs RUN -n {NAMESPACE} says where it is",
        )
        return found

    def _device_words(self) -> list[str]:
        return [
            f"{item['metadata']['name']} {_build(item)[:7] or '-'}"
            + ("" if (item.get("status") or {}).get("connectivity") == "Online" else " (no answer)")
            for item in self._read("devices")
        ]

    def _read(self, what: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self._stage.read(what, "-n", NAMESPACE)["items"]
        return items

    def _kubectl(self, *arguments: str) -> str:
        return self._stage.kubectl(*arguments, "-n", NAMESPACE)


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
