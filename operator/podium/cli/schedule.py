"""`podium schedule`, `podium backfill`: runs by the clock, looked at and acted on by hand."""

import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from podium.api.v1alpha1.schedule import Backfill
from podium.cli.access import Place, Told, cluster_options, json_option, print_json
from podium.cli.tables import age_of, format_table
from podium.core.definitions.findings import did_you_mean
from podium.core.durations import format_time, parse_time
from podium.core.schedules.cron import InvalidSchedule, parse_cron
from podium.core.schedules.span import read_span
from podium.ports import Json, Refused


@click.group()
def schedule() -> None:
    """Schedules of Workflows: list them, start one now, suspend and resume them."""


@schedule.command("list")
@click.argument("workflow", required=False)
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Those of all namespaces.")
@json_option
@cluster_options
async def list_(place: Place, workflow: str | None, everywhere: bool, output: str) -> None:
    """Show the schedules of a namespace, or of one WORKFLOW.

    \b
    Example:
      podium schedule list
    """
    if workflow is None:
        bodies = await place.cluster.list("Workflow", None if everywhere else place.namespace)
    else:
        bodies = [await place.get("Workflow", workflow)]
    found = [
        {**item, "namespace": body["metadata"]["namespace"]} for body in bodies for item in _merged(body)
    ]
    if output == "json":
        print_json(found)
    elif not found:
        click.echo("there are no schedules", err=True)
    else:
        click.echo(format_table(list(_rows(found, everywhere, datetime.now(UTC)))))


@schedule.command("run-now")
@click.argument("workflow")
@click.argument("name", required=False)
@cluster_options
async def run_now(place: Place, workflow: str, name: str | None) -> None:
    """Start one run of a schedule at once, with its input (NAME, if WORKFLOW has several).

    \b
    Example:
      podium schedule run-now product-video nightly
    """
    chosen = await change(place, workflow, name, {"runNow": secrets.token_hex(6)}, alone=True)
    click.echo(f"schedule {chosen[0]} of {workflow} will start a run now: podium get -w {workflow}")


@schedule.command()
@click.argument("workflow")
@click.argument("name", required=False)
@cluster_options
async def suspend(place: Place, workflow: str, name: str | None) -> None:
    """Start no more runs by the clock (all schedules of WORKFLOW, or the one called NAME).

    \b
    Example:
      podium schedule suspend product-video nightly
    """
    chosen = await change(place, workflow, name, {"suspend": True})
    click.echo(f"{workflow}: {', '.join(chosen)} suspended")


@schedule.command()
@click.argument("workflow")
@click.argument("name", required=False)
@cluster_options
async def resume(place: Place, workflow: str, name: str | None) -> None:
    """Start runs by the clock again (all schedules of WORKFLOW, or the one called NAME).

    \b
    Example:
      podium schedule resume product-video
    """
    chosen = await change(place, workflow, name, {"suspend": False})
    click.echo(f"{workflow}: {', '.join(chosen)} resumed")


@click.command()
@click.argument("workflow")
@click.argument("name")
@click.option("--start", required=True, metavar="TIME", help="The first time that counts.")
@click.option("--end", required=True, metavar="TIME", help="The end of the span, not part of it.")
@cluster_options
async def backfill(place: Place, workflow: str, name: str, start: str, end: str) -> None:
    """Start the runs of schedule NAME for a span of time that is over, or was never scheduled.

    A time is a date or RFC 3339; without a time zone it is meant in that of the schedule.

    \b
    Example:
      podium backfill product-video nightly --start 2026-01-01 --end 2026-02-01
    """
    _, found = choose(await place.get("Workflow", workflow), name)[0]
    zone = _zone(found)
    span = {"start": parse_moment(start, zone, "--start"), "end": parse_moment(end, zone, "--end")}
    if span["start"] >= span["end"]:
        raise Told(f"--start {start} is not before --end {end}")
    if span["end"] > datetime.now(UTC):
        raise Told(
            f"--end {end} is not over yet: the clock starts those runs itself; end with a time that is past"
        )
    try:
        read_span(Backfill(id=name, **{edge: moment.isoformat() for edge, moment in span.items()}))
    except InvalidSchedule as problem:
        raise Told(f"--start {start} --end {end}: {problem}; {problem.remedy}") from None
    times = {edge: format_time(moment) for edge, moment in span.items()}
    await change(place, workflow, name, {"backfill": {"id": secrets.token_hex(6), **times}}, alone=True)
    click.echo(
        f"schedule {name} of {workflow} will start its runs from {times['start']} to {times['end']}: "
        f"podium schedule list {workflow}"
    )


