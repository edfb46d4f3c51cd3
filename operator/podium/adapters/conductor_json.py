"""Conductor's JSON: of a run → `RunSeen`, without what nobody needs; of definitions, what servers demand."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar, get_args

from podium.ports import Json, RetryLater, RunSeen, RunState, TaskSeen, TaskState

T = TypeVar("T")
_RUN_STATES: tuple[RunState, ...] = get_args(RunState)
_TASK_STATES: tuple[TaskState, ...] = get_args(TaskState)


@contextlib.contextmanager
def making_sense(what: str) -> Iterator[None]:
    """An answer that is JSON and of another shape than Conductor's is no answer. Raises RetryLater."""
    try:
        yield
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        OSError,  # of a time that no clock can show
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
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
        workflow_id=_text(body["workflowId"]),
        name=_text(body.get("workflowName") or definition.get("name")),
        version=int(body.get("workflowVersion") or definition.get("version") or 0),
        state=_one_of(_RUN_STATES, body["status"]),
        correlation_id=_text(body.get("correlationId")),
        create_ms=int(body.get("createTime") or body.get("startTime") or 0),
        start_ms=int(body.get("startTime") or 0),
        end_ms=int(body.get("endTime") or 0),
        update_ms=int(body.get("updateTime") or body.get("updatedTime") or 0),
        retried_ms=int(body.get("lastRetriedTime") or 0),
        reason=_text(body.get("reasonForIncompletion")),
        output=dict(body.get("output") or {}) or None,
        output_path=_text(body.get("externalOutputPayloadStoragePath")),
        outside=any(part.get(path) for part in (body, *(body.get("tasks") or ())) for path in _OUTSIDE),
        tasks=tuple(parse_task(task) for task in body.get("tasks") or ()),
        nodes={str(ref): str(node) for ref, node in (metadata.get("nodes") or {}).items()},
        parent_id=_text(body.get("parentWorkflowId")),
        failure_run=_is_failure_run(body),
    )


def _is_failure_run(body: Json) -> bool:
    """Whether Conductor started it since another run failed: that one is in its input.

    So it may be in anyone's input; but nobody else's has the correlation id that both share.
    """
    failed = (body.get("input") or {}).get("failedWorkflow")
    return isinstance(failed, dict) and failed.get("correlationId") == body.get("correlationId")


def _text(value: object) -> str:
    return str(value or "")


def _one_of(known: tuple[T, ...], state: T) -> T:
    if state not in known:
        raise ValueError(state)
    return state


def parse_task(body: Json) -> TaskSeen:
    """One entry of a run's `tasks`."""
    definition = body.get("workflowTask") or {}
    return TaskSeen(
        ref=_text(body.get("referenceTaskName")),
        task_type=_text(body.get("taskDefName") or body.get("taskType")),
        state=_one_of(_TASK_STATES, body["status"]),
        task_id=_text(body.get("taskId")),
        system_type=str(body.get("taskType") if _is_system(definition) else "SIMPLE"),
        attempt=int(body.get("retryCount") or 0),
        seq=int(body.get("seq") or 0),
        start_ms=int(body.get("startTime") or 0),
        end_ms=int(body.get("endTime") or 0),
        worker=_text(body.get("workerId")),
        reason=_text(body.get("reasonForIncompletion")),
        # A worker can say it of any other task too.
        sub_workflow_id=_text(body.get("subWorkflowId")) if body.get("taskType") == "SUB_WORKFLOW" else "",
        retried=bool(body.get("retried")),
        scheduled_ms=int(body.get("scheduledTime") or 0),
        update_ms=int(body.get("updateTime") or 0),
        callback_s=int(body.get("callbackAfterSeconds") or 0),
        response_timeout_s=int(body.get("responseTimeoutSeconds") or 0),
        domain=_text(body.get("domain")),
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
