"""`podium compile`: the Conductor definition that a manifest becomes."""

import json
import sys

import click
import yaml

from podium.api.v1alpha1.workflow import WorkflowSpec
from podium.cli.lint import read_files
from podium.core.definitions import Finding, InvalidWorkflow, Rules, compile_workflow
from podium.core.definitions.findings import Report
from podium.core.definitions.manifests import Manifest, check_shape, read_manifests


@click.command("compile")
@click.argument("file")
@click.option("-n", "--namespace", default="default", help="If the object names none.")
@click.option("--name", help="Which Workflow, if the file has several.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), default="json", help="How to print.")
@click.option(
    "--allow", multiple=True, metavar="NAME", help="A name in Conductor that may be used (again: more)."
)
@click.option("--shared", is_flag=True, help="As an operator with isolation Shared would do it.")
def compile_(
    file: str, namespace: str, name: str | None, output: str, allow: tuple[str, ...], shared: bool
) -> None:
    """Print the Conductor definition that a Workflow becomes (FILE, or - for the standard input).

    \b
    Example:
      podium compile product-video.yaml --output yaml

    Ends with 1 if the manifest has errors, 2 if the file cannot be read or no Workflow can be chosen.
    """
    rules = Rules(isolation="Shared" if shared else "Namespace", allowed_names=frozenset(allow))
    manifest = _choose(_read(file), name)
    report = Report()
    spec = check_shape(manifest, report)
    if not isinstance(spec, WorkflowSpec):
        _fail(file, manifest, report.findings())
        return
    try:
        compiled = compile_workflow(
            spec, namespace=manifest.namespace or namespace, name=manifest.name, rules=rules
        )
    except InvalidWorkflow as invalid:
        _fail(file, manifest, invalid.findings)
        return
    if output == "json":
        click.echo(json.dumps(compiled.definition, indent=2, ensure_ascii=False))
    else:
        # Through JSON: YAML would make anchors of values that occur twice.
        plain = json.loads(json.dumps(compiled.definition))
        click.echo(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), nl=False)


def _read(file: str) -> list[Manifest]:
    unreadable: list[str] = []
    found: list[Manifest] = []
    for name, text in read_files([file], unreadable):
        try:
            found += read_manifests(text)
        except ValueError as error:
            unreadable.append(f"{name}: {error}")
    if unreadable:
        _stop("\n".join(unreadable))
    return [item for item in found if item.is_ours and item.kind == "Workflow"]


def _choose(workflows: list[Manifest], name: str | None) -> Manifest:
    names = ", ".join(item.name for item in workflows)
    chosen = [item for item in workflows if name is None or item.name == name]
    if not workflows:
        _stop("there is no Workflow in it")
    elif not chosen:
        _stop(f"there is no Workflow {name!r} in it; there is {names}")
    elif len(chosen) > 1:
        _stop(f"there are several Workflows in it, choose one with --name: {names}")
    return chosen[0]


def _fail(file: str, manifest: Manifest, findings: list[Finding] | tuple[Finding, ...]) -> None:
    for finding in findings:
        if finding.level == "error":
            click.echo(f"{file}:{manifest.line(finding.path)}: error: {finding}", err=True)
    sys.exit(1)


def _stop(message: str) -> None:
    click.echo(message, err=True)
    sys.exit(2)
