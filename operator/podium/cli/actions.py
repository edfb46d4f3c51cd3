"""`podium retry`, `restart`, `rerun`, `skip`: one-shot actions on a run, each with an id of its own."""

import functools
import secrets
from collections.abc import Callable
from datetime import timedelta

import click

from podium.cli.access import Place, Told, cluster_options
from podium.cli.run import read_object
from podium.cli.waiting import TOO_LATE, has_finished, tell_result, timeout_option, until, wait_option
from podium.ports import Json

_ANSWER_WITHIN = timedelta(seconds=10)


@click.command()
@click.argument("run")
@wait_option
@timeout_option
@cluster_options
async def retry(place: Place, run: str, wait: bool, timeout: timedelta | None) -> int | None:
    """Let a failed RUN go on from the tasks that failed; what is done stays done.

    \b
    Example:
      podium retry thumbnail-1 --wait
    """
    return await act(place, run, {"type": "Retry"}, wait=wait, timeout=timeout)


@click.command()
@click.argument("run")
@wait_option
@timeout_option
@cluster_options
async def restart(place: Place, run: str, wait: bool, timeout: timedelta | None) -> int | None:
    """Run RUN again from its beginning, with the same input; one that goes on is ended first.

    \b
    Example:
      podium restart thumbnail-1 --wait
    """
    return await act(place, run, {"type": "Restart"}, wait=wait, timeout=timeout)


@click.command()
@click.argument("run")
@click.option("--from", "from_task", required=True, metavar="TASK", help="The task to begin with.")
@click.option("--input", "given", metavar="FILE|-|JSON", help="Another input for that task.")
@wait_option
@timeout_option
@cluster_options
async def rerun(
    place: Place, run: str, from_task: str, given: str | None, wait: bool, timeout: timedelta | None
) -> int | None:
    """Run a finished RUN again from one task on; the tasks before keep their results.

    \b
    Example:
      podium rerun thumbnail-1 --from scale --input '{"width": 64}' --wait
    """
    action: Json = {"type": "Rerun", "fromTask": from_task}
    if given is not None:
        action["input"] = read_object(given, "--input")
    return await act(place, run, action, wait=wait, timeout=timeout)


@click.command()
@click.argument("run")
@click.argument("task")
@cluster_options
async def skip(place: Place, run: str, task: str) -> int | None:
    """Leave TASK out when RUN comes to it.

    \b
    Example:
      podium skip thumbnail-1 publish
    """
    return await act(place, run, {"type": "Skip", "task": task})


async def act(
    place: Place, run: str, action: Json, *, wait: bool = False, timeout: timedelta | None = None
) -> int | None:
    """Ask for an action under a fresh id, and tell what became of it. Told if it is refused."""
    asked = {"id": secrets.token_hex(6), **action}
    what = str(action["type"]).lower()
    await place.change("WorkflowRun", run, _only_if_none_waits(asked))
    answered = functools.partial(_is_answered, asked["id"])
    patience = min(timeout, _ANSWER_WITHIN) if timeout else _ANSWER_WITHIN
    try:
        body = await until(place, run, answered, timeout=patience)
    except Told as late:
        if late.code != TOO_LATE or patience == timeout:
            raise
        click.echo(f"{what} of {run} is asked for and not answered yet: see status.lastAction", err=True)
        if not wait:
            return None
        body = await until(place, run, answered, timeout=timeout, what=f"to {what}")
    answer = _answer(body)
    if answer["result"] == "Refused":
        raise Told(f"{what} of {run} is refused: {answer.get('message') or 'no reason is given'}")
    click.echo(f"{what} of {run}: done")
    if not wait:
        return None
    return tell_result(await until(place, run, has_finished, timeout=timeout))


def _only_if_none_waits(asked: Json) -> Callable[[Json], Json]:
    def decide(body: Json) -> Json:
        before = (body.get("spec") or {}).get("action")
        if before and before.get("id") not in (asked["id"], _answer(body).get("id")):
            raise Told(
                f"{body['metadata']['name']} still has another action to do ({before.get('type')}, id "
                f"{before.get('id')}): wait for it, or see why it is not done: podium get "
                f"{body['metadata']['name']}"
            )
        # null removes what the action before had and this one has not
        cleared = dict.fromkeys(("fromTask", "task", "input"))
        return {"spec": {"action": {**cleared, **asked}}}

    return decide


def _is_answered(id_: str, body: Json) -> bool:
    return _answer(body).get("id") == id_


def _answer(body: Json) -> Json:
    return (body.get("status") or {}).get("lastAction") or {}
