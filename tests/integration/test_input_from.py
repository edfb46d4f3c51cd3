"""A Secret reaches the function that needs it, and is nowhere else: not in Conductor, a status or a log."""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from podium.ports import Json
from support.bed import Bed, condition, workflow, workflow_run

pytestmark = pytest.mark.slow

VALUE = "s3cr3t-value-0815"
PROBES = Path(__file__).parent.parent / "workers"
FROM_API = [{"secretKeyRef": {"name": "api", "key": "token"}, "toField": "token"}]
CONFIG: Json = {"token": "${workflow.input.token}"}


async def give_rights(bed: Bed) -> Path:
    """A Secret, a service account that may read it and nothing else, and a kubeconfig with its token."""
    in_namespace = ("-n", bed.namespace)
    for name in ("api", "other"):
        await bed.kubectl("create", "secret", "generic", name, f"--from-literal=token={VALUE}", *in_namespace)
    await bed.kubectl("create", "serviceaccount", "worker", *in_namespace)
    await bed.kubectl(
        *("create", "role", "worker", "--verb=get", "--resource=secrets", "--resource-name=api"),
        *("--resource-name=gone", *in_namespace),
    )
    account = f"--serviceaccount={bed.namespace}:worker"
    await bed.kubectl("create", "rolebinding", "worker", "--role=worker", account, *in_namespace)
    token = (await bed.kubectl("create", "token", "worker", *in_namespace)).strip()
    config = yaml.safe_load(bed.plane.kubeconfig.read_text())
    config["users"] = [{**user, "user": {"token": token}} for user in config["users"]]
    path = bed.folder / "worker.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


@contextlib.asynccontextmanager
async def worker(bed: Bed, kubeconfig: Path) -> AsyncIterator[Path]:
    """Podium's own worker as a process; its log."""
    log = bed.folder / "worker.log"
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "podium_workers", "--functions", "probes"),
            *("--namespaces", bed.namespace, "--kubeconfig", str(kubeconfig)),
            *("--data-dir", str(bed.folder / "data"), "--log-level", "debug"),
            cwd=PROBES,
            stdout=sink,
            stderr=sink,
            env={**os.environ, "CONDUCTOR_SERVER_URL": bed.server.url},
        )
    try:
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


def probing(name: str, kind: str, task_defaults: Json | None = None, **config: str) -> Json:
    nodes = [{"id": "n1", "type": kind, "config": config or CONFIG}]
    return workflow(name, flow={"nodes": nodes}, output=None, taskDefaults=task_defaults or {})


async def everything(bed: Bed, *runs: Json) -> str:
    """All that Conductor and the cluster say: runs, task logs, search rows, objects, Events."""
    said: list[object] = []
    for body in runs:
        found = body["status"]["conductor"]["workflowId"]
        run = await bed.conductor._read("GET", f"/workflow/{found}")
        said += [run, await bed.conductor._search("/workflow/search", f"workflowId='{found}'")]
        said += [await bed.conductor._read("GET", f"/tasks/{task['taskId']}/log") for task in run["tasks"]]
    kinds = "workflows,workflowruns,events.events.k8s.io"
    return json.dumps(said) + await bed.kubectl("get", kinds, "-n", bed.namespace, "-o", "yaml")


async def test_a_secret_reaches_the_function_and_nothing_else(bed: Bed) -> None:
    kubeconfig = await give_rights(bed)
    operator = bed.start_operator_process(PODIUM_LOG_LEVEL="DEBUG", PODIUM_SWEEP_INTERVAL="1")
    try:
        async with worker(bed, kubeconfig) as log:
            await bed.apply(
                probing("use", "probe_secret"),
                probing("leak", "probe_leak", {"retries": 0}, password="${workflow.input.token}"),
                workflow_run("good", "use", inputFrom=FROM_API),
                workflow_run("bad", "leak", inputFrom=FROM_API),
            )
            good = await bed.until_phase("good", "Succeeded", "Failed", within=60)
            bad = await bed.until_phase("bad", "Succeeded", "Failed", within=90)
    finally:
        operator.terminate()
        await asyncio.to_thread(operator.wait)
    assert good["status"]["phase"] == "Succeeded", good["status"]
    output = good["status"]["output"]
    assert output["sha256"] == hashlib.sha256(VALUE.encode()).hexdigest(), "the function had the value"
    assert output["echo"] == "***"
    assert "cannot log in with ***" in bad["status"]["message"]
    stored = await everything(bed, good, bad)
    assert '{"_type": "secretKeyRef", "name": "api", "key": "token"}' in stored
    assert "the token is ***" in stored
    for where, text in (
        ("Conductor or the cluster", stored),
        ("the worker's log", log.read_text()),
        ("the operator's log", (bed.folder / "operator.log").read_text()),
    ):
        assert VALUE not in text, where
        assert VALUE[:8] not in text, where


async def test_what_the_worker_may_not_read_fails_and_says_which_secret(bed: Bed) -> None:
    kubeconfig = await give_rights(bed)
    await bed.start_operator()
    reasons = {
        "other": f"the worker may not read Secret other in namespace {bed.namespace}",
        "gone": f"there is no Secret gone in namespace {bed.namespace}",
    }
    async with worker(bed, kubeconfig):
        await bed.apply(
            probing("use", "probe_secret"),
            *(
                workflow_run(
                    name,
                    "use",
                    inputFrom=[{"secretKeyRef": {"name": name, "key": "token"}, "toField": "token"}],
                )
                for name in reasons
            ),
        )
        for name, reason in reasons.items():
            body = await bed.until_phase(name, "Failed", within=60)
            assert reason in body["status"]["message"]
            assert body["status"]["tasks"][0]["attempts"] == 1, "no further attempt would help"


async def test_a_config_map_goes_by_reference_and_a_schema_asks_only_that_the_field_is_there(
    bed: Bed,
) -> None:
    await bed.start_operator()
    await bed.kubectl(
        "create", "configmap", "texts", f"--from-literal=page={'x' * 50_000}", "-n", bed.namespace
    )
    schema = {
        "type": "object",
        "required": ["page", "size"],
        "properties": {"page": {"type": "string"}, "size": {"type": "integer"}},
        "additionalProperties": False,
    }
    page = [{"configMapKeyRef": {"name": "texts", "key": "page"}, "toField": "page"}]
    flow = {"nodes": [{"id": "n1", "type": "probe_given", "config": {"page": "${workflow.input.page}"}}]}
    async with worker(bed, bed.plane.kubeconfig):
        await bed.apply(
            workflow("w", flow=flow, inputSchema=schema),
            workflow_run("good", "w", input={"size": 1}, inputFrom=page),
            workflow_run("missing", "w", input={"size": 1}),
            workflow_run("both", "w", input={"size": 1, "page": "x"}, inputFrom=page),
            workflow_run("wrong", "w", input={"size": "x"}, inputFrom=page),
        )
        good = await bed.until_phase("good", "Succeeded", within=60)
    assert good["status"]["output"]["types"] == {"page": "str"}
    assert good["status"]["output"]["length"] > 50_000
    for name, words in (
        ("missing", "'page' is a required property"),
        ("both", "spec.inputFrom[0].toField: 'page' is in spec.input too; give it there, or by "),
        ("wrong", "spec.input.size: 'x' is not of type 'integer'"),
    ):
        body = await bed.until_phase(name, "Failed")
        assert condition(body, "Ready")["reason"] == "InvalidInput"
        assert words in body["status"]["message"]
