"""Doubts about a run whose input is kept elsewhere: who resolves it, and where a Workflow would break it."""

import re
from collections.abc import Iterator

from podium.api.v1alpha1.workflow import WorkflowSpec
from podium.api.v1alpha1.workflow_run import WorkflowRunSpec
from podium.core.definitions.findings import Finding
from podium.core.values import every_value

_FORMS = ("spec.flow.", "spec.graph.", "spec.stateMachine.", "spec.definition.")


def lint_references(run: WorkflowRunSpec, workflow: WorkflowSpec | None) -> Iterator[Finding]:
    """Warnings about `spec.inputFrom`; `workflow`: the one that it runs, if it is known."""
    for number, reference in enumerate(run.input_from):
        path = f"spec.inputFrom[{number}]"
        yield Finding(
            "warning",
            path,
            "only Podium's own worker runtime puts the value in its place",
            "a worker of another kind is given the reference as it stands",
        )
        for where in _broken_in(workflow, reference.to_field) if workflow is not None else ():
            yield Finding(
                "warning",
                f"{path}.toField",
                f"the Workflow {run.workflow} uses {reference.to_field!r} inside of a longer text, "
                f"or a part of it, at {where}: the worker would be given a text with the reference in it",
                f"give it to the task whole: ${{workflow.input.{reference.to_field}}}",
            )


def _broken_in(workflow: WorkflowSpec, field: str) -> Iterator[str]:
    use = re.compile(r"\$\{\s*workflow\.input\." + re.escape(field) + r"(?![\w-])[^}]*\}")
    whole = re.compile(r"\$\{\s*workflow\.input\." + re.escape(field) + r"\s*\}")
    for path, text, _ in every_value(workflow, "spec"):
        if not path.startswith(_FORMS) or not isinstance(text, str):
            continue
        if use.search(text) and not whole.fullmatch(text):
            yield path
