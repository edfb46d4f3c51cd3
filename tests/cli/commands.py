"""`podium …` in this process against a real API server, and what the operator would write there."""

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result

from podium.cli import main
from podium.local import ControlPlane
from podium.ports import Json
from support.bed import workflow, workflow_run


class Shell:
    """A namespace, the command line in it, and a hand that plays the operator."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.namespace = f"cli-{secrets.token_hex(3)}"
        self.user = str(plane.kubeconfig)

    def podium(self, *arguments: str, stdin: str | None = None, **env: str) -> Result:
        """The command as a person in this namespace gives it."""
        given = [*arguments, "--kubeconfig", self.user, "-n", self.namespace]
        return CliRunner(env={"CONDUCTOR_SERVER_URL": "", **env}).invoke(main, given, input=stdin)

    def apply(self, *bodies: Json) -> None:
        text = "\n---\n".join(yaml.safe_dump(body) for body in bodies)
        self.plane.run("apply", "-n", self.namespace, "-f", "-", stdin=text)

    def get(self, kind: str, name: str) -> Json:
        found: Json = json.loads(self.plane.run("get", kind, name, "-n", self.namespace, "-o", "json"))
        return found

    def put_status(self, name: str, status: Json, kind: str = "workflowrun") -> None:
        """What the operator says of it."""
        patch = json.dumps({"status": {"observedGeneration": 1, **status}})
        self.plane.run(
            *("patch", kind, name, "-n", self.namespace, "--subresource=status", "--type=merge", "-p", patch)
        )

    def make_run(self, name: str, status: Json | None = None, **spec: Any) -> None:
        self.apply(workflow_run(name, "video", **spec))
        if status:
            self.put_status(name, status)

    def make_workflow(self, name: str = "video", **spec: Any) -> None:
        self.apply(workflow(name, "resize", **spec))


def task(name: str, **more: Any) -> Json:
    return {"id": name, "ref": name.replace("-", "_"), "type": "resize", "status": "Running", **more}


def in_process(shell: Shell, *arguments: str, kubeconfig: Path | None = None) -> int:
    """The command in a process of its own; its exit code."""
    environment = os.environ | {"KUBECONFIG": str(kubeconfig or shell.plane.kubeconfig)}
    given = [*arguments] if kubeconfig else [*arguments, "-n", shell.namespace]
    code = "from podium.cli import main; main(prog_name='podium')"
    return subprocess.run([sys.executable, "-c", code, *given], env=environment, check=False).returncode
