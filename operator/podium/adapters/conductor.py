"""Conductor over HTTP: the dozen endpoints that Podium uses, with their odd answers translated.

What the server really does was tried on 3.32.3; the remarks name the oddities. conductor-python is
for workers: it has no asynchronous client for workflows and definitions.
"""

import asyncio
import contextlib
import logging
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast
from urllib.parse import quote

from podium.adapters.conductor_answers import LONGEST_WORDS, raise_for, raise_for_once
from podium.adapters.conductor_http import ConductorHttp
from podium.adapters.conductor_json import making_sense, parse_run
from podium.ports import (
    Conflict,
    Gone,
    Json,
    Moved,
    NotSent,
    OutcomeUnknown,
    Polled,
    Refused,
    RetryLater,
    RunSeen,
    ServerFacts,
    StartRequest,
    TaskAnswer,
)

log = logging.getLogger(__name__)

_PAGE = 500
_VERSION = re.compile(r"v?\d[\w.+-]{0,62}")
_RUN_ID = re.compile(r"[\w.:-]{1,128}")
_STORE_ID = re.compile(r"\bid ([0-9a-f]{16})\b")


class HttpConductor(ConductorHttp):
    """`podium.ports.Conductor` over HTTP. Open it with `async with`."""

    # --- the server itself ---------------------------------------------------------------------------

    async def describe(self) -> ServerFacts:
        """What server it is; asked with our credentials. Raises LoginRefused."""
        # The version may be told to everyone; what workers poll is not.
        polls, answer = await asyncio.gather(
            self._send("GET", "/tasks/queue/polldata", params={"taskType": "podium"}),
            self._send("GET", "/version"),
        )
        if polls.status < 500 and polls.status not in (408, 429) and not polls.is_list:
            # Conductor answers with its own user interface to every path that it does not know.
            raise RetryLater(f"{self.url} is not Conductor's API ({polls.told}): should it end in /api?")
        raise_for(polls)
        version = answer.text.strip().strip('"') if answer.status == 200 else ""
        # Whoever names a URL must not read in a status what some other server says there.
        return ServerFacts(version=version if _VERSION.fullmatch(version) else "")

    # --- definitions ---------------------------------------------------------------------------------

    async def get_definitions(self, name: str) -> list[Json]:
        """Every version, oldest first; empty if there is none."""
        versions = await self._read("GET", f"/metadata/workflow/{quote(name, safe='')}/versions", absent=[])
        with making_sense(f"the versions of {name}"):
            numbers = sorted({int(item["version"]) for item in versions})
        found = await asyncio.gather(*(self.get_definition(name, number) for number in numbers))
        return [definition for definition in found if definition is not None]

    async def get_definition(self, name: str, version: int) -> Json | None:
        """One version, or None."""
        path = f"/metadata/workflow/{quote(name, safe='')}"
        found = await self._read("GET", path, params={"version": str(version)}, absent=None)
        with making_sense(f"{name} version {version}"):
            if found is not None and (found["name"], int(found["version"])) != (name, version):
                raise ValueError(found)
        return cast("Json | None", found)

    async def list_definition_stamps(self) -> dict[tuple[str, int], int]:
        """(name, version) → when it was stored last, in milliseconds: one request for all of them."""
        found = await self._read("GET", "/metadata/workflow/names-and-versions")
        with making_sense("its definitions"):
            return {
                (name, int(item["version"])): int(item.get("updateTime") or item.get("createTime") or 0)
                for name, versions in found.items()
                for item in versions
            }

    async def put_definition(self, definition: Json) -> None:
        """Store one version. Raises Refused with Conductor's own words."""
        answer = await self._read("PUT", "/metadata/workflow", body=[definition])
        with making_sense("a definition that was stored"):
            # A list that was taken answers 200 even where an item failed.
            failed = answer.get("bulkErrorResults") or {}
        if failed:
            raise Refused("; ".join(f"{name}: {why}" for name, why in failed.items())[:LONGEST_WORDS])

    async def delete_definition(self, name: str, version: int) -> None:
        """Remove one version; one that is gone already is fine."""
        answer = await self._send("DELETE", f"/metadata/workflow/{quote(name, safe='')}/{version}")
        if answer.status in (404, 500) and await self.get_definition(name, version) is None:
            return  # an absent version answers 500, not 404
        raise_for(answer)

    async def list_task_types(self) -> frozenset[str]:
        """Names of all registered task definitions."""
        found = await self._read("GET", "/metadata/taskdefs")
        with making_sense("its task definitions"):
            return frozenset(item["name"] for item in found)

    async def put_task_definition(self, task: Json) -> None:
        """Store a task definition (create or replace)."""
        raise_for(await self._send("POST", "/metadata/taskdefs", body=[task]))

    async def list_pollers(self) -> tuple[Polled, ...]:
        """The last poll of every task type, per domain: one request."""
        found = await self._read("GET", "/tasks/queue/polldata/all")
        with making_sense("who polls"):
            return tuple(
                Polled(
                    task_type=str(item.get("queueName", "")),
                    domain=item.get("domain") or "",
                    at=datetime.fromtimestamp(item.get("lastPollTime", 0) / 1000, UTC),
                )
                for item in found
            )

    async def read_store(self, cluster_id: str) -> str:
        """What tells its database from every other; made if absent; "" if it cannot be kept there.

        A task definition that nobody polls: there is nothing else that every Conductor keeps for us.
        """
        self.mark = f"podium.{cluster_id}"
        found = await self._read_store()
        if found:
            return found
        words = f"Podium's mark of this database, id {secrets.token_hex(8)}: not a task, leave it"
        try:
            await self.put_task_definition({"name": self.mark, "description": words})
        except Refused as error:
            log.warning("Conductor does not let its database be marked: %s", error)
            return ""
        return await self._read_store()

    async def _read_store(self) -> str:
        found = await self._read("GET", self._mark_path(), absent={})
        with making_sense("the mark of its database"):
            seen = _STORE_ID.search(found.get("description") or "")
        return seen[1] if seen else ""

    # --- runs ----------------------------------------------------------------------------------------

    async def start(self, request: StartRequest) -> str:
        """Start a run; its id. Raises Refused or NotSent (not created), OutcomeUnknown."""
        body: Json = {
            "name": request.name,
            "version": request.version,
            "correlationId": request.correlation_id,
            "input": request.input,
            "priority": request.priority,
        }
        if request.task_to_domain:
            body["taskToDomain"] = dict(request.task_to_domain)
        answer = await self._send_once("POST", "/workflow", body=body)
        if answer.status == 200 and _RUN_ID.fullmatch(answer.text.strip().strip('"')):
            return answer.text.strip().strip('"')
        if answer.status == 429:
            raise NotSent("Conductor is busy (429)")
        if answer.status == 404 and answer.is_its_own:
            raise NotSent(f"Conductor does not have {request.name} version {request.version}")
        if 400 <= answer.status < 500 and answer.status not in (401, 403, 408) and answer.is_its_own:
            raise Refused(answer.words)
        raise OutcomeUnknown(f"Conductor answered {answer.status} to the start: {answer.words}")

    async def find_runs(self, name: str, correlation_id: str) -> list[RunSeen]:
        """Top-level runs with this correlation id, oldest first, without tasks."""
        found = await self._read(
            "POST",
            f"/workflow/{quote(name, safe='')}/correlated",
            params={"includeClosed": "true", "includeTasks": "false"},
            body=[correlation_id],
        )
        with making_sense(f"the runs of {correlation_id}"):
            # An id that it does not have is answered with an empty list: without one it is no answer.
            runs = [parse_run(item) for item in found[correlation_id]]
        # Sub-workflows and failure workflows inherit the correlation id; they are no duplicates.
        own = [run for run in runs if not run.parent_id and not run.failure_run]
        return sorted(own, key=lambda run: run.create_ms)

    async def get_runs(self, workflow_ids: Sequence[str]) -> dict[str, RunSeen | None]:
        """Many runs with their tasks in one request; None for those that do not exist."""
        if not workflow_ids:
            return {}
        found = await self._read(
            "POST", "/workflow/bulk/search", params={"includeTasks": "true"}, body=list(workflow_ids)
        )
        seen: dict[str, RunSeen | None] = {}
        with making_sense(f"{len(workflow_ids)} runs"):
            for item in found.get("bulkSuccessfulResults") or []:
                run = parse_run(item)
                seen[run.workflow_id] = run
            for workflow_id, why in (found.get("bulkErrorResults") or {}).items():
                if "No such workflow" in str(why):
                    seen[workflow_id] = None
        return seen

    async def list_moved(self, since_ms: int) -> tuple[Moved, ...]:
        """Runs whose state or tasks changed after `since_ms` (the server's clock): two searches."""
        runs, tasks = await asyncio.gather(
            self._search("/workflow/search", f"updateTime>{since_ms}"),
            self._search("/tasks/search", f"updateTime>{since_ms}"),
        )
        with making_sense("the runs that moved"):
            return tuple(
                Moved(
                    workflow_id=item["workflowId"],
                    correlation_id=item.get("correlationId", ""),
                    at_ms=_milliseconds(item.get("updateTime", "")),
                )
                for item in (*runs, *tasks)
            )

    async def pause(self, workflow_id: str) -> None:
        """Pause a run. Conflict if it is not running."""
        raise_for(await self._send("PUT", f"/workflow/{workflow_id}/pause"))

    async def resume(self, workflow_id: str) -> None:
        """Resume a paused run. Conflict if it is not paused."""
        answer = await self._send("PUT", f"/workflow/{workflow_id}/resume")
        if answer.status == 500:
            raise Conflict(answer.words)  # what a run that is not paused answers
        raise_for(answer)

    async def terminate(self, workflow_id: str, reason: str) -> None:
        """End an active run. Conflict if it has ended well, Gone if it does not exist.

        A failed run would become TERMINATED and lose its reason: read it before.
        """
        answer = await self._send("DELETE", f"/workflow/{workflow_id}", params={"reason": reason})
        if answer.status == 500 and "canceling system tasks" in answer.words:
            # A sub-workflow's run was removed: the first try cancels its task, the second ends the run.
            answer = await self._send("DELETE", f"/workflow/{workflow_id}", params={"reason": reason})
        raise_for(answer)

    async def retry(self, workflow_id: str, *, resume_children: bool) -> None:
        """Run what failed once more, failed sub-workflows from where they failed or anew."""
        params = {"resumeSubworkflowTasks": str(resume_children).lower()}
        answer = await self._send_once("POST", f"/workflow/{workflow_id}/retry", params=params)
        if answer.status == 404 and "still running" in answer.words:
            raise Conflict("it is still running")
        raise_for_once(answer)

    async def restart(self, workflow_id: str) -> None:
        """Begin an ended run anew, with the same input and the definition it was started with."""
        answer = await self._send_once("POST", f"/workflow/{workflow_id}/restart")
        if answer.status == 404 and "restart" in answer.words:
            raise Refused("its definition says that it cannot be restarted (restartable: false)")
        raise_for_once(answer)

    async def rerun(self, workflow_id: str, task_id: str, task_input: Json | None) -> None:
        """Run an ended run again from this task on; `task_input` replaces the task's input if given."""
        body: Json = {"reRunFromWorkflowId": workflow_id, "reRunFromTaskId": task_id}
        if task_input is not None:
            body["taskInput"] = task_input
        raise_for_once(await self._send_once("POST", f"/workflow/{workflow_id}/rerun", body=body))

    async def skip(self, workflow_id: str, ref: str) -> None:
        """Leave a task out that has not begun."""
        path = f"/workflow/{workflow_id}/skiptask/{quote(ref, safe='')}"
        answer = await self._send_once("PUT", path)
        if answer.status == 500 and "cannot be skipped" in answer.words:
            raise Conflict("it has begun already")
        if answer.status == 500 and "does not exist" in answer.words:
            raise Refused(answer.words)
        raise_for_once(answer)

    async def answer(self, answer: TaskAnswer) -> None:
        """Complete or reject a task that waits. Conductor ignores it for one that waits no more."""
        body: Json = {
            "workflowInstanceId": answer.workflow_id,
            "taskId": answer.task_id,
            "status": "COMPLETED" if answer.approved else "FAILED_WITH_TERMINAL_ERROR",
            "workerId": answer.by,
            "outputData": answer.output or {},
        }
        if not answer.approved:
            body["reasonForIncompletion"] = answer.reason
        raise_for(await self._send("POST", "/tasks", body=body))

    async def nudge(self, workflow_id: str) -> None:
        """Have the run's next step decided now."""
        raise_for(await self._send("PUT", f"/workflow/decide/{workflow_id}"))

    async def find_related(self, correlation_id: str) -> tuple[str, ...]:
        """Ids of all runs with this correlation id, sub-workflows and failure workflows included."""
        rows = await self._search("/workflow/search", f"correlationId='{correlation_id}'")
        return tuple(str(item["workflowId"]) for item in rows)

    async def remove(self, workflow_id: str) -> None:
        """Remove a run with all its data, whatever its state; one that is gone already is fine.

        Never with the server's default, which archives: on SQL stores that drops the data all the same
        and leaves the run in the search, where it leads nowhere.
        """
        with contextlib.suppress(Gone):
            raise_for(
                await self._send(
                    "DELETE", f"/workflow/{workflow_id}/remove", params={"archiveWorkflow": "false"}
                )
            )

    async def _search(self, path: str, query: str) -> list[Json]:
        rows: list[Json] = []
        while True:
            params = {"query": query, "size": str(_PAGE), "start": str(len(rows)), "sort": "updateTime:ASC"}
            found = await self._read("GET", path, params=params)
            with making_sense("a search"):
                page = found["results"]
                rows += page
            if len(page) < _PAGE:
                return rows


def _milliseconds(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        return 0
