"""Conductor's JSON: of a run → `RunSeen`, without what nobody needs; of definitions, what servers demand."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping

from podium.ports import Json, RetryLater, RunSeen, TaskSeen


@contextlib.contextmanager
def making_sense(what: str) -> Iterator[None]:
    """An answer that is JSON and of another shape than Conductor's is no answer. Raises RetryLater."""
    try:
        yield
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise RetryLater(f"Conductor's answer about {what} makes no sense: {error!r:.100}") from error


def check_versions(definitions: Mapping[str, Iterable[Json]]) -> None:
    """Name → versions, each with its number. Raises KeyError, TypeError, ValueError for anything else."""
    for versions in definitions.values():
        for item in versions:
            int(item["version"])


_OUTSIDE = ("externalInputPayloadStoragePath", "externalOutputPayloadStoragePath")


def parse_run(body: Json) -> RunSeen:
    """A Workflow as `GET /workflow/{id}`, `bulk/search` and `correlated` answer it.

    They differ: `bulk/search` leaves empty fields out and has no `startTime`.
    """
    definition = body.get("workflowDefinition") or {}
    metadata = (definition.get("metadata") or {}).get("podium") or {}
    return RunSeen(
        workflow_id=body["workflowId"],
        name=body.get("workflowName") or definition.get("name") or "",
        version=int(body.get("workflowVersion") or definition.get("version") or 0),
        state=body["status"],
        correlation_id=body.get("correlationId") or "",
        create_ms=int(body.get("createTime") or body.get("startTime") or 0),
        start_ms=int(body.get("startTime") or 0),
        end_ms=int(body.get("endTime") or 0),
        update_ms=int(body.get("updateTime") or body.get("updatedTime") or 0),
        retried_ms=int(body.get("lastRetriedTime") or 0),
        reason=body.get("reasonForIncompletion") or "",
        output=body.get("output") or None,
        output_path=body.get("externalOutputPayloadStoragePath") or "",
        outside=any(part.get(path) for part in (body, *(body.get("tasks") or ())) for path in _OUTSIDE),
        tasks=tuple(parse_task(task) for task in body.get("tasks") or ()),
        nodes=metadata.get("nodes") or {},
        parent_id=body.get("parentWorkflowId") or "",
        failure_run="failedWorkflow" in (body.get("input") or {}),
    )


def parse_task(body: Json) -> TaskSeen:
    """One entry of a run's `tasks`."""
    definition = body.get("workflowTask") or {}
    return TaskSeen(
        ref=body.get("referenceTaskName") or "",
        task_type=body.get("taskDefName") or body.get("taskType") or "",
        state=body["status"],
        task_id=body.get("taskId") or "",
        system_type=str(body.get("taskType") if _is_system(definition) else "SIMPLE"),
        attempt=int(body.get("retryCount") or 0),
        seq=int(body.get("seq") or 0),
        start_ms=int(body.get("startTime") or 0),
        end_ms=int(body.get("endTime") or 0),
        worker=body.get("workerId") or "",
        reason=body.get("reasonForIncompletion") or "",
        sub_workflow_id=body.get("subWorkflowId") or "",
        retried=bool(body.get("retried")),
        scheduled_ms=int(body.get("scheduledTime") or 0),
        update_ms=int(body.get("updateTime") or 0),
        callback_s=int(body.get("callbackAfterSeconds") or 0),
        response_timeout_s=int(body.get("responseTimeoutSeconds") or 0),
        domain=body.get("domain") or "",
        timed=any((body.get("inputData") or {}).get(name) for name in ("duration", "until")),
        forked=_forked(body) if definition.get("type") == "FORK_JOIN_DYNAMIC" else (),
    )


def _forked(body: Json) -> tuple[str, ...]:
    made = (body.get("inputData") or {}).get("forkedTasks")
    return tuple(str(ref) for ref in made) if isinstance(made, list) else ()


def _is_system(definition: Json) -> bool:
    return str(definition.get("type", "SIMPLE")) != "SIMPLE"


_ADDRESS = "podium@podium.invalid"


def demands_address(words: str, definition: Json) -> bool:
    """Whether a server refused it since it has no owner's address: 3.21 does so unless told otherwise."""
    return "ownerEmail cannot be empty" in words and not definition.get("ownerEmail")


def with_address(definition: Json) -> Json:
    """One that nobody wrote, for a server that demands it."""
    return {**definition, "ownerEmail": _ADDRESS}


def without_address(definition: Json) -> Json:
    """As it was before `with_address`."""
    if definition.get("ownerEmail") != _ADDRESS:
        return definition
    return {key: value for key, value in definition.items() if key != "ownerEmail"}
