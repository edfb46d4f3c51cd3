"""Tasks: what went wrong in words, and the webhook that tells people."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import aiohttp

from podium_workers.runtime.context import Reject, Retry, TaskContext
from podium_workers.runtime.registry import task

TIMEOUT_SECONDS = 20.0
MOST_TEXT = 4000
_TRY_AGAIN = frozenset({408, 425, 429})


@task("notify")
async def notify(
    context: TaskContext,
    message: str,
    url: str = "",
    title: str = "",
    level: str = "info",
    details: dict[str, Any] | None = None,
    secret: str = "",
) -> dict[str, Any]:
    """Posts a message to a webhook, as JSON with the `text` that chats show; without a `url` it only logs."""
    text = "\n".join(filter(None, (title, message)))[:MOST_TEXT]
    context.log(text)
    if not url:
        return {"delivered": False, "text": text}
    body = {
        "text": text,
        "title": title,
        "message": message[:MOST_TEXT],
        "level": level,
        "details": details or {},
        "workflowId": context.workflow_id,
    }
    data = json.dumps(body, sort_keys=True).encode()
    # The same for each delivery of this task, so that the receiver can tell a repetition.
    headers = {"Content-Type": "application/json", "Idempotency-Key": context.task_id}
    if secret:
        headers["X-Podium-Signature-256"] = (
            f"sha256={hmac.new(secret.encode(), data, hashlib.sha256).hexdigest()}"
        )
    status = await _post(url, data, headers)
    return {"delivered": True, "status": status, "text": text}


@task("describe_build_failure")
def describe_build_failure(
    reason: str = "",
    workflowId: str = "",  # noqa: N803
    failureStatus: str = "",  # noqa: N803
    repository: str = "",
    commit: str = "",
    workflow: str = "",
    failedTasks: list[str] | None = None,  # noqa: N803
) -> dict[str, Any]:
    """Makes a message of what a failure workflow is given: which task, which commit, why, where to look."""
    where = (failedTasks or [""])[-1]
    what = "".join((f" of {repository}" if repository else "", f" at {commit[:12]}" if commit else ""))
    why = reason or "no reason was given"
    lines = [
        f"{failureStatus or 'FAILED'}{f' in {where}' if where else ''}: {why}",
        "Nothing was stored or sent to a device by this run." if _nothing_left(where, why) else "",
        f"The whole log: podium logs (Conductor workflow {workflowId})" if workflowId else "",
    ]
    title = f"Firmware{what} was not released"
    if workflow.endswith("rollback"):
        title = f"A rollback{what} has failed"
    elif workflow.endswith("pattern-test"):
        title = f"A pattern test{what} has not passed"
    message = "\n".join(filter(None, lines))
    return {"title": title, "message": message, "task": where, "reason": why, "level": "error"}


_BEFORE_STORING = frozenset(
    {
        "validate_commit",
        "clean_build_env",
        "generate_pattern",
        "platformio_compile",
        "extract_build_metrics",
        "validate_build",
        "store_artifact",
    }
)


def _nothing_left(task: str, reason: str) -> bool:
    return task in _BEFORE_STORING or reason.startswith("the gates have not passed")


async def _post(url: str, data: bytes, headers: dict[str, str]) -> int:
    host = "the webhook"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)) as session,
            session.post(url, data=data, headers=headers, allow_redirects=False) as response,
        ):
            host = response.url.host or host
            status = response.status
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, ValueError):
        raise Reject("url: not an address of a webhook (https://…)") from None
    except TimeoutError:
        raise Retry(f"{host} has not answered within {TIMEOUT_SECONDS:g} s") from None
    except aiohttp.ClientError as error:
        # Its text may hold the whole URL, and the secret of a webhook is in its path.
        raise Retry(f"{host} cannot be reached: {type(error).__name__}") from None
    if status >= 500 or status in _TRY_AGAIN:
        raise Retry(f"{host} answered {status}")
    if status >= 300:
        raise Reject(f"{host} answered {status}: is the webhook's address still right?")
    return status
