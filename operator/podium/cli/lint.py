"""`podium lint`: checks manifests without a cluster."""

import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from podium.api.v1alpha1.workflow import WorkflowSpec
from podium.api.v1alpha1.workflow_run import WorkflowRunSpec
from podium.core.definitions import Finding, Rules, defaults_of, lint_workflow
from podium.core.definitions.findings import Report
from podium.core.definitions.manifests import Manifest, check_shape, read_manifests
from podium.core.definitions.references import lint_references
from podium.core.run_input import InvalidInput, resolve_input

ENDINGS = (".yaml", ".yml", ".json")


@dataclasses.dataclass(frozen=True)
class Remark:
    """A finding, and where it stands."""

    file: str
    line: int
    title: str
    finding: Finding

    def __str__(self) -> str:
        found = self.finding
        remedy = f"; {found.remedy}" if found.remedy else ""
        return f"{self.file}:{self.line}: {found.level}: {found.path}: {found.message}{remedy}"


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print.")
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option("-n", "--namespace", default="default", help="Of objects that name none.")
@click.option(
    "--allow", multiple=True, metavar="NAME", help="A name in Conductor that may be used (again: more)."
)
@click.option("--shared", is_flag=True, help="As an operator with isolation Shared would see it.")
def lint(
    files: tuple[str, ...], output: str, strict: bool, namespace: str, allow: tuple[str, ...], shared: bool
) -> None:
    """Check manifests: files, folders (with all below them), or - for the standard input.

    \b
    Example:
      podium lint manifests --strict

    Ends with 0 if all is well or there are only warnings, 1 if there are errors, 2 if a file cannot be
    read.
    """
    rules = Rules(isolation="Shared" if shared else "Namespace", allowed_names=frozenset(allow))
    unreadable: list[str] = []
    there: list[tuple[str, Manifest]] = []
    for file, text in read_files(files, unreadable):
        try:
            there += [(file, manifest) for manifest in read_manifests(text)]
        except ValueError as error:
            unreadable.append(f"{file}: {error}")
    remarks = sorted(check(there, namespace, rules), key=lambda remark: (remark.file, remark.line))
    skipped = [f"{file}: {_title(item)} is not Podium's, skipped" for file, item in there if not item.is_ours]
    errors = sum(remark.finding.level == "error" for remark in remarks)
    checked = sum(manifest.is_ours for _, manifest in there)
    summary = ", ".join(
        (
            f"{_number(checked, 'object')} checked: {_number(errors, 'error')}",
            _number(len(remarks) - errors, "warning"),
        )
    )
    for line in (*skipped, *unreadable):
        click.echo(line, err=True)
    if output == "json":
        click.echo(
            json.dumps({"findings": [_as_json(remark) for remark in remarks], "summary": summary}, indent=2)
        )
    else:
        for remark in remarks:
            click.echo(str(remark))
        click.echo(summary, err=True)
    sys.exit(2 if unreadable else 1 if errors or (strict and remarks) else 0)


def read_files(names: Iterable[str], unreadable: list[str]) -> Iterator[tuple[str, str]]:
    """(name, text) of each file; folders with all manifests below them; `-` is the standard input."""
    for name in names:
        if name == "-":
            yield "<stdin>", sys.stdin.read()
            continue
        path = Path(name)
        paths = [path]
        if path.is_dir():
            paths = sorted(item for item in path.rglob("*") if item.suffix in ENDINGS and item.is_file())
        for item in paths:
            try:
                yield str(item), item.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                unreadable.append(f"{item}: {getattr(error, 'strerror', None) or error}")


def check(there: list[tuple[str, Manifest]], namespace: str, rules: Rules) -> Iterator[Remark]:
    """What is to be said of these manifests (with the name of the file of each), seen together."""
    specs: dict[tuple[str, str], WorkflowSpec] = {}
    runs: list[tuple[str, Manifest, WorkflowRunSpec]] = []
    seen: dict[tuple[str, str, str], str] = {}
    for file, manifest in there:
        if not manifest.is_ours:
            continue
        report = Report()
        place = manifest.namespace or namespace
        spec = check_shape(manifest, report)
        identity = (manifest.kind, place, manifest.name)
        if manifest.name and identity in seen:
            report.warning(
                "metadata.name", f"{manifest.name!r} is in {seen[identity]} too", "the last one applied wins"
            )
        seen.setdefault(identity, file)
        yield from _remarks(file, manifest, report.findings())
        if isinstance(spec, WorkflowSpec):
            specs[place, manifest.name] = spec
            yield from _remarks(
                file, manifest, lint_workflow(spec, namespace=place, name=manifest.name, rules=rules)
            )
        elif isinstance(spec, WorkflowRunSpec):
            runs.append((file, manifest, spec))
    for file, manifest, run in runs:
        workflow = specs.get((manifest.namespace or namespace, run.workflow))
        yield from _remarks(file, manifest, lint_references(run, workflow))
        if workflow is not None:
            yield from _remarks(file, manifest, _check_run(run, workflow))


def _check_run(run: WorkflowRunSpec, workflow: WorkflowSpec) -> list[Finding]:
    """The input against the schema of the Workflow, if that is among the files too."""
    if run.version is not None:
        return []  # the schema of an old version is not known here
    try:
        resolve_input(run.input, defaults_of(workflow), workflow.input_schema, run.input_from)
    except InvalidInput as error:
        path, _, message = str(error).partition(": ")
        return [Finding("error", path, message, f"see inputSchema of the Workflow {run.workflow}")]
    except Exception as error:  # noqa: BLE001 - a schema that is none; lint has said so at the Workflow
        return [Finding("warning", "spec.input", f"could not be checked: {type(error).__name__}")]
    return []


def _remarks(file: str, manifest: Manifest, findings: Iterable[Finding]) -> Iterator[Remark]:
    for finding in findings:
        yield Remark(file, manifest.line(finding.path), _title(manifest), finding)


def _title(manifest: Manifest) -> str:
    return f"{manifest.kind or 'object'}/{manifest.name or '?'}"


def _as_json(remark: Remark) -> dict[str, object]:
    return {
        "file": remark.file,
        "line": remark.line,
        "object": remark.title,
        **dataclasses.asdict(remark.finding),
    }


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
