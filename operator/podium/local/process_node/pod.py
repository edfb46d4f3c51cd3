"""One pod on the stand-in node, from its binding to its removal."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

from podium.local.errors import LocalError
from podium.local.process_node import files, probes
from podium.local.process_node.api_server import ApiError, ApiServer
from podium.local.process_node.container import (
    Command,
    ConfigError,
    Named,
    Place,
    build_command,
    find_references,
    find_volumes,
    first_container,
    read_data,
    wants_token,
)
from podium.local.process_node.exits import Exits
from podium.local.process_node.status import (
    Running,
    Seen,
    State,
    Terminated,
    Waiting,
    build_pod_status,
    cut_message,
    describe_end,
    is_restarted,
    next_delay,
)
from podium.local.processes import Identity, Process, Program

Json = dict[str, Any]

log = logging.getLogger(__name__)

MISSING_IMAGE = "missing/"
"""An image that begins with this cannot be pulled: for tests."""
_KEPT_FROM_HERE = frozenset({"LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "TZ"})
_SECONDS_TO_LOOK_AGAIN = 1.0
_SECONDS_OF_A_TOKEN = 24 * 3600
_UNKNOWN_END = "The container could not be located when the node came up"


@dataclass(frozen=True)
class Host:
    """What the pods of one node share."""

    api: ApiServer
    session: aiohttp.ClientSession
    exits: Exits
    folder: Path
    entrypoint: Sequence[str]


class PodRun:
    """A pod that is bound here. `live` is its whole life; the newest body comes in by `on_pod`."""

    def __init__(self, pod: Json, place: Place, host: Host) -> None:
        metadata = pod["metadata"]
        self.pod = pod
        self.name, self.namespace, self.uid = metadata["name"], metadata["namespace"], metadata["uid"]
        self.place = place
        self.folder = host.folder / "pods" / self.namespace / self.name
        self._host = host
        self.path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        self._seen = _look_at(pod)
        self._attempt = self._seen.restarts
        """Restarts, the coming one included: it is told when the container runs, not before."""
        self._written: Json = pod.get("status") or {}
        self._news = asyncio.Event()
        self._to_write = asyncio.Event()
        self._grace: float | None = None
        self.gone = self._shown = False
        self._process: Process | None = None
        self._sick = ""
        self._log: Path | None = None

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def identity(self) -> Identity | None:
        """The process that runs now."""
        return self._process.identity if self._process else None

    @property
    def log_file(self) -> Path | None:
        """What the container that ran last has written."""
        return self._log

    def on_pod(self, pod: Json) -> None:
        """The API server has this body now."""
        self.pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            self.end(pod["metadata"].get("deletionGracePeriodSeconds") or 0)

    def on_gone(self) -> None:
        """The API server has it no more: removed by force."""
        self.gone = True
        # As a kubelet does: even what is removed by force has a second.
        self.end(1.0)

    def end(self, grace: float) -> None:
        """It is to end, within this many seconds; a later call can only make it sooner."""
        self._grace = grace if self._grace is None else min(grace, self._grace)
        self._news.set()

    def _is_ending(self) -> bool:
        return self._grace is not None

    async def live(self) -> None:
        """Until the pod is removed. Never raises for what a pod or the API server does."""
        if self._seen.last is None:  # not one that goes on: nothing of a namesake before it is to stay
            await asyncio.to_thread(files.remove, self.folder)
        writing = asyncio.create_task(self._write_statuses())
        try:
            if not is_over(self.pod):
                await self._run_containers()
            while not self._is_ending():
                await self._next_news(None)
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        await self._remove()
        await asyncio.to_thread(files.tidy, self.folder)

    # --- the container -------------------------------------------------------------------------------

    async def _run_containers(self) -> None:
        delay: float | None = None
        while not self._is_ending():
            command = await self._prepare()
            if command is None:
                continue
            began = asyncio.get_running_loop().time()
            end = await self._run_once(command)
            over = self._is_ending() or not is_restarted(self.pod, end.exit_code)
            self._show(replace(self._seen.ended(end), restarts=self._attempt, over=over))
            if over:
                return
            delay = next_delay(delay, asyncio.get_running_loop().time() - began)
            if delay:
                name = first_container(self.pod)["name"]
                wait = f"back-off {delay:.0f}s restarting failed container={name} pod={self.name}"
                self._show_state(Waiting("CrashLoopBackOff", wait))
                await self._nap(delay)
            self._attempt += 1

    async def _prepare(self) -> Command | None:
        """None if it cannot be made now; the status says why, and some time has passed."""
        image = first_container(self.pod)["image"]
        if image.startswith(MISSING_IMAGE):
            failure = (
                f'failed to pull and unpack image "{image}": not found (the stand-in node has no images)'
            )
            self._show_state(Waiting("ErrImagePull", failure))
            await self._nap(_SECONDS_TO_LOOK_AGAIN)
            backing_off = f'Back-off pulling image "{image}": ErrImagePull: {failure}'
            self._show_state(Waiting("ImagePullBackOff", backing_off))
            await self._nap(None)
            return None
        try:
            return await self._build()
        except ConfigError as error:
            self._show_state(Waiting("CreateContainerConfigError", str(error)))
        except (ApiError, OSError) as error:
            log.warning("%s: %s", self, error)
        await self._nap(_SECONDS_TO_LOOK_AGAIN)
        return None

    async def _build(self) -> Command:
        values: dict[Named, dict[str, bytes]] = {}
        for kind, name in find_references(self.pod):
            path = f"/api/v1/namespaces/{self.namespace}/{kind.lower()}s/{name}"
            try:
                values[kind, name] = read_data(kind, await self._host.api.get(path))
            except ApiError as error:
                if not error.is_gone:
                    raise
        volumes = find_volumes(self.pod, values)
        folders = await asyncio.to_thread(files.write_volumes, self.folder, volumes)
        command = build_command(self.pod, self.place, values, folders, self._host.entrypoint)
        env = {
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
            "HOME": str(self.folder / "work"),
            "HOSTNAME": self.name,
        }
        if wants_token(self.pod):
            kubeconfig = str(await self._write_kubeconfig())
            env |= {"KUBECONFIG": kubeconfig, "WORKER_KUBECONFIG": kubeconfig}
        return replace(command, env=env | dict(command.env))

    async def _write_kubeconfig(self) -> Path:
        """The rights of the pod's service account, as the token that is mounted on a real node gives them."""
        account = self.pod["spec"].get("serviceAccountName", "default")
        bound = {"apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": self.uid}
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": _SECONDS_OF_A_TOKEN, "boundObjectRef": bound},
        }
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token"
        token = (await self._host.api.create(path, request))["status"]["token"]
        return await asyncio.to_thread(
            files.write_kubeconfig, self.folder, self._host.api.cluster, token, self.namespace
        )

    async def _run_once(self, command: Command) -> Terminated:
        """From the start of its process to its end."""
        self._log = self.folder / "logs" / f"{self._attempt}.log"
        foreign = tuple(name for name in os.environ if name not in _KEPT_FROM_HERE)
        program = Program(self.name, command.argv, self.folder / "work", self._log, command.env, foreign)
        began = _now()
        try:
            process = await asyncio.to_thread(Process.start, program)
        except LocalError as error:
            return Terminated(128, "StartError", _now(), began, str(error))
        self._process, self._sick = process, ""
        ended = self._host.exits.of(process)
        self._show(replace(self._seen, state=Running(began), restarts=self._attempt))
        probing = asyncio.create_task(self._probe())
        try:
            while not ended.done() and not self._is_ending() and not self._sick:
                await self._next_news(ended)
            if not ended.done():
                await self._stop(process, ended)
            code = await ended
        finally:
            if not ended.done():  # cancelled, because the node gave up waiting
                process.kill()
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)
            self._process = None
        tail = ""
        if first_container(self.pod).get("terminationMessagePolicy") == "FallbackToLogsOnError":
            tail = cut_message(await asyncio.to_thread(self._log.read_bytes))
        return describe_end(code, began, _now(), tail)

    async def _stop(self, process: Process, ended: asyncio.Future[int]) -> None:
        """SIGTERM, the grace period, SIGKILL."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        process.signal(signal.SIGTERM)
        while not ended.done():
            grace = self._grace
            if grace is None:  # its liveness probe fails
                grace = self.pod["spec"].get("terminationGracePeriodSeconds") or 30
            left = asked + grace - loop.time()
            if left <= 0:
                await asyncio.to_thread(process.kill)
                return
            await self._next_news(ended, left)

    # --- probes --------------------------------------------------------------------------------------

    async def _probe(self) -> None:
        container, address = first_container(self.pod), self.place.pod_ip
        startup, liveness, readiness = (
            probes.parse_probe(container, f"{kind}Probe", address)
            for kind in ("startup", "liveness", "readiness")
        )
        session = self._host.session
        if startup:
            await asyncio.sleep(startup.delay)
            if wrong := await probes.settle(session, startup, None, startup.period):
                self._fall_sick("startup", wrong)
                return
        self._show(replace(self._seen, started=True, ready=readiness is None))
        following: list[Coroutine[Any, Any, None]] = []
        if liveness:
            following.append(probes.follow(session, liveness, self._on_alive, passing=True))
        if readiness:
            following.append(probes.follow(session, readiness, self._on_ready, passing=False, eager=True))
        await asyncio.gather(*following)

    def _on_alive(self, alive: bool, wrong: str) -> None:
        if not alive:
            self._fall_sick("liveness", wrong)

    def _on_ready(self, ready: bool, wrong: str) -> None:
        if wrong:
            log.info("%s: readiness: %s", self, wrong)
        self._show(replace(self._seen, ready=ready))

    def _fall_sick(self, kind: str, wrong: str) -> None:
        if self._is_ending():
            return
        log.warning("%s: %s: %s; it is restarted", self, kind, wrong)
        self._sick = wrong
        self._news.set()

    # --- what the API server is told -----------------------------------------------------------------

    def _show_state(self, state: State) -> None:
        self._show(replace(self._seen, state=state))

    def _show(self, seen: Seen) -> None:
        self._seen, self._shown = seen, True
        self._to_write.set()

    async def _write_statuses(self) -> None:
        while not self.gone:
            await self._to_write.wait()
            self._to_write.clear()
            if not await self._write_status():
                await asyncio.sleep(_SECONDS_TO_LOOK_AGAIN)
                self._to_write.set()

    async def _write_status(self) -> bool:
        """False if it has to be tried again."""
        status = build_pod_status(self.pod, self._seen, self.place, self._written, _now())
        if status == self._written or self.gone:
            return True
        # Addresses are merged by themselves: those that a node before has written would stay.
        anew = {name: [{"$patch": "replace"}, *status[name]] for name in ("podIPs", "hostIPs")}
        patch = {"metadata": {"uid": self.uid}, "status": status | anew}
        try:
            await self._host.api.patch(f"{self.path}/status", patch)
        except ApiError as error:
            if not error.is_gone:
                log.warning("%s: its status is not written: %s", self, error)
            return error.is_gone
        self._written = status
        return True

    async def _remove(self) -> None:
        """Says how it ended, and lets it go, as only the node may."""
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        while not self.gone:
            try:
                if not self._shown or await self._write_status():
                    await self._host.api.delete(self.path, body)
                    return
            except ApiError as error:
                if error.is_gone:
                    return
                log.warning("%s is not removed: %s", self, error)
            await asyncio.sleep(_SECONDS_TO_LOOK_AGAIN)

    async def _nap(self, seconds: float | None) -> None:
        if not self._is_ending():
            await self._next_news(None, seconds)

    async def _next_news(self, ended: asyncio.Future[int] | None, seconds: float | None = None) -> None:
        """Until something about the pod changes, its process ends, or this time is over."""
        news: asyncio.Future[Any] = asyncio.ensure_future(self._news.wait())
        await asyncio.wait({news, ended} if ended else {news}, timeout=seconds, return_when="FIRST_COMPLETED")
        news.cancel()
        self._news.clear()


def is_over(pod: Json) -> bool:
    """Whether its containers have ended for good."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _look_at(pod: Json) -> Seen:
    """A pod as it comes to the node; one that a node before has run begins anew, and that is told."""
    now = _now()
    before = (pod.get("status") or {}).get("containerStatuses") or []
    if not before:
        return Seen(now)
    last = Terminated(137, "ContainerStatusUnknown", now, None, _UNKNOWN_END)
    return Seen(now, last=last, restarts=before[0]["restartCount"] + 1)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
