"""Conductor over HTTP: the dozen endpoints that Podium uses, with their odd answers translated.

What the server really does was tried on 3.32.3 and 3.21.14; the remarks name the oddities.
conductor-python is for workers: it has no asynchronous client for workflows and definitions.
"""

import asyncio
import contextlib
import logging
import re
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import cast
from urllib.parse import quote

from podium.adapters.conductor_answers import LONGEST_WORDS, Answer, raise_for, raise_for_once
from podium.adapters.conductor_json import (
    check_versions,
    demands_address,
    making_sense,
    parse_run,
    with_address,
    without_address,
)
from podium.adapters.conductor_search import ConductorSearch
from podium.core.servers import BULK_READ, DEFINITION_VERSIONS
from podium.ports import (
    Conflict,
    Gone,
    Json,
    NotRegistered,
    NotSent,
    OutcomeUnknown,
    Refused,
    RetryLater,
    RunSeen,
    StartRequest,
    TaskAnswer,
)

log = logging.getLogger(__name__)

_NO_RUN = "No such workflow"
_PASSES = re.compile(
    r"SQLITE_BUSY|database is locked|deadlock|serializ|lock timeout|timed out|connection|duplicate key",
    re.IGNORECASE,
)
_RUN_ID = re.compile(r"[\w.:-]{1,128}")
_STORE_ID = re.compile(r"\bid ([0-9a-f]{16})\b")


class HttpConductor(ConductorSearch):
    """`podium.ports.Conductor` over HTTP. Open it with `async with`."""

    # --- definitions ---------------------------------------------------------------------------------

    async def get_definitions(self, name: str) -> list[Json]:
        """Every version, oldest first; empty if there is none."""
        if await self._can(DEFINITION_VERSIONS):
            versions = await self._read_new("GET", f"/metadata/workflow/{quote(name, safe='')}/versions")
        else:
            versions = (await self._list_definitions()).get(name, [])
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
        return without_address(cast("Json", found)) if found is not None else None

    async def list_definition_stamps(self) -> dict[tuple[str, int], int]:
        """(name, version) → when it was stored last, in milliseconds: one request for all of them."""
        found = await self._list_definitions()
        if found:
            self._known.stamps = any(item.get("updateTime") for items in found.values() for item in items)
            if not self._known.stamps:
                found = await self._read_definitions()
        with making_sense("when its definitions were stored"):
            return {
                (name, int(item["version"])): int(item.get("updateTime") or item.get("createTime") or 0)
                for name, versions in found.items()
                for item in versions
            }

    async def _list_definitions(self) -> Mapping[str, list[Json]]:
        """Name → its versions, each with its number and, on newer servers, when it was stored."""
        answer = await self._send("GET", "/metadata/workflow/names-and-versions", wants_json=True)
        # Where the path is unknown it is taken for a definition's name.
        if answer.is_no_endpoint or (answer.status == 404 and answer.is_its_own):
            return await self._read_definitions()
        raise_for(answer)
        with making_sense("its definitions"):
            found: Mapping[str, list[Json]] = answer.body
            check_versions(found)
        return found

    async def _read_definitions(self) -> Mapping[str, list[Json]]:
        """The same with all that is in them."""
        found: defaultdict[str, list[Json]] = defaultdict(list)
        whole = await self._read("GET", "/metadata/workflow")
        with making_sense("all definitions"):
            for definition in whole:
                found[definition["name"]].append(definition)
            check_versions(found)
        return found

    async def put_definition(self, definition: Json) -> None:
        """Store one version. Raises Refused with Conductor's own words, or if it drops a setting."""
        self._refuse_dropped(definition)
        answer = await self._put("PUT", "/metadata/workflow", definition)
        with making_sense("a definition that was stored"):
            # A list that was taken answers 200 even where an item failed.
            failed = dict(answer.body.get("bulkErrorResults") or {})
        if failed:
            words = "; ".join(f"{name}: {why}" for name, why in failed.items())[:LONGEST_WORDS]
            # It tells of its database's troubles as it does of a bad definition.
            raise RetryLater(words) if _PASSES.search(words) else Refused(words)
        await self._check_kept(definition)

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
        await self._put("POST", "/metadata/taskdefs", task)

    async def _put(self, method: str, path: str, body: Json) -> Answer:
        answer = await self._send(method, path, body=[body])
        if answer.status == 400 and demands_address(answer.words, body):
            answer = await self._send(method, path, body=[with_address(body)])
        raise_for(answer)
        return answer

    async def read_store(self, cluster_id: str) -> str:
        """What tells its database from every other; made if absent; "" if it cannot be kept there.

        A task definition that nobody polls: there is nothing else that every Conductor keeps for us.
        """
        self.mark = f"podium.{cluster_id}"
        async with self._known.marking:
            return await self._read_store() or await self._make_store()

    async def _make_store(self) -> str:
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
        """Start a run; its id. Raises Refused, NotRegistered or NotSent (not created), OutcomeUnknown."""
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
            raise NotRegistered(f"Conductor does not have {request.name} version {request.version}")
        if answer.lacks_sub_workflow:
            # It looks for them before it makes a run: they may be registered in a moment.
            raise NotRegistered(f"a sub-workflow is not registered in Conductor: {answer.words}")
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
        """Many runs with their tasks in one request; None for those that do not exist.

        Those that it cannot read, or tells of in a way that makes no sense, are left out.
        """
        if not workflow_ids:
            return {}
        if not await self._can(BULK_READ):
            return dict(await asyncio.gather(*(self._get_run(workflow_id) for workflow_id in workflow_ids)))
        found = await self._read_new(
            "POST", "/workflow/bulk/search", params={"includeTasks": "true"}, body=list(workflow_ids)
        )
        seen: dict[str, RunSeen | None] = {}
        with making_sense(f"{len(workflow_ids)} runs"):
            for item in found.get("bulkSuccessfulResults") or []:
                # One that nobody understands keeps nobody from the others.
                with contextlib.suppress(RetryLater), making_sense("a run"):
                    run = parse_run(item)
                    seen[run.workflow_id] = run
            for workflow_id, why in (found.get("bulkErrorResults") or {}).items():
                if _NO_RUN in str(why):
                    seen[workflow_id] = None
        return seen

    async def _get_run(self, workflow_id: str) -> tuple[str, RunSeen | None]:
        answer = await self._send("GET", f"/workflow/{workflow_id}", params={"includeTasks": "true"})
        if answer.status == 404 and _NO_RUN in answer.words:
            return workflow_id, None
        raise_for(answer)
        with making_sense(f"run {workflow_id}"):
            return workflow_id, parse_run(answer.body)

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
