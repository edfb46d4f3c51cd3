"""Waiting for a run: until it is as wanted, with a line for each change, at most so long."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

import click

from podium.api.v1alpha1.workflow_run import FINISHED
from podium.cli.access import Place, Told
from podium.core.durations import parse_duration
from podium.ports import Gone, Json, RetryLater

NOT_SUCCEEDED = 1
"""The exit code when the run failed, timed out or was terminated."""
TOO_LATE = 3
"""The exit code when the time to wait is over; the run goes on."""
_LOOK_EVERY = 0.5


class Duration(click.ParamType[timedelta]):
    """90s, 10m, 1h30m."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


timeout_option = click.option(
    "--timeout",
    type=Duration(),
    metavar="DURATION",
    help="Wait no longer than 90s, 10m, …; then exit with 3.",
)
wait_option = click.option("--wait", is_flag=True, help="Return when it has come to its end.")


async def until(
    place: Place,
    name: str,
    wanted: Callable[[Json], bool],
    *,
    timeout: timedelta | None = None,
    show: bool = False,
    what: str = "to end",
) -> Json:
    """The run as soon as it is as wanted. `show`: prints a line for each change of its state.

    Raises Told when the run is deleted meanwhile, or `timeout` is over.
    """
    deadline = time.monotonic() + timeout.total_seconds() if timeout else None
    shown = away = stands = ""
    while True:
        try:
            body = await place.cluster.get(place.key("WorkflowRun", name))
        except Gone:
            raise Told(f"workflowrun {name!r} was deleted meanwhile") from None
        except RetryLater as error:
            if str(error) != away:
                click.echo(f"podium: {error}; still waiting", err=True)
            away = str(error)
        else:
            away = ""
            line = _line(body)
            stands = _stand(body)
            if show and line != shown:
                click.echo(line)
                shown = line
            if wanted(body):
                return body
        if deadline is not None and time.monotonic() >= deadline:
            raise Told(
                f"workflowrun {name!r} took longer than the time-out {what}: it goes on{stands}", TOO_LATE
            )
        await asyncio.sleep(_LOOK_EVERY)


def phase_of(body: Json) -> str:
    """Where the run is; empty before the operator has seen it."""
    return str((body.get("status") or {}).get("phase") or "")


def has_finished(body: Json) -> bool:
    return phase_of(body) in FINISHED


def tell_result(body: Json) -> int:
    """One line on stderr about a run that has ended; the exit code."""
    status = body.get("status") or {}
    phase = phase_of(body)
    why = status.get("message") or f"{status.get('progress') or 'no'} tasks done"
    click.echo(f"{body['metadata']['name']} {phase}: {why}", err=True)
    return 0 if phase == "Succeeded" else NOT_SUCCEEDED


def _stand(body: Json) -> str:
    """Where it stands and why, to be put behind other words."""
    conditions = (body.get("status") or {}).get("conditions") or []
    why = next((item.get("message") for item in conditions if item["type"] == "Ready"), "")
    return f" ({phase_of(body)}: {why})" if why else ""


def _line(body: Json) -> str:
    status = body.get("status") or {}
    parts = [
        f"{body['metadata']['name']}  {phase_of(body) or '-'}",
        status.get("progress"),
        status.get("currentTask"),
    ]
    return "  ".join(str(part) for part in parts if part)
