"""`podium approve`, `podium reject`: what a person says to a task that waits for it."""

from typing import Literal

import click

from podium.cli.access import Place, Told, cluster_options
from podium.cli.get import path_of
from podium.cli.run import read_object
from podium.core.definitions.findings import did_you_mean
from podium.core.durations import format_time, parse_time
from podium.core.runs.approvals import was_begun_anew_since
from podium.ports import Conflict, Json, Refused

_WAITING_TYPES = frozenset({"HUMAN", "WAIT"})


@click.command()
@click.argument("run")
@click.argument("task")
@click.option("--note", metavar="TEXT", help="Why; it is kept with your name.")
@click.option("--output", "given", metavar="FILE|-|JSON", help="The output that the task gets.")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="Which time it waits. Default: now.")
@cluster_options
async def approve(
    place: Place, run: str, task: str, note: str | None, given: str | None, attempt: int | None
) -> None:
    """Let TASK of RUN, which waits for a person, go on.

    \b
    Example:
      podium approve release-7 sign-off --note 'looks good' --output '{"percent": 25}'
    """
    await decide(place, run, task, "Approve", note, given, attempt)


@click.command()
@click.argument("run")
@click.argument("task")
@click.option("--note", metavar="TEXT", help="Why; it is kept with your name.")
@click.option("--output", "given", metavar="FILE|-|JSON", help="The output that the task gets.")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="Which time it waits. Default: now.")
@cluster_options
async def reject(
    place: Place, run: str, task: str, note: str | None, given: str | None, attempt: int | None
) -> None:
    """Let TASK of RUN, which waits for a person, fail.

    \b
    Example:
      podium reject release-7 sign-off --note 'the canary is hot'
    """
    await decide(place, run, task, "Reject", note, given, attempt)


async def decide(
    place: Place,
    run: str,
    task: str,
    decision: Literal["Approve", "Reject"],
    note: str | None,
    given: str | None,
    attempt: int | None,
) -> None:
    """Add one decision to those that were made, whoever else does so meanwhile. Raises Told."""
    entry: Json = {"task": task, "decision": decision}
    if note:
        entry["note"] = note
    if given is not None:
        entry["output"] = read_object(given, "--output")
    caller = await place.cluster.read_caller()
    entry |= {"by": caller.name, "at": format_time(caller.now)}
    for _ in range(8):
        body = await place.get("WorkflowRun", run)
        said = entry | choose_waiting(body, task, attempt)
        try:
            await place.cluster.patch_as_user(
                place.key("WorkflowRun", run), _addition(body, said), status=True
            )
        except Conflict:
            continue
        except Refused:
            # Someone may have said it in the meantime, or have begun the list.
            if _is_as_seen(body, await place.get("WorkflowRun", run)):
                raise
            continue
        click.echo(f"{said['task']} of {run}: {'approved' if decision == 'Approve' else 'rejected'}")
        return
    raise Told(f"workflowrun {run!r} changes all the time: try again")


def choose_waiting(body: Json, task: str, attempt: int | None) -> Json:
    """{task, attempt} of the task that waits, as an approval names it. Raises Told if it does not wait.

    A task is named by its id, by its path inside sub-workflows (review/sign-off), or by its reference name.
    """
    run = body["metadata"]["name"]
    status = body.get("status") or {}
    shown = status.get("tasks") or []
    paths = {id(item): _path_of(item, shown) for item in shown}
    if attempt is not None:
        return {"task": task, "attempt": attempt}
    found = [item for item in shown if task in (item["id"], item["ref"], paths[id(item)])]
    waiting = [item for item in found if _waits(item)]
    if not found:
        near = did_you_mean(task, [paths[id(item)] for item in shown if _waits(item)])
        raise Told(
            f"{run} shows no task {task!r}; it may not have begun yet"
            + (f"; {near}" if near else "; no task waits")
        )
    if not waiting:
        last = found[-1]
        raise Told(
            f"{task} of {run} does not wait for anyone: it is a {last['type']} task and {last['status']}"
        )
    if len(waiting) > 1:
        several = ", ".join(paths[id(item)] for item in waiting)
        raise Told(f"several tasks of {run} are called {task!r} and wait, name one: {several}")
    chosen = waiting[0]
    meant = {"task": paths[id(chosen)], "attempt": int(chosen.get("attempts") or 1)}
    for said in status.get("approvals") or []:
        if _same(said, meant) and _counts(said, chosen, status.get("lastAction") or {}):
            raise Told(f"{meant['task']} of {run}: {said['by']} said {said['decision']} at {said['at']}")
    return meant


def _waits(task: Json) -> bool:
    return task.get("status") == "Running" and task.get("type") in _WAITING_TYPES


def _path_of(task: Json, shown: list[Json]) -> str:
    """The id, behind the path of the sub-workflow that it is in; a dynamic fork is no part of a path."""
    above = next((item for item in shown if task.get("parent") == path_of(item)), None)
    return str(task["id"]) if above is not None and not above.get("subWorkflowId") else path_of(task)


def _same(said: Json, meant: Json) -> bool:
    return bool(said["task"] == meant["task"] and said.get("attempt", 1) == meant["attempt"])


def _counts(said: Json, task: Json, last_action: Json) -> bool:
    """Whether it was said since the task waits: a restarted run asks again, older answers do not count."""
    since = task.get("startedAt")
    older = since and parse_time(said["at"]) < parse_time(since)
    return not older and not was_begun_anew_since(said["at"], last_action)


def _addition(body: Json, said: Json) -> list[Json]:
    """The JSON patch that adds, and takes nothing away, whoever else is adding."""
    operations: list[Json] = [{"op": "test", "path": "/metadata/uid", "value": body["metadata"]["uid"]}]
    if (body.get("status") or {}).get("approvals"):
        return [*operations, {"op": "add", "path": "/status/approvals/-", "value": said}]
    # Another one who begins the list at the same time must not be overwritten: with the resourceVersion
    # in it, the server answers 409 if anything changed.
    version = body["metadata"]["resourceVersion"]
    return [
        *operations,
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
        {"op": "add", "path": "/status/approvals", "value": [said]},
    ]


def _is_as_seen(before: Json, now: Json) -> bool:
    return (before.get("status") or {}).get("approvals") == (now.get("status") or {}).get("approvals")
