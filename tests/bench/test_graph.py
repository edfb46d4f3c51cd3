"""A graph with meeting points, beside the same nodes as plain chains, in one Conductor and one run."""

import asyncio
import json
import time
from statistics import median

import pytest

from podium.api.v1alpha1.workflow import WorkflowSpec
from podium.core.definitions import compile_workflow
from podium.ports import Json, StartRequest
from support.bed import Bed

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

NODES, MEETINGS, CHAINS, ROUNDS = 200, 20, 10, 3


def chains(kind: str) -> list[Json]:
    """Ten chains of twenty."""
    length = NODES // CHAINS
    return [
        {
            "id": f"c{chain}-{step}",
            "type": kind,
            "dependsOn": [f"c{chain}-{step - 1}"] if step else [],
        }
        for chain in range(CHAINS)
        for step in range(length)
    ]


def meeting(kind: str) -> list[Json]:
    """The same, but twenty of the nodes wait for the neighbouring chain too."""
    nodes = chains(kind)
    length = NODES // CHAINS
    every = NODES // MEETINGS
    for number, node in enumerate(nodes):
        chain, step = divmod(number, length)
        if number % every == every - 1 and step:
            node["dependsOn"].append(f"c{(chain + 1) % CHAINS}-{step - 1}")
    assert sum(len(node["dependsOn"]) > 1 for node in nodes) == MEETINGS
    return nodes


async def test_graph(bed: Bed) -> None:
    """Tasks a second of a 200-node graph with 20 meeting points, beside ten chains of 20 (goal 0.7)."""
    kind = f"{bed.namespace}-node"
    worker = await bed.start_worker(kind, at_once=50)
    for name, nodes in (("chains", chains(kind)), ("meeting", meeting(kind))):
        spec = WorkflowSpec.model_validate({"graph": {"nodes": nodes}})
        compiled = compile_workflow(spec, namespace=bed.namespace, name=name)
        await bed.conductor.put_definition({**compiled.definition, "version": 1})
    rates: dict[str, list[float]] = {"chains": [], "meeting": []}
    for turn in range(ROUNDS + 1):
        for name, seen in rates.items():
            before = len(worker.seen)
            request = StartRequest(
                f"{bed.namespace}.{name}", 1, f"bench-{name}-{turn}", {}, 0, {"*": bed.namespace}
            )
            began = time.monotonic()
            workflow_id = await bed.conductor.start(request)
            while True:
                answer = await bed.conductor._read("GET", f"/workflow/{workflow_id}/status")
                if answer["status"] != "RUNNING":
                    break
                await asyncio.sleep(0.05)
            assert answer["status"] == "COMPLETED"
            assert len(worker.seen) - before == NODES
            if turn:  # the first is to warm up
                seen.append(NODES / (time.monotonic() - began))
    result = {name: [round(rate, 1) for rate in seen] for name, seen in rates.items()}
    ratio = median(rates["meeting"]) / median(rates["chains"])
    print(
        "\n"
        + json.dumps({"tasks a second": result, "ratio of medians (goal 0.7)": round(ratio, 2)}, indent=2)
    )
    print(f"graph: {ratio:.2f} of the chains' rate (goal 0.7)")
