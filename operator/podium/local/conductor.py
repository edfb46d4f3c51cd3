"""A Conductor server on this machine: its own folder, its own port, an SQLite file, only on loopback."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from podium.local.cache import Cache
from podium.local.conductor_server import (
    CURRENT,
    ConductorServer,
    Release,
    needs_for_conductor,
    provide_conductor,
)
from podium.local.errors import Interrupted, LocalError, MissingPrerequisites
from podium.local.pki import write_secret
from podium.local.prerequisites import Need, require
from podium.local.processes import Process, Processes, Program
from podium.local.progress import Progress, Silence
from podium.local.services import Probe, Service, await_ready, free_port

_SECONDS_TO_START = 180.0
# FINALIZED would report every end a second time; FAILED and TIMED_OUT are ends of their own.
_WORKFLOW_STATUSES = "RUNNING,PAUSED,RESUMED,RESTARTED,RETRIED,RERAN,COMPLETED,FAILED,TIMED_OUT,TERMINATED"
_TASK_STATUSES = (
    "SCHEDULED,IN_PROGRESS,COMPLETED,COMPLETED_WITH_ERRORS,FAILED,FAILED_WITH_TERMINAL_ERROR,TIMED_OUT,"
    "CANCELED,SKIPPED"
)
# The default of 50 loses most of a burst (a poll of 100 tasks is one).
_NOTICE_QUEUE = "10000"


@dataclass(frozen=True)
class Notices:
    """Where Conductor reports what happens: it POSTs to `<url>/workflow` and `<url>/task`.

    Each request carries `Authorization: Bearer <token>`.
    """

    url: str
    token: str


class Conductor:
    """A running Conductor. Several do not disturb each other."""

    def __init__(self, service: Service, processes: Processes) -> None:
        self._service = service
        self._processes = processes
        self._process: Process | None = None
        self.url = service.address

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        notice_url: str | None = None,
        notice_token: str = "",
        properties: Mapping[str, str] | None = None,
        server: ConductorServer | None = None,
        release: Release = CURRENT,
        cache: Cache | None = None,
        progress: Progress | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> Conductor:
        """Starts one in `folder` (made if need be) and returns when it answers: 5–15 s if all is downloaded.

        `properties` are settings of Conductor's own, which win over those made here. Everything ends with
        `stop`, with the `with` block, or with this process however that ends. Raises LocalError.
        """
        progress = progress or Silence()
        processes = Processes()
        try:
            if server is None:
                cache = cache or Cache.of(environment)
                server = prepare_conductor(cache, processes, progress, environment, release)
            notices = Notices(notice_url, notice_token) if notice_url else None
            conductor = cls(write_conductor(folder, server, notices, properties), processes)
            with progress.step("starting Conductor"):
                conductor.resume()
        except BaseException:
            processes.stop(grace=0.0)
            raise
        return conductor

    @property
    def folder(self) -> Path:
        return self._service.program.folder

    def kill(self) -> None:
        """Ends it as a crash would; `resume` brings it back with its data, at the same address."""
        if self._process is not None:
            self._process.kill()

    def resume(self) -> None:
        """Starts it again after `kill` and waits until it answers."""
        self._process = self._processes.start(self._service.program)
        await_ready(self._service, self._process, _SECONDS_TO_START)

    def restart(self) -> None:
        """Stops it politely and starts it again, with its data, at the same address."""
        if self._process is not None:
            self._process.stop()
        self.resume()

    def signal(self, number: int) -> None:
        """SIGSTOP makes a server that accepts connections and never answers; SIGCONT ends that."""
        if self._process is not None:
            self._process.signal(number)

    def stop(self) -> None:
        """Ends it; the folder stays. Does nothing twice."""
        self._processes.stop(grace=0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def prepare_conductor(
    cache: Cache,
    processes: Processes,
    progress: Progress | None = None,
    environment: Mapping[str, str] = os.environ,
    release: Release = CURRENT,
) -> ConductorServer:
    """Downloads and prepares Conductor if that was not done yet. Raises MissingPrerequisites, LocalError."""
    needs = needs_for_conductor(cache, environment, release) | {Need.ROOM_TO_RUN}
    java = require(needs, cache.root, environment).java
    if java is None:
        raise MissingPrerequisites(["a JDK of version 21 or newer is needed to run Conductor"])

    def train(server: ConductorServer) -> None:
        with tempfile.TemporaryDirectory(prefix="podium-conductor-") as folder:
            service = write_conductor(Path(folder), server, None)
            process = processes.start(service.program)
            try:
                await_ready(service, process, _SECONDS_TO_START)
            except LocalError as error:
                if processes.closed:
                    raise Interrupted("Conductor was not prepared.") from error
                raise
            finally:
                # The archive is written on the way out, which takes a quarter of a minute.
                process.stop(grace=_SECONDS_TO_START)

    return provide_conductor(cache, java, processes, train, progress, environment, release)


def write_conductor(
    folder: Path,
    server: ConductorServer,
    notices: Notices | None,
    properties: Mapping[str, str] | None = None,
) -> Service:
    """Settings and command in `folder`; starts nothing."""
    for path in (folder, folder / "logs", folder / "tmp"):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {
        "server.address": "127.0.0.1",
        "server.port": str(port),
        # It reports the missing Elasticsearch as ill health although nothing uses one.
        "management.health.elasticsearch.enabled": "false",
        "conductor.integrations.ai.enabled": "false",
        **server.settings,
        **(notice_settings(notices) if notices else {}),
        **(properties or {}),
    }
    text = "".join(f"{key}={value}\n" for key, value in settings.items())
    write_secret(folder / "app.properties", text.encode())
    program = Program(
        name="conductor",
        argv=(
            *server.argv(folder / "tmp"),
            "--spring.config.additional-location=file:app.properties",
        ),
        folder=folder,
        log=folder / "logs" / "conductor.log",
        env={
            "ENV_TASK_NOTIFICATION_QUEUE_SIZE": _NOTICE_QUEUE,
            "ENV_WORKFLOW_NOTIFICATION_QUEUE_SIZE": _NOTICE_QUEUE,
        },
    )
    return Service(program, f"{url}/api", Probe(f"{url}/actuator/health"))


def notice_settings(notices: Notices) -> dict[str, str]:
    """The settings that make any Conductor 3.32 send notices there."""
    prefix = "conductor.status-notifier.notification."
    return {
        "conductor.workflow-status-listener.type": "workflow_publisher",
        "conductor.task-status-listener.type": "task_publisher",
        f"{prefix}url": notices.url,
        f"{prefix}endpointWorkflow": "workflow",
        f"{prefix}endpointTask": "task",
        f"{prefix}subscribedWorkflowStatuses": _WORKFLOW_STATUSES,
        f"{prefix}subscribedTaskStatuses": _TASK_STATUSES,
        f"{prefix}headerPrefer": "Authorization",
        f"{prefix}headerPreferValue": f"Bearer {notices.token}",
    }
