"""What Conductor 3.32 knows: task types, keys, their types, and the values it fills in.

From com.netflix.conductor.common.metadata (WorkflowDef, WorkflowTask, TaskDef, TaskType) of that
release, and from what its server answers to GET. A key that is not here is dropped by the server
without a word.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal[
    "any",
    "text",
    "whole",
    "count",
    "flag",
    "object",
    "list",
    "names",
    "tasks",
    "branches",
    "cases",
    "task definition",
    "sub workflow",
]

JOINED_BY_JOIN = ("FORK_JOIN", "FORK_JOIN_DYNAMIC")

_ENUM = """
DYNAMIC FORK_JOIN FORK_JOIN_DYNAMIC DECISION SWITCH JOIN DO_WHILE SUB_WORKFLOW START_WORKFLOW EVENT WAIT
HUMAN HTTP LAMBDA INLINE EXCLUSIVE_JOIN TERMINATE KAFKA_PUBLISH JSON_JQ_TRANSFORM SET_VARIABLE NOOP
LLM_TEXT_COMPLETE LLM_CHAT_COMPLETE LLM_INDEX_TEXT LLM_SEARCH_INDEX LLM_GENERATE_EMBEDDINGS
LLM_STORE_EMBEDDINGS LLM_GET_EMBEDDINGS LIST_MCP_TOOLS CALL_MCP_TOOL PULL_WORKFLOW_MESSAGES AGENT
GET_AGENT_CARD CANCEL_AGENT
"""
# Not in the enumeration, but there when the server has its AI integrations switched on.
_ANNOTATED = "GENERATE_IMAGE GENERATE_AUDIO GENERATE_VIDEO GENERATE_PDF LLM_SEARCH_EMBEDDINGS JDBC"

SYSTEM_TASK_TYPES = frozenset([*_ENUM.split(), *_ANNOTATED.split(), "FORK", "SIMPLE", "USER_DEFINED"])
"""Names that no worker's task type may have."""

TASK_TYPES = SYSTEM_TASK_TYPES - {"FORK", "USER_DEFINED"}
"""What `type` of a task in a native definition may be."""


@dataclass(frozen=True)
class Field:
    """One key: the type of its value, what the server fills in when it is absent, the words it takes."""

    kind: Kind
    default: Any = None
    fields: Mapping[str, "Field"] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    hint: bool = False
    """It changes how quickly something is done, not what: a server that drops it runs the same definition."""


TASK_DEFINITION: Mapping[str, Field] = {
    "name": Field("text"),
    "description": Field("text"),
    "retryCount": Field("count", 3),
    "timeoutSeconds": Field("count", 0),
    "inputKeys": Field("names", []),
    "outputKeys": Field("names", []),
    "runtimeMetadata": Field("names", []),
    "timeoutPolicy": Field("text", "TIME_OUT_WF", choices=("RETRY", "TIME_OUT_WF", "ALERT_ONLY")),
    "retryLogic": Field("text", "FIXED", choices=("FIXED", "EXPONENTIAL_BACKOFF", "LINEAR_BACKOFF")),
    "retryDelaySeconds": Field("count", 60),
    "responseTimeoutSeconds": Field("count", 3600),
    "concurrentExecLimit": Field("count"),
    "inputTemplate": Field("object", {}),
    "rateLimitPerFrequency": Field("count", 0),
    "rateLimitFrequencyInSeconds": Field("count", 1),
    "isolationGroupId": Field("text"),
    "executionNameSpace": Field("text"),
    "ownerEmail": Field("text"),
    "pollTimeoutSeconds": Field("count"),
    "backoffScaleFactor": Field("count", 1),
    "maxRetryDelaySeconds": Field("count", 0),
    "backoffJitterMs": Field("count", 0),
    "baseType": Field("text"),
    "totalTimeoutSeconds": Field("count", 0),
    "taskStatusListenerEnabled": Field("flag", default=True),
    "inputSchema": Field("object"),
    "outputSchema": Field("object"),
    "enforceSchema": Field("flag", default=False),
}

SUB_WORKFLOW: Mapping[str, Field] = {
    "name": Field("text"),
    "version": Field("count"),
    "taskToDomain": Field("object"),
    "workflowDefinition": Field("any"),
    "idempotencyKey": Field("text"),
    "idempotencyStrategy": Field("text", choices=("FAIL", "RETURN_EXISTING", "FAIL_ON_RUNNING")),
    "priority": Field("any"),
}


