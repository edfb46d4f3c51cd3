"""`podium run`: makes a WorkflowRun, and waits for it if asked to."""

import json
import sys
from datetime import timedelta
from pathlib import Path

import click
import yaml

from podium.api.v1alpha1 import API_VERSION
from podium.cli.access import Place, Told, cluster_options, print_json, title
from podium.cli.waiting import has_finished, tell_result, timeout_option, until
from podium.core.definitions.kubernetes_yaml import read_value
from podium.ports import Conflict, Json


@click.command()
@click.argument("workflow")
@click.option(
    "--input", "given", metavar="FILE|-|JSON", help="The input: a YAML or JSON file, or JSON itself."
)
@click.option(
    "--set", "pairs", multiple=True, metavar="KEY=VALUE", help="One value of it; a.b=1 goes deeper."
)
@click.option("--name", metavar="NAME", help="Of the WorkflowRun. Default: WORKFLOW and five random letters.")
@click.option("--wait", is_flag=True, help="Return when the run has ended; exit with 1 unless it succeeded.")
@click.option("--watch", is_flag=True, help="As --wait, with a line for each change.")
@timeout_option
@click.option(
    "-o", "--output", type=click.Choice(["text", "json", "name"]), default="text", help="How to print it."
)
@cluster_options
async def run(
    place: Place,
    workflow: str,
    given: str | None,
    pairs: tuple[str, ...],
    name: str | None,
    wait: bool,
    watch: bool,
    timeout: timedelta | None,
    output: str,
) -> int | None:
    """Run WORKFLOW once.

    A value of --set that is JSON is taken as such (3, true, null, [1], "3"), any other as text.

    \b
    Example:
      podium run thumbnail --set prompt='a red chair' --wait
      podium run thumbnail --input input.yaml --set size=64 --watch --timeout 10m

    Exit code: 0 succeeded (or, without --wait, created), 1 failed, timed out or terminated, 2 the command
    could not do its work, 3 the time-out is over and the run goes on.
    """
    body: Json = {
        "apiVersion": API_VERSION,
        "kind": "WorkflowRun",
        "metadata": {"namespace": place.namespace}
        | ({"name": name} if name else {"generateName": f"{workflow[:50]}-"}),
        "spec": {"workflow": workflow},
    }
    if spec_input := set_values(read_object(given, "--input") if given else {}, pairs):
        body["spec"]["input"] = spec_input
    await place.get("Workflow", workflow)  # a misspelt name is told now, not by a run that waits for ever
    try:
        body = await place.cluster.create(body)
    except Conflict:
        raise Told(f"workflowrun {name!r} exists already in namespace {place.namespace!r}") from None
    created: str = body["metadata"]["name"]
    if output == "text":
        click.echo(f"{title(body)} created")
    elif output == "name":
        click.echo(title(body))
    if not (wait or watch):
        if output == "json":
            print_json(body)
        return None
    body = await until(place, created, has_finished, timeout=timeout, show=watch and output == "text")
    if output == "json":
        print_json(body)
    return tell_result(body)


def read_object(given: str, option: str) -> Json:
    """A JSON object given as itself, as a file, or `-` for the standard input. Raises Told."""
    where = option
    try:
        if given.lstrip().startswith("{"):
            found = json.loads(given)
        elif given == "-":
            where, found = "the standard input", read_value(sys.stdin.read())
        else:
            where, found = given, read_value(Path(given).read_text(encoding="utf-8"))
    except OSError as error:
        raise Told(f"{option}: {given}: {error.strerror}") from None
    except (ValueError, yaml.YAMLError) as error:
        raise Told(f"{option}: {where} is neither JSON nor YAML: {error}") from None
    if not isinstance(found, dict):
        raise Told(f"{option}: {where} is no object, it must have keys and values")
    return found


def set_values(start: Json, pairs: tuple[str, ...]) -> Json:
    """`start` with the values of `key=value` pairs in it; dots in a key go deeper. Raises Told."""
    result: Json = json.loads(json.dumps(start))
    for pair in pairs:
        path, equals, text = pair.partition("=")
        keys = path.split(".")
        if not equals or not all(keys):
            raise Told(f"--set {pair}: write key=value, or a.b=value")
        place = result
        for key in keys[:-1]:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise Told(f"--set {pair}: {key!r} has a value already, nothing goes deeper there")
        try:
            place[keys[-1]] = json.loads(text)
        except ValueError:
            place[keys[-1]] = text
    return result
