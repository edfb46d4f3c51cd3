"""Names: of definitions in Conductor, of tasks inside one, and of other workflows."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from podium.api.v1alpha1.meta import NAME_PATTERN
from podium.api.v1alpha1.workflow import WorkflowSpec
from podium.core.definitions.findings import Report
from podium.core.definitions.vocabulary import SYSTEM_TASK_TYPES

# `${workflow.input.x}` and these three are Conductor's own.
RESERVED_REFS = frozenset({"workflow", "CPEWF_TASK_ID", "NETFLIX_ENV", "NETFLIX_STACK"})


Isolation = Literal["Namespace", "Shared"]


@dataclass(frozen=True)
class Rules:
    """The operator's settings that decide what a manifest may say."""

    isolation: Isolation = "Namespace"
    allowed_names: frozenset[str] = frozenset()
    """Names in Conductor that manifests may adopt or refer to, besides those of their namespace."""


def conductor_name(namespace: str, name: str, spec: WorkflowSpec) -> str:
    """The name of the definition in Conductor: `<namespace>.<name>`, or the one it adopts."""
    return spec.conductor_name or f"{namespace}.{name}"


def check_conductor_name(spec: WorkflowSpec, namespace: str, rules: Rules, report: Report) -> None:
    """Only names of the own namespace, or that the operator's settings allow, can be adopted."""
    name = spec.conductor_name
    if name is None:
        return
    if name not in rules.allowed_names and not name.startswith(f"{namespace}."):
        report.error(
            "spec.conductorName",
            f"{name!r} may not be adopted here",
            "have it added to the operator's PODIUM_ALLOWED_NAMES, or leave conductorName out",
        )
    if name in (".", ".."):
        report.error("spec.conductorName", f"{name!r} can be stored in Conductor but never read again")


def safe_ref(identifier: str) -> str:
    """The task reference name of a node: its id, with `_` for what an expression cannot name.

    `node-1` → `node_1`, `1` → `n_1`, `größe` → `gro_e_` and six characters of a hash, because there
    letters were lost. Ids that still meet are an error of the manifest, never numbered.
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", identifier) if not unicodedata.combining(c))
    safe = re.sub(r"[^A-Za-z0-9_]", "_", plain)
    if any(c.isalnum() and not c.isascii() for c in plain) or not re.search(r"[A-Za-z0-9]", safe):
        kept = safe.strip("_") or "node"
        safe = f"{kept}_{hashlib.sha256(identifier.encode()).hexdigest()[:6]}"
    return f"n_{safe}" if safe[0].isdigit() else safe


def head_of(expression: str) -> str:
    """What stands before the first dot or bracket: whose value an expression is."""
    return re.split(r"[.\[]", expression, maxsplit=1)[0]


def name_nodes(ids: Iterable[tuple[str, str]], report: Report) -> dict[str, str]:
    """(path, id) of every node → id to reference name. Reports ids that are double, reserved or meet."""
    refs: dict[str, str] = {}
    owner: dict[str, str] = {}
    for path, identifier in ids:
        if identifier in refs:
            report.error(path, f"the id {identifier!r} is there twice", "give each node an id of its own")
            continue
        ref = safe_ref(identifier)
        refs[identifier] = ref
        if head_of(identifier) in RESERVED_REFS:
            # `${workflow.step.output}` could be the run's or the node's.
            report.error(
                path, f"the id {identifier!r} begins with a word of Conductor's own", "give another id"
            )
        elif ref in owner:
            report.error(
                path,
                f"the ids {owner[ref]!r} and {identifier!r} both become {ref!r} in Conductor",
                "rename one of them",
            )
        else:
            owner[ref] = identifier
    return refs


def check_generated(generated: Iterable[str], refs: Mapping[str, str], path: str, report: Report) -> None:
    """Tasks that Podium adds must not have the name of one that the user wrote."""
    ids = {ref: identifier for identifier, ref in refs.items()}
    for name in generated:
        if name in ids:
            report.error(
                path,
                f"the id {ids[name]!r} is the name of a task that Podium adds",
                "give the node another id",
            )


def check_task_type(task_type: str, path: str, report: Report) -> None:
    """A type that workers are to poll for: it must have a queue that can be reached."""
    if task_type in SYSTEM_TASK_TYPES:
        report.error(
            path,
            f"{task_type} is a task that Conductor runs itself, no worker can serve it",
            f"write the workflow as spec.definition to use {task_type}, or give your task type another name",
        )
    elif bad := re.search(r"[/\\:@,\x00-\x1f]", task_type):
        report.error(
            path,
            f"no worker can poll for {task_type!r}, because of {bad.group()!r}",
            "use letters, digits, '_', '-' and '.'",
        )
    elif task_type in (".", "..") or task_type.strip() != task_type:
        report.error(path, f"no worker can poll for {task_type!r}", "begin and end it with a letter or digit")


def translate_workflow_name(name: str, *, namespace: str, rules: Rules, path: str, report: Report) -> str:
    """The name in Conductor of another Workflow that a manifest names: one of the same namespace.

    Names on the operator's list stay as they are. With isolation by namespace everything else that is
    not the name of a Workflow here is refused; without it, a name with a dot stays as it is.
    """
    if name in rules.allowed_names:
        return name
    if "${" in name:
        if rules.isolation == "Namespace":
            report.warning(
                path,
                f"which workflow {name!r} is can only be known when it runs",
                f"see to it that it comes out as {namespace}.<name of a Workflow>",
            )
        return name
    if name.startswith(f"{namespace}."):
        plain = name.removeprefix(f"{namespace}.")
        report.warning(
            path, f"{name!r} is read as the name of a Workflow here", f"write {plain!r} if that is meant"
        )
    elif "." in name:
        if rules.isolation == "Shared":
            return name
        report.error(
            path,
            f"{name!r} is not a Workflow of this namespace",
            "name a Workflow of this namespace, or have the operator's settings allow this name",
        )
    if not re.match(NAME_PATTERN, name):
        report.error(
            path,
            f"{name!r} cannot be the name of a Workflow",
            "use small letters, digits and '-', or have the operator's settings allow this name",
        )
    return f"{namespace}.{name}"
