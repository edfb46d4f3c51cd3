"""`podium output`: what a run came to, whole, wherever it is kept."""

import click

from podium.cli.access import Place, Told, cluster_options, print_json
from podium.cli.conductors import conductor_option, open_conductor
from podium.cli.waiting import has_finished, phase_of
from podium.ports import Gone


@click.command()
@click.argument("run")
@conductor_option
@cluster_options
async def output(place: Place, run: str, conductor_url: str | None) -> None:
    """Print the output of a finished RUN as JSON.

    The status has an output of up to 2 KiB; a larger one is read from Conductor.

    \b
    Example:
      podium output thumbnail-1 | jq .imageUrl
    """
    body = await place.get("WorkflowRun", run)
    status = body.get("status") or {}
    if not has_finished(body):
        raise Told(f"{run} has not ended: {phase_of(body) or 'it was not started yet'}")
    if not status.get("outputTruncated"):
        print_json(status.get("output") or {})
        return
    if path := status.get("outputPath"):
        raise Told(
            f"the output of {run} is outside of Conductor's database, at {path} of its payload storage"
        )
    workflow_id = (status.get("conductor") or {}).get("workflowId") or ""
    why = "the output is larger than a status may be"
    async with open_conductor(place, body, conductor_url, why) as conductor:
        try:
            found = await conductor.read_run(workflow_id)
        except Gone:
            raise Told(f"Conductor no longer has run {workflow_id}: its output is gone") from None
    if path := found.get("externalOutputPayloadStoragePath"):
        raise Told(
            f"the output of {run} is outside of Conductor's database, at {path} of its payload storage"
        )
    print_json(found.get("output") or {})
