"""`podium pool`: WorkerPools in a table, and why one has the pods that it has."""

from collections.abc import Iterable
from datetime import UTC, datetime

import click

from podium.cli.access import Place, cluster_options, json_option, print_json
from podium.cli.tables import age_of, format_table
from podium.ports import Json

_UNKNOWN = "not known"


@click.group()
def pool() -> None:
    """WorkerPools: list them, and have one explained."""


@pool.command("list")
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Those of all namespaces.")
@json_option
@cluster_options
async def list_(place: Place, everywhere: bool, output: str) -> None:
    """Show the WorkerPools of a namespace.

    \b
    Example:
      podium pool list
    """
    pools = await place.cluster.list("WorkerPool", None if everywhere else place.namespace)
    pools.sort(key=lambda body: (body["metadata"]["namespace"], body["metadata"]["name"]))
    if output == "json":
        print_json({"apiVersion": "v1", "kind": "List", "items": pools})
    elif not pools:
        click.echo("there are no WorkerPools", err=True)
    else:
        click.echo(format_table(list(_rows(pools, everywhere, datetime.now(UTC)))))


@pool.command()
@click.argument("name")
@json_option
@cluster_options
async def explain(place: Place, name: str, output: str) -> None:
    """Show what pool NAME sees, what follows from it, and its last ten decisions with their reasons.

    \b
    Example:
      podium pool explain media
    """
    body = await place.get("WorkerPool", name)
    if output == "json":
        print_json(body.get("status") or {})
    else:
        click.echo(explain_pool(body, datetime.now(UTC)))


def explain_pool(body: Json, now: datetime) -> str:
    """A WorkerPool in words."""
    spec, status = body["spec"], body.get("status") or {}
    if status.get("observedGeneration", -1) < 0:
        return f"{body['metadata']['name']}: not seen by the operator yet"
    lines = [
        ("Pool", f"{body['metadata']['name']}, serves {', '.join(spec['taskTypes'])}"),
        ("Pods", _pods(status)),
        ("Tasks", _tasks(status)),
        ("Rule", _rule(spec)),
    ]
    for item in status.get("conditions") or ():
        words = f": {item['message']}" if item.get("message") else ""
        lines.append((item["type"], f"{item['status']} ({item['reason']}){words}"))
    text = "\n".join(f"{name + ':':<16} {words}" for name, words in lines)
    decisions = status.get("decisions") or []
    if not decisions:
        return f"{text}\n\nNo decisions yet."
    rows = [("AGE", "PODS", "REASON", "BECAUSE OF")]
    rows += [
        (age_of(item["at"], now), f"{item['from']} → {item['to']}", item["reason"], item.get("message", ""))
        for item in decisions
    ]
    return f"{text}\n\n{format_table(rows)}"


def _pods(status: Json) -> str:
    text = f"{status.get('replicas', 0)} ({status.get('readyReplicas', 0)} ready)"
    text += f", {status['desiredReplicas']} wanted" if "desiredReplicas" in status else ""
    return text + (f", {status['draining']} finish their tasks and go" if status.get("draining") else "")


def _tasks(status: Json) -> str:
    text = f"{status.get('busy', _UNKNOWN)} worked on, {status.get('queued', _UNKNOWN)} waiting"
    if status.get("oldestWait"):
        text += f" (the oldest for {status['oldestWait']})"
    return text + (f", {status['delayed']} not before their time" if status.get("delayed") else "")


def _rule(spec: Json) -> str:
    at_once = spec.get("concurrency", 5)
    if spec.get("suspend"):
        return "suspended: no pods"
    scaling = spec.get("scaling")
    if scaling is None:
        return f"{spec.get('replicas', 1)} pods, {at_once} tasks at once in each; kubectl scale changes it"
    low, high = scaling.get("minReplicas", 0), scaling.get("maxReplicas", 10)
    text = (
        f"{low} to {high} pods, {at_once} tasks at once in each, "
        f"{scaling.get('targetUtilization', 80)}% of them at work"
    )
    return f"{text}; dryRun: only said, nothing is changed" if scaling.get("dryRun") else text


def _rows(pools: Iterable[Json], everywhere: bool, now: datetime) -> Iterable[tuple[str, ...]]:
    first = ("NAMESPACE",) if everywhere else ()
    yield (*first, "NAME", "READY", "WANTED", "PODS", "BUSY", "QUEUED", "LAST-DECISION", "AGE")
    for body in pools:
        metadata, status = body["metadata"], body.get("status") or {}
        told: Json = next((item for item in status.get("conditions") or () if item["type"] == "Ready"), {})
        decisions = status.get("decisions") or [{}]
        yield (
            *((metadata["namespace"],) if everywhere else ()),
            metadata["name"],
            str(told.get("status", "")),
            str(status.get("desiredReplicas", "")),
            str(status.get("replicas", "")),
            str(status.get("busy", "")),
            str(status.get("queued", "")),
            str(decisions[0].get("reason", "")),
            age_of(metadata.get("creationTimestamp"), now),
        )