def _task_fields() -> Mapping[str, Field]:
    fields: dict[str, Field] = {
        "name": Field("text"),
        "taskReferenceName": Field("text"),
        "description": Field("text"),
        "inputParameters": Field("object", {}),
        "type": Field("text", "SIMPLE"),
        "dynamicTaskNameParam": Field("text"),
        "caseValueParam": Field("text"),
        "caseExpression": Field("text"),
        "scriptExpression": Field("text"),
        "dynamicForkJoinTasksParam": Field("text"),
        "dynamicForkTasksParam": Field("text"),
        "dynamicForkTasksInputParamName": Field("text"),
        "startDelay": Field("count", 0),
        "subWorkflowParam": Field("sub workflow"),
        "joinOn": Field("names", []),
        "sink": Field("text"),
        "optional": Field("flag", default=False),
        "taskDefinition": Field("task definition"),
        "rateLimited": Field("flag"),
        "defaultExclusiveJoinTask": Field("names", []),
        "asyncComplete": Field("flag", default=False),
        "loopCondition": Field("text"),
        "items": Field("text"),
        "retryCount": Field("count"),
        "evaluatorType": Field("text"),
        "expression": Field("text"),
        "onStateChange": Field("object", {}),
        "joinStatus": Field("text"),
        "cacheConfig": Field("object"),
        "permissive": Field("flag", default=False),
        "joinMode": Field("text", choices=("SYNC", "ASYNC"), hint=True),
        "metadata": Field("object", {}),
    }
    # Tasks have tasks in them, of the same shape.
    fields["decisionCases"] = Field("cases", {}, fields)
    fields["defaultCase"] = Field("tasks", [], fields)
    fields["forkTasks"] = Field("branches", [], fields)
    fields["loopOver"] = Field("tasks", [], fields)
    return fields


TASK: Mapping[str, Field] = _task_fields()

WORKFLOW: Mapping[str, Field] = {
    "name": Field("text"),
    "description": Field("text"),
    "version": Field("count"),
    "tasks": Field("tasks", [], TASK),
    "inputParameters": Field("names", []),
    "outputParameters": Field("object", {}),
    "failureWorkflow": Field("text"),
    "failureWorkflowVersion": Field("count"),
    "schemaVersion": Field("count", 2),
    "restartable": Field("flag", default=True),
    "workflowStatusListenerEnabled": Field("flag", default=False),
    "workflowStatusListenerSink": Field("text"),
    "ownerEmail": Field("text"),
    "ownerApp": Field("text"),
    "createTime": Field("count", 0),
    "updateTime": Field("count"),
    "createdBy": Field("text"),
    "updatedBy": Field("text"),
    "timeoutPolicy": Field("text", "ALERT_ONLY", choices=("ALERT_ONLY", "TIME_OUT_WF")),
    "timeoutSeconds": Field("count", 0),
    "variables": Field("object", {}),
    "inputTemplate": Field("object", {}),
    "rateLimitConfig": Field("object"),
    "inputSchema": Field("object"),
    "outputSchema": Field("object"),
    "enforceSchema": Field("flag", default=True),
    "metadata": Field("object", {}),
    "cacheConfig": Field("object"),
    "maskedFields": Field("names", []),
}

REQUIRED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "EVENT": (("sink",),),
    "DECISION": (("caseValueParam", "caseExpression"), ("decisionCases",)),
    "SWITCH": (("evaluatorType",), ("expression",), ("decisionCases",)),
    "DYNAMIC": (("dynamicTaskNameParam",),),
    "FORK_JOIN": (("forkTasks",),),
    "DO_WHILE": (("loopCondition", "items"), ("loopOver",)),
    "SUB_WORKFLOW": (("subWorkflowParam",),),
    "TERMINATE": (("inputParameters.terminationStatus",),),
    "KAFKA_PUBLISH": (("inputParameters.kafka_request",),),
    "HTTP": (("inputParameters.http_request", "inputParameters.uri", "inputParameters.method"),),
    "JSON_JQ_TRANSFORM": (("inputParameters.queryExpression",),),
    "START_WORKFLOW": (("inputParameters.startWorkflow",),),
    "FORK_JOIN_DYNAMIC": (
        ("dynamicForkJoinTasksParam", "dynamicForkTasksParam", "inputParameters.forkTaskInputs"),
    ),
}
"""Per task type: of each group one key must be there, or Conductor refuses the definition or the run."""
