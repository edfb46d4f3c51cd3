"""Conductor's task API, as far as a worker needs it. The only module that knows conductor-python."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from conductor.client.configuration.configuration import Configuration
from conductor.client.http.async_api_client import AsyncApiClient
from conductor.client.http.async_rest import ApiException, AsyncRESTClientObject

from podium_workers.runtime.headers import Headers
from podium_workers.runtime.task import Outcome, Queue, Task

POLL_SECONDS = 60.0
UPDATE_SECONDS = 60.0
LOOK_SECONDS = 15.0
LOG_SECONDS = 10.0
QUERY_BYTES = 6000  # Conductor answers 400 to an address of about 8 kB
TOO_LARGE = 413  # of a proxy too, and of the same request always
log = logging.getLogger(__name__)
_WORTH_RETRYING = frozenset({401, 403, 408, 425, 429})


class Unavailable(Exception):
    """Conductor gave no answer, or one that may be another next time. The outcome is unknown."""


class Hidden(Unavailable):
    """A 4xx that is no answer to what was asked: of a proxy, or of a server that has nothing at this path."""


class Refused(Exception):
    """Conductor says no, and will say so again (4xx)."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status


class TaskApi:
    """Polls, results, signs of life and logs. Every call raises Unavailable or Refused."""

    def __init__(self, worker_id: str, headers: Headers | None = None) -> None:
        """`headers`: sent with every request besides."""
        self._worker_id = worker_id
        self._headers = headers
        self._configuration = Configuration()  # CONDUCTOR_SERVER_URL, CONDUCTOR_AUTH_KEY and _SECRET
        self._configuration.host = self._configuration.host.rstrip("/")
        # conductor-python closes and renews a connection pool *of its own* at the first broken connection,
        # which tears every other request that is under way, and a torn poll loses tasks; and it sends a
        # torn poll twice. A pool that it is given it leaves alone.
        self._pool = AsyncRESTClientObject()
        if headers is not None:

            async def add(request: Any) -> None:
                request.headers.update(headers.now())

            self._pool.connection.event_hooks = {"request": [add]}
        self._client = self._new_client()

    @property
    def url(self) -> str:
        return str(self._configuration.host)

    async def close(self) -> None:
        await self._pool.close()

    async def depths(self, queues: Iterable[Queue]) -> dict[Queue, int]:
        """How many tasks wait in each queue: also those that may not be had yet (delayed, limited)."""
        depths: dict[Queue, int] = {}
        for part in _parts(queues):
            query = [("taskType", str(queue)) for queue in part]
            sizes = await self._call("GET", "/tasks/queue/sizes", LOOK_SECONDS, query=query)
            if not isinstance(sizes, dict):
                raise Unavailable("the queue sizes are not JSON")
            try:
                depths.update({queue: int(sizes.get(str(queue), 0)) for queue in part})
            except (TypeError, ValueError):
                raise Unavailable("the queue sizes are not numbers") from None
        return depths

    async def poll(self, queue: Queue, count: int) -> list[Task]:
        """At most `count` tasks, at once; they are ours from here on. 0 says only that we are there.

        Never a long poll: Conductor keeps what it has found until `count` are there or the time is over
        (measured: a single task reached a poll for five after the whole time-out, 3 s of 3 s).
        """
        query: list[tuple[str, Any]] = [("count", count), ("timeout", 0), ("workerid", self._worker_id)]
        if queue.domain:
            query.append(("domain", queue.domain))
        path = {"tasktype": queue.task_type}
        answer = await self._call("GET", "/tasks/poll/batch/{tasktype}", POLL_SECONDS, path=path, query=query)
        if not isinstance(answer, list):
            raise Unavailable("the answer to a poll is not a list of tasks")
        return list(_tasks(answer))

    async def finish(self, task: Task, outcome: Outcome, lines: Sequence[tuple[int, str]]) -> None:
        """Sends a result. The same one may be sent again: Conductor ignores it for a finished task.

        But not IN_PROGRESS, which finishes nothing: it takes the task from whoever has it by then.
        """
        await self._update(
            task,
            UPDATE_SECONDS,
            status=outcome.status,
            outputData=dict(outcome.output),
            reasonForIncompletion=outcome.reason or None,
            callbackAfterSeconds=outcome.after,
            logs=[{"taskId": task.task_id, "createdTime": when, "log": text} for when, text in lines],
        )

    async def extend(self, task: Task, seconds: float) -> None:
        """The task's responseTimeout starts anew. (Logs sent with this are dropped by Conductor.)

        Takes at most so many `seconds`: if there is no answer, another try must fit into the lease.
        """
        await self._update(task, seconds, status="IN_PROGRESS", extendLease=True)

    async def decide(self, task: Task) -> None:
        """Has Conductor look at the run now."""
        await self._call("PUT", "/workflow/decide/{id}", UPDATE_SECONDS, path={"id": task.workflow_id})

    async def is_ours(self, task: Task) -> bool:
        """Whether the task is still in progress, and was given to no worker since it was to this one."""
        now = await self._call("GET", "/tasks/{id}", LOOK_SECONDS, path={"id": task.task_id})
        if not isinstance(now, dict):
            raise Unavailable("the answer is not a task")
        holder = (now.get("workerId"), now.get("pollCount") or 1)
        return now.get("status") == "IN_PROGRESS" and holder == (self._worker_id, task.poll_count)

    async def log(self, task: Task, line: str) -> None:
        """Adds a line, or several in one text, to the task's log."""
        # Not through the client: it puts a text body into JSON and strips the quotes, leaving `\\n`.
        try:
            authorization = await self._client.get_authentication_headers() or {}
            response = await self._pool.connection.post(
                f"{self.url}/tasks/{quote(task.task_id, safe='')}/log",
                content=line.encode("utf-8", "replace"),
                headers={"Content-Type": "text/plain; charset=utf-8", **authorization.get("header", {})},
                timeout=LOG_SECONDS,
            )
        except Exception as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from error
        if response.status_code >= 400:
            raise Unavailable(f"{response.status_code} to a log line")

    async def _update(self, task: Task, seconds: float, **fields: Any) -> None:
        body = {
            "taskId": task.task_id,
            "workflowInstanceId": task.workflow_id,
            "workerId": self._worker_id,
            **{key: value for key, value in fields.items() if value is not None},
        }
        await self._call("POST", "/tasks", seconds, body=body)

    async def _call(
        self,
        method: str,
        resource: str,
        seconds: float,
        *,
        path: Mapping[str, str] | None = None,
        query: Sequence[tuple[str, Any]] = (),
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        # AsyncApiClient rather than AsyncTaskResourceApi on top of it: the latter turns tasks into models,
        # and where one does not fit it logs that and returns nothing, with the tasks already handed over.
        try:
            async with asyncio.timeout(seconds):  # the client's own time-out is one for each step
                answer = await self._client.call_api(
                    resource,
                    method,
                    dict(path or {}),
                    list(query),
                    {"Accept": "*/*"},
                    body=body,
                    response_type="object",
                    _return_http_data_only=True,
                    _request_timeout=seconds,
                )
        except ApiException as error:
            status = int(error.status or 0)
            if status in {401, 403}:
                # After five failed logins a client never tries again; a new one does.
                self._client = self._new_client()
                if self._headers is not None:
                    self._headers.forget()
            reason = _words(error)
            said = f"{status}: {reason}" if status else reason
            if not 400 <= status < 500 or status in _WORTH_RETRYING:
                raise Unavailable(said) from error
            if status != TOO_LARGE and not _is_an_answer(status, error.body):
                raise Hidden(said) from error
            raise Refused(status, reason) from error
        except TimeoutError as error:
            raise Unavailable(f"no answer within {seconds:g} s") from error
        except Exception as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from error
        if isinstance(answer, str) and answer.lstrip().startswith("<"):
            # Redirects are followed: to the page of a login, for one. A result is not taken by that.
            raise Unavailable("an HTML page")
        return answer

    def _new_client(self) -> AsyncApiClient:
        client = AsyncApiClient(self._configuration)
        client.async_rest_client = AsyncRESTClientObject(connection=self._pool.connection)
        return client


def _tasks(items: Iterable[Any]) -> Iterator[Task]:
    """Those that can be read: one that cannot must not cost the others, which are handed over too."""
    for item in items:
        try:
            yield _task(item)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            name = item.get("taskId") if isinstance(item, Mapping) else None
            log.error(  # noqa: TRY400
                "a task that was handed over cannot be read, and is left to its responseTimeout: %s (%s: %s)",
                name or "without an id",
                type(error).__name__,
                error,
            )


def _task(item: Mapping[str, Any]) -> Task:
    return Task(
        task_id=item["taskId"],
        workflow_id=item.get("workflowInstanceId") or "",
        task_type=item.get("taskDefName") or item.get("taskType") or "",
        ref=item.get("referenceTaskName") or "",
        retry_count=item.get("retryCount") or 0,
        poll_count=item.get("pollCount") or 1,
        response_timeout=float(item.get("responseTimeoutSeconds") or 0),
        timeout=_timeout(item),
        input=_mapping(item.get("inputData")),
        output=_mapping(item.get("outputData")),
        external_input=item.get("externalInputPayloadStoragePath"),
        domain=item.get("domain"),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping | None):
        raise TypeError(f"a {type(value).__name__} in place of an object")
    return value or {}


def _timeout(item: Mapping[str, Any]) -> float:
    # The definition that holds for this run travels in it; ALERT_ONLY lets the attempt go on.
    definition = (item.get("workflowTask") or {}).get("taskDefinition") or {}
    if definition.get("timeoutPolicy") == "ALERT_ONLY":
        return 0.0
    seconds = float(definition.get("timeoutSeconds") or 0)
    # Conductor counts from the hand-over, less a delay that is over by then (3.32.3): an attempt that waited
    # for its retry has so much more time.
    return seconds and seconds + float(item.get("startDelayInSeconds") or 0)


def _parts(queues: Iterable[Queue]) -> Iterator[list[Queue]]:
    part: list[Queue] = []
    size = 0
    for queue in queues:
        length = len(quote(str(queue), safe="")) + len("&taskType=")
        if part and size + length > QUERY_BYTES:
            yield part
            part, size = [], 0
        part.append(queue)
        size += length
    if part:
        yield part


def _is_an_answer(status: int, body: Any) -> bool:
    """Whether an error is Conductor's own, and about what was asked for.

    An ingress without a backend answers in its place, with 404 mostly, in HTML or plain text; Conductor with
    JSON and a message. Its web server has HTML only for what a worker never sends: a `/` or `\\` in a path,
    and addresses of more than about 8 kB.
    """
    try:
        said = json.loads(body or "")
    except ValueError:
        return False
    if not isinstance(said, dict) or "message" not in said:
        return False
    nothing_here = status == 404 and str(said["message"]).startswith("No static resource")
    return not nothing_here and status != 405


def _words(error: ApiException) -> str:
    text = str(error.message or error.reason or "no answer").strip()
    return "an HTML page" if text.startswith("<") else " ".join(text.split())[:300]
