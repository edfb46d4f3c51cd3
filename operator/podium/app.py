"""The composition root: builds the rooms, connects them, and runs them until a signal."""

import asyncio
import functools
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import kopf

from podium.adapters.budget import Traffic
from podium.adapters.clock import SystemClock
from podium.adapters.conductor import HttpConductor
from podium.adapters.events import EventRecorder
from podium.adapters.kubernetes import KubernetesCluster, load_configuration
from podium.adapters.metrics import Metrics
from podium.core import retention, runs, workflow
from podium.core.definitions import Rules
from podium.core.objects import (
    WorkflowRun,
    is_finished,
    project_connection,
    project_workflow,
    project_workflow_run,
)
from podium.gateway.site import Site, serve
from podium.informers.handlers import connection_of
from podium.informers.watching import watch
from podium.ports import Access, Clock, Json, Key
from podium.reconciler.conductor_connections import ConnectionReconciler
from podium.reconciler.connections import Connections, Link
from podium.reconciler.lease import LeaderLease
from podium.reconciler.loop import work
from podium.reconciler.patience import end, every, first, unless, wait_for
from podium.reconciler.queue import KeyedQueue
from podium.reconciler.resync import resync
from podium.reconciler.retention import GATHER, RetentionReconciler, retention_key
from podium.reconciler.runs import RunReconciler
from podium.reconciler.schedules import ScheduleReconciler
from podium.reconciler.store import Store
from podium.reconciler.tracker import RunTracker
from podium.reconciler.workflows import WorkflowReconciler
from podium.settings import Settings, SettingsError

log = logging.getLogger(__name__)

_LOOK_AT_WORKERS = 30.0
_TOO_LATE = 30.0


def run(settings: Settings) -> int:
    """Run the operator until SIGTERM or SIGINT; the exit code."""
    return asyncio.run(_until_signalled(settings))


