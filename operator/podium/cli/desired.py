"""`podium pause`, `resume`, `terminate`: what is wanted of a run from now on."""

from datetime import timedelta

import click

from podium.cli.access import Place, Told, cluster_options
from podium.cli.waiting import has_finished, phase_of, timeout_option, until
from podium.ports import Json

_wait = click.option("--wait", is_flag=True, help="Return when it is so.")


@click.command()
@click.argument("run")
@_wait
@timeout_option
@cluster_options
async def pause(place: Place, run: str, wait: bool, timeout: timedelta | None) -> None:
    """Schedule no further tasks of RUN until it is resumed; tasks that have begun go on.

    \b
    Example:
      podium pause thumbnail-1 --wait
    """
    await _want(place, run, "Paused")
    if wait:
        body = await until(
            place, run, lambda seen: _is_paused(seen) or has_finished(seen), timeout=timeout, what="to pause"
        )
        _expect(body, has_finished(body), "ended before it could be paused")
    click.echo(f"{run} {'is paused' if wait else 'will be paused'}")


@click.command()
@click.argument("run")
@_wait
@timeout_option
@cluster_options
async def resume(place: Place, run: str, wait: bool, timeout: timedelta | None) -> None:
    """Let a paused RUN go on.

    \b
    Example:
      podium resume thumbnail-1
    """
    await _want(place, run, "Running")
    if wait:
        await until(
            place,
            run,
            lambda seen: phase_of(seen) == "Running" or has_finished(seen),
            timeout=timeout,
            what="to go on",
        )
    click.echo(f"{run} {'goes on' if wait else 'will go on'}")


@click.command()
@click.argument("run")
@_wait
@timeout_option
@cluster_options
async def terminate(place: Place, run: str, wait: bool, timeout: timedelta | None) -> None:
    """End RUN now; it cannot be resumed.

    \b
    Example:
      podium terminate thumbnail-1 --wait
    """
    await _want(place, run, "Terminated")
    if wait:
        body = await until(place, run, has_finished, timeout=timeout)
        _expect(body, phase_of(body) != "Terminated", "ended before it could be terminated")
    click.echo(f"{run} {'is terminated' if wait else 'will be terminated'}")


async def _want(place: Place, run: str, state: str) -> None:
    def decide(body: Json) -> Json:
        _expect(body, has_finished(body), "has ended already")
        if state != "Terminated" and body["spec"].get("desiredState") == "Terminated":
            raise Told(f"{run} is being terminated, which cannot be taken back")
        return {"spec": {"desiredState": state}}

    await place.change("WorkflowRun", run, decide)


def _is_paused(body: Json) -> bool:
    # One that was not started has the phase Pending; what it waits for is said by its condition.
    conditions = (body.get("status") or {}).get("conditions") or []
    return any(item["type"] == "Ready" and item["reason"] == "Paused" for item in conditions)


def _expect(body: Json, wrong: bool, words: str) -> None:
    if wrong:
        raise Told(f"{body['metadata']['name']} {words}: {phase_of(body)}")
