"""KEDA's operator beside ours: built from its Go module once, and run against the bed's API server."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

from podium.local.cache import Cache
from podium.local.pki import Authority
from podium.local.progress import open_progress
from podium.local.services import free_port
from podium.ports import Json
from support.bed import Bed

VERSION = "v2.21.0"
_MODULE = f"github.com/kedacore/keda/v2@{VERSION}"


def provide_keda() -> Path:
    """Its folder: `operator` and `crds`. The first build takes a quarter of an hour on two cores."""
    with open_progress() as progress:

        def build(folder: Path) -> None:
            with progress.step(f"building KEDA {VERSION} (once)"):
                folder.mkdir()
                told = _go(folder, "mod", "download", "-json", _MODULE)
                # Built in its own module, which says what it replaces.
                source = folder / "source"
                shutil.copytree(json.loads(told)["Dir"], source)
                for path in (source, *source.rglob("*")):
                    path.chmod(path.stat().st_mode | 0o200)
                _go(
                    source,
                    "build",
                    "-trimpath",
                    "-ldflags=-s -w",
                    "-o",
                    str(folder / "operator"),
                    "./cmd/operator",
                )
                shutil.copytree(source / "config" / "crd" / "bases", folder / "crds")
                shutil.rmtree(source)

        return Cache.of().once(f"keda/{VERSION}", "KEDA", build, progress, lambda: False)


def _go(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    done = subprocess.run(
        ["go", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"go {arguments[0]}: {done.stderr[-4000:]}"
    return done.stdout


@contextlib.asynccontextmanager
async def keda(bed: Bed, folder: Path) -> AsyncIterator[None]:
    """It runs, for the bed's namespace."""
    built = await asyncio.to_thread(provide_keda)
    for crd in sorted((built / "crds").glob("keda.sh_*.yaml")):
        await bed.kubectl("apply", "--server-side", "-f", str(crd))
    await bed.kubectl(
        "wait", "--for=condition=Established", "--timeout=60s", "crd/scaledobjects.keda.sh",
        "crd/scaledjobs.keda.sh", "crd/triggerauthentications.keda.sh",
        "crd/clustertriggerauthentications.keda.sh",
    )  # fmt: skip
    # Its metrics service, which nobody asks here, wants certificates.
    certificates = folder / "keda"
    certificates.mkdir()
    authority = Authority(certificates, "keda", datetime.now(UTC))
    authority.issue("tls", "keda", hosts=("127.0.0.1",))
    shutil.copy(authority.certificate, certificates / "ca.crt")
    addresses = [
        f"--{what}-bind-address=127.0.0.1:{free_port()}"
        for what in ("metrics", "health-probe", "metrics-service")
    ]
    with (folder / "keda.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(built / "operator"), *addresses, f"--cert-dir={certificates}",
            env={
                **os.environ, "KUBECONFIG": str(bed.plane.kubeconfig), "WATCH_NAMESPACE": bed.namespace,
                "POD_NAMESPACE": bed.namespace, "KEDA_CLUSTER_OBJECT_NAMESPACE": bed.namespace,
            },
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield
        assert process.returncode is None, (folder / "keda.log").read_text()[-4000:]
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def scaled(bed: Bed, name: str, task_type: str, **spec: object) -> list[Json]:
    """A Deployment of nothing, and the ScaledObject that follows the same queue as a WorkerPool would."""
    labels = {"app": name}
    container = {"name": "worker", "image": "podium-worker"}
    queue = f"{bed.namespace}:{task_type}"
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        },
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": name},
            "spec": {
                "scaleTargetRef": {"name": name},
                "minReplicaCount": 0,
                "triggers": [
                    {
                        "type": "metrics-api",
                        "metadata": {
                            "url": f"{bed.server.url}/tasks/queue/sizes?taskType={queue}",
                            "valueLocation": "@values.0",
                            "targetValue": "5",
                        },
                    }
                ],
                **spec,
            },
        },
    ]