async def _until_signalled(settings: Settings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return await operate(settings, stop)


async def operate(
    settings: Settings,
    stop: asyncio.Event,
    *,
    ready: asyncio.Event | None = None,
    crash: Callable[[str], None] = lambda _: None,
    clock: Clock | None = None,
) -> int:
    """Run the operator until `stop` is set. `ready` is set once it works. `crash`, `clock`: for tests."""
    configuration = await load_configuration(settings.kubeconfig, settings.context)
    traffic = Traffic()
    default = HttpConductor(
        settings.access(),
        timeout=settings.conductor_timeout,
        traffic=traffic,
        on_refused=lambda: _read_again(settings, default),
    )
    async with KubernetesCluster(configuration) as cluster, default as conductor:
        operator = Operator(settings, cluster, conductor, traffic, crash, clock or SystemClock())
        return await operator.run(functools.partial(connection_of, configuration), stop, ready)


def _read_again(settings: Settings, conductor: HttpConductor) -> None:
    """The file with headers may have been rotated."""
    try:
        conductor.use(settings.credentials())
    except SettingsError as error:
        log.warning("%s; what was read before is kept", error)


class Operator:
    """Everything that one operator process holds, connected."""

    def __init__(
        self,
        settings: Settings,
        cluster: KubernetesCluster,
        conductor: HttpConductor,
        traffic: Traffic,
        crash: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self.settings = settings
        self.cluster = cluster
        self.traffic = traffic
        self.metrics = Metrics()
        self.store = Store()
        self._crash = crash
        self._clock = clock
        self._queue = KeyedQueue(time.monotonic)
        self._recorder = EventRecorder(cluster, self.metrics, time.monotonic)
        self._beat = time.monotonic()
        self._synced = False
        self._exit = 0
        follow = functools.partial(
            RunTracker,
            wake=self._queue.add,
            sweep_interval=settings.sweep_interval,
            stranger=self._on_stranger,
        )
        self.connections = Connections(
            Link(conductor, follow(conductor), settings.isolation),
            self.store,
            default_namespaces=frozenset(settings.default_connection_namespaces),
        )
        self._dialing = ConnectionReconciler(
            cluster,
            self._clock,
            self._recorder,
            self.store,
            self.connections,
            self._dial,
            follow,
            wake=self._queue.add,
        )
        self._uids: dict[str, Key] = {}
        self._cluster_id = ""
        self._reconcilers: dict[str, Callable[[Key], Awaitable[float | None]]] = {}

    async def run(
        self,
        connection: Callable[[], kopf.ConnectionInfo],
        stop: asyncio.Event,
        ready: asyncio.Event | None = None,
    ) -> int:
        """Serve, lead, list, watch and reconcile until `stop`; the exit code."""
        settings = self.settings
        site = await serve(self._site().build(), settings.listen)
        # A standby beats too: it is alive, it only does not lead.
        tasks = [asyncio.create_task(self._keep_beating(), name="beat")]
        lease = None
        if settings.lease:
            lease = LeaderLease.of(settings.lease, self.cluster, self._clock, settings.lease_duration)
        try:
            self._cluster_id = await first("read the cluster's id", self.cluster.read_cluster_id, stop)
            if lease is not None:
                await unless(stop, lease.acquire())
            if stop.is_set():
                return self._exit
            self._assemble()
            await first("list the objects", self._resync, stop)
            await self._dialing.open_all()
            jobs = {
                "reconcile": work(self._queue, self._reconcilers, at_once=settings.reconcilers),
                "trackers": self.connections.run(),
                "events": self._recorder.run(),
                "resync": every(settings.resync_interval, self._resync),
                "drift": every(settings.drift_interval, self._find_drift),
                "workers": every(_LOOK_AT_WORKERS, self._look_at_workers),
                "watch": watch(
                    self._on_object, self._on_gone, connection=connection, namespaces=settings.namespaces
                ),
            }
            if lease is not None:
                jobs["lease"] = lease.keep(functools.partial(self._lost_lease, stop))
            tasks += [asyncio.create_task(job, name=name) for name, job in jobs.items()]
            self._synced = True
            log.info("podium works: %s workflows, %s runs", len(self.store.workflows), len(self.store.runs))
            if ready is not None:
                ready.set()
            stopping = asyncio.create_task(wait_for(stop), name="stop")
            tasks.append(stopping)
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                if (error := task.exception()) is not None:
                    log.error("%s ended: %r", task.get_name(), error)
                    self._exit = 1
                elif not stop.is_set():
                    log.error("%s ended by itself", task.get_name())
                    self._exit = 1
            return self._exit
        finally:
            stop.set()
            await end(tasks)
            await self._dialing.close_all()
            if lease is not None:
                await lease.release()
            await site.cleanup()

    # --- assembly ------------------------------------------------------------------------------------

    def _assemble(self) -> None:
        settings = self.settings
        deletion_timeout = timedelta(seconds=settings.deletion_timeout)
        run_reconciler = RunReconciler(
            self.cluster,
            self.connections,
            self._clock,
            self._recorder,
            self.store,
            runs.Policy(
                cluster_id=self._cluster_id,
                unknown_start_wait=timedelta(seconds=settings.unknown_start_wait),
                deletion_timeout=deletion_timeout,
            ),
            status_interval=settings.status_interval,
            on_phase=self._retally,
            crash=self._crash,
        )
        self._workflows = WorkflowReconciler(
            self.cluster,
            self.connections,
            self._clock,
            self._recorder,
            self.store,
            workflow.Policy(
                cluster_id=self._cluster_id,
                rules=Rules(allowed_names=frozenset(settings.allowed_names)),
                deletion_timeout=deletion_timeout,
            ),
            wake=self._queue.add,
            status_interval=settings.status_interval,
        )
        schedules = ScheduleReconciler(
            self.cluster, self._clock, self._recorder, self.store, take_in=self._on_object, crash=self._crash
        )
        reconcilers = {
            "WorkflowRun": run_reconciler.reconcile,
            "Workflow": self._workflows.reconcile,
            "Schedules": schedules.reconcile,
            "ConductorConnection": self._dialing.reconcile,
            "Retention": self._build_retention().reconcile,
        }
        self._reconcilers = {
            kind: self.metrics.measured(kind, reconcile) for kind, reconcile in reconcilers.items()
        }
        self.metrics.gauge("queue_keys", "Objects waiting to be looked at", lambda: float(len(self._queue)))
        self.metrics.gauge(
            "due_keys", "Objects being looked at, or due to be", lambda: float(self._queue.due)
        )
        self.metrics.gauge("conductor_requests", "Requests to Conductor", lambda: self.traffic.requests)
        self.metrics.gauge(
            "conductor_wait_seconds",
            "Time that requests waited for their budget",
            lambda: self.traffic.waited,
        )
        self.metrics.gauge("status_writes", "Writes to the API server", lambda: self.cluster.writes)
        self.metrics.gauge("active_runs", "Runs not yet finished", self._active_runs)

    async def _dial(self, access: Access, on_refused: Callable[[], None]) -> HttpConductor:
        client = HttpConductor(
            access, timeout=self.settings.conductor_timeout, traffic=self.traffic, on_refused=on_refused
        )
        return await client.__aenter__()

    def _build_retention(self) -> RetentionReconciler:
        policy = retention.Policy.of(self.settings.tracking_keys, self.settings.unknown_start_wait)
        return RetentionReconciler(self.cluster, self._clock, self._recorder, self.store, policy)

    def _site(self) -> Site:
        return Site(
            notice_token=self.settings.notice_token,
            on_notice=self._on_notice,
            on_refused_notice=lambda: self.metrics.count("notices_refused"),
            problems=self._problems,
            alive=lambda: time.monotonic() - self._beat < _TOO_LATE,
            render_metrics=self.metrics.render,
        )

    # --- what comes in -------------------------------------------------------------------------------

    def _on_object(self, key: Key, body: Json) -> None:
        if key.kind not in self._reconcilers:
            return
        if key.kind == "Workflow":
            before = self.store.workflows.get(key)
            seen = project_workflow(body)
            if self.store.put_workflow(seen):
                changed = before is None or before.generation != seen.generation
                if changed or seen.deleting_since is not None or not seen.status:
                    self._wake(key)
                    self._queue.add(retention_key(key.namespace, key.name), GATHER)
                if before is None or before.status != seen.status or changed:
                    self._wake_pending_runs(key)
            return
        if key.kind == "ConductorConnection":
            if self.store.put_connection(project_connection(body)):
                self._queue.add(key)
            return
        run = project_workflow_run(body)
        if self.store.put_run(run):
            self._uids[run.uid] = key
            self._queue.add(key)
            self._retally(run)

    def _on_gone(self, key: Key) -> None:
        if key.kind == "Workflow":
            self.store.remove_workflow(key)
        elif key.kind == "ConductorConnection":
            self.store.remove_connection(key)
        elif key.kind == "WorkflowRun":
            run = self.store.runs.get(key)
            self.store.remove_run(key)
            if run is not None:
                self._uids.pop(run.uid, None)
                self._retally(run)
        if key.kind in self._reconcilers:
            self._queue.add(key)

    def _wake(self, key: Key) -> None:
        """Have an object looked at; a Workflow with its schedules."""
        self._queue.add(key)
        if key.kind == "Workflow":
            self._queue.add(Key("Schedules", key.namespace, key.name))

    def _retally(self, run: WorkflowRun) -> None:
        """Have the runs counted in the Workflow's status; many runs share one write."""
        if run.spec is not None and run.schedule:
            self._queue.add(Key("Schedules", run.key.namespace, run.spec.workflow))
        if run.spec is not None:
            self._queue.add(Key("Workflow", run.key.namespace, run.spec.workflow), delay=1.0)
            if is_finished(run):
                self._queue.add(retention_key(run.key.namespace, run.spec.workflow), GATHER)

    def _wake_pending_runs(self, key: Key) -> None:
        for run in self.store.runs_of(key.namespace, key.name):
            if run.status.get("phase") in (None, "Pending"):
                self._queue.add(run.key)

    def _on_notice(self, workflow_id: str, ended: bool) -> None:
        self.metrics.count("notices")
        self.connections.notice(workflow_id, ended=ended)

    def _on_stranger(self, correlation_id: str, workflow_id: str) -> None:
        """A run that nobody watches moved: one of ours whose start was not recorded, perhaps."""
        cluster_id, _, uid = correlation_id.partition(".")
        if cluster_id == self._cluster_id and (key := self._uids.get(uid)):
            log.debug("%s moved, which %s does not know", workflow_id, key)
            self._queue.add(key)

    # --- by the clock --------------------------------------------------------------------------------

    async def _resync(self) -> None:
        first = not self._synced
        await resync(
            self.cluster,
            self.store,
            self._wake,
            (lambda: None) if first else (lambda: self.metrics.count("missed_events")),
            self.settings.namespaces,
            first=first,
        )
        for namespace, name in self.store.run_owners():
            self._queue.add(retention_key(namespace, name), GATHER)
        self._uids = {run.uid: key for key, run in self.store.runs.items()}
        for item in self.store.runs.values():
            workflow_id = (item.status.get("conductor") or {}).get("workflowId")
            if not workflow_id or is_finished(item):
                continue
            link = self.connections.of_run(item)
            if isinstance(link, Link):
                link.tracker.watch(workflow_id, item.key)
        self.connections.refresh_all()

    async def _find_drift(self) -> None:
        for key in await self._workflows.find_drift():
            self._queue.add(key)

    async def _look_at_workers(self) -> None:
        for key in await self._workflows.find_changed_workers():
            self._wake(key)

    async def _keep_beating(self) -> None:
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(1.0)

    def _lost_lease(self, stop: asyncio.Event) -> None:
        log.error("the Lease is lost: another replica leads; ending at once")
        self._exit = 1
        stop.set()

    def _problems(self) -> list[str]:
        return [] if self._synced else ["the objects are not listed yet"]

    def _active_runs(self) -> float:
        return float(sum(not is_finished(item) for item in self.store.runs.values()))