async def change(
    place: Place, workflow: str, name: str | None, values: Json, *, alone: bool = False
) -> list[str]:
    """Set these values of the schedules that are meant, and of no others; their names."""
    for _ in range(8):
        body = await place.get("Workflow", workflow)
        chosen = choose(body, name, alone=alone)
        if alone and (problem := why_never(chosen[0][1])):
            raise Told(f"schedule {chosen[0][1]['name']!r} of {workflow} starts nothing: {problem}")
        if "backfill" in values:
            _refuse_second_backfill(body, chosen[0][1])
        operations: list[Json] = []
        for index, item in chosen:
            path = f"/spec/schedules/{index}"
            # The list may have changed since: each place is made sure of by its name.
            operations.append({"op": "test", "path": f"{path}/name", "value": item["name"]})
            operations += [
                {"op": "add", "path": f"{path}/{key}", "value": value} for key, value in values.items()
            ]
        try:
            await place.cluster.patch_as_user(place.key("Workflow", workflow), operations)
        except Refused:
            now = await place.get("Workflow", workflow)
            if _names(now) == _names(body):
                raise
            continue
        return [str(item["name"]) for _, item in chosen]
    raise Told(f"workflow {workflow!r} changes all the time: try again")


def why_never(item: Json) -> str:
    """What is wrong with a schedule's cron or time zone, and what to do; empty if nothing is."""
    try:
        parse_cron(str(item["cron"]), item.get("timeZone") or "UTC")
    except InvalidSchedule as problem:
        return f"{problem.field}: {problem}; {problem.remedy}"
    return ""


def choose(body: Json, name: str | None, *, alone: bool = True) -> list[tuple[int, Json]]:
    """(place in the list, schedule) of the one called `name`, or of all; Told if that is not possible."""
    workflow = body["metadata"]["name"]
    there = list(enumerate(body["spec"].get("schedules") or []))
    if not there:
        raise Told(f"workflow {workflow!r} has no schedules")
    chosen = [(index, item) for index, item in there if name is None or item["name"] == name]
    if not chosen:
        hint = did_you_mean(str(name), _names(body))
        raise Told(f"workflow {workflow!r} has no schedule {name!r}; {hint}")
    if alone and len(chosen) > 1:
        raise Told(f"workflow {workflow!r} has several schedules, name one: {', '.join(_names(body))}")
    return chosen


def parse_moment(text: str, zone: ZoneInfo, option: str) -> datetime:
    """A date or RFC 3339 → a moment; one without a time zone is in `zone`. Raises Told."""
    try:
        moment = parse_time(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Told(f"{option} {text}: write a date (2026-01-31) or a time (2026-01-31T18:00:00Z)") from None


def _zone(item: Json) -> ZoneInfo:
    try:
        return ZoneInfo(item.get("timeZone") or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        raise Told(f"schedule {item['name']!r} has a time zone that is not known here") from None


def _refuse_second_backfill(body: Json, item: Json) -> None:
    before = item.get("backfill")
    if not before:
        return
    status = next((one for one in _statuses(body) if one["name"] == item["name"]), {})
    at = status.get("backfill") or {}
    if at.get("id") != before["id"] or not at.get("done"):
        raise Told(
            f"schedule {item['name']!r} still has a back-fill to do, from {before['start']} to "
            f"{before['end']} ({at.get('started', 0)} runs started): wait for it"
        )


def _merged(body: Json) -> Iterable[Json]:
    statuses = {item["name"]: item for item in _statuses(body)}
    for item in body["spec"].get("schedules") or []:
        status = {key: value for key, value in statuses.get(item["name"], {}).items() if key != "name"}
        yield {"workflow": body["metadata"]["name"], **item, "status": status}


def _rows(found: Iterable[Json], everywhere: bool, now: datetime) -> Iterable[tuple[str, ...]]:
    first = ("NAMESPACE",) if everywhere else ()
    yield (*first, "WORKFLOW", "NAME", "CRON", "TIMEZONE", "SUSPEND", "LAST", "NEXT", "LAST-RUN")
    for item in found:
        status = item["status"]
        last = age_of(status.get("lastTime"), now)
        yield (
            *((item["namespace"],) if everywhere else ()),
            item["workflow"],
            item["name"],
            item["cron"],
            item.get("timeZone") or "UTC",
            str(bool(item.get("suspend"))),
            f"{last} ago" if last else "",
            _next_of(item, status),
            status.get("lastRun") or "",
        )


def _next_of(item: Json, status: Json) -> str:
    if why_never(item):
        return "never (podium lint says why)"
    return "" if item.get("suspend") else status.get("nextTime") or ""


def _statuses(body: Json) -> list[Json]:
    return (body.get("status") or {}).get("schedules") or []


def _names(body: Json) -> list[str]:
    return [str(item["name"]) for item in body["spec"].get("schedules") or []]
