"""The composition root: builds the rooms, connects them, and runs them until a signal."""

import asyncio
import functools
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any

import kopf

from podium.adapters.budget import Traffic
from podium.adapters.clock import SystemClock
from podium.adapters.conductor import HttpConductor
from podium.adapters.devices import HttpDevices
from podium.adapters.events import EventRecorder
from podium.adapters.kubernetes import KubernetesCluster, load_configuration
from podium.adapters.metrics import Metrics
from podium.adapters.workers import HttpWorkers
from podium.adapters.workloads import KubernetesWorkloads
from podium.core import retention, runs, workflow
from podium.core.definitions import Rules
from podium.gateway.site import Site, serve
from podium.gauges import show
from podium.informers.handlers import connection_of
from podium.informers.watching import watch
from podium.ports import Access, Clock, Key
from podium.reconciler.conductor_connections import ConnectionReconciler
from podium.reconciler.connections import Connections, Link
from podium.reconciler.devices import DeviceParts
from podium.reconciler.echoes import Echoes
from podium.reconciler.endings import end, first_end, pass_on, unless
from podium.reconciler.intake import Intake
from podium.reconciler.lease import LeaderLease
from podium.reconciler.loop import work
from podium.reconciler.outages import Outages, mind_cluster
from podium.reconciler.patience import every, first
from podium.reconciler.pool_parts import PoolParts
from podium.reconciler.queue import KeyedQueue
from podium.reconciler.resync import follow_again, resync
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
    load = functools.partial(load_configuration, settings.kubeconfig, settings.context)

    async def connection() -> kopf.ConnectionInfo:
        return connection_of(await load())

    traffic = Traffic()
    default = HttpConductor(
        settings.access(),
        timeout=settings.conductor_timeout,
        traffic=traffic,
        on_refused=lambda: _read_again(settings, default),
    )
    time_of_day = clock or SystemClock()
    async with (
        KubernetesCluster(await load(), load) as cluster,
        default as conductor,
        HttpWorkers(time_of_day) as workers,
        HttpDevices() as devices,
    ):
        while True:
            operator = Operator(settings, cluster, conductor, workers, devices, traffic, crash, time_of_day)
            code = await operator.run(connection, stop, ready)
            if not operator.stepped_down or stop.is_set():
                return code
            # All that was known goes with the leadership: the next term begins with a list.
            log.warning("standing by until this replica leads again")


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
        workers: HttpWorkers,
        devices: HttpDevices,
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
        self.stepped_down = False
        """Whether it ended because another replica may lead."""
        self._over = asyncio.Event()
        self._echoes = Echoes(time.monotonic)
        self._watch_anew = asyncio.Event()
        follow = functools.partial(
            RunTracker,
            wake=self._queue.add,
            sweep_interval=settings.sweep_interval,
            stranger=self._on_stranger,
        )
        self.connections = Connections(
            Link(conductor, follow(conductor), settings.isolation, settings.url_for_workers),
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
        self._workloads = KubernetesWorkloads(cluster.api, settings.namespaces)
        self._pools = PoolParts.build(
            cluster,
            self._workloads,
            workers,
            self.connections,
            self._clock,
            self._recorder,
            self.store,
            wake=self._queue.add,
        )
        self._devices = DeviceParts.build(
            cluster, devices, self._clock, self._recorder, self.store, wake=self._queue.add
        )
        self._intake = Intake(self.store, self._echoes, self._queue.add)
        self._cluster_id = ""
        self._reconcilers: dict[str, Callable[[Key], Awaitable[float | None]]] = {}

    async def run(
        self,
        connection: Callable[[], Awaitable[kopf.ConnectionInfo]],
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
        over = self._over
        tasks.append(asyncio.create_task(pass_on(stop, over), name="stop"))
        try:
            read = self.cluster.read_cluster_id
            self._cluster_id = await first("read the cluster's id", read, over) or ""
            if lease is not None and not over.is_set():
                await unless(over, lease.acquire())
                tasks.append(asyncio.create_task(lease.keep(self._step_down), name="lease"))
            if over.is_set():
                return self._exit
            self._assemble()
            await first("list the objects", self._resync, over)
            await self._dialing.open_all()
            tasks += [asyncio.create_task(job, name=name) for name, job in self._jobs(connection).items()]
            self._synced = True
            log.info("podium works: %s workflows, %s runs", len(self.store.workflows), len(self.store.runs))
            if ready is not None:
                ready.set()
            self._exit = await first_end(tasks, over)
            return self._exit
        finally:
            if not self.stepped_down:
                stop.set()
            await end(tasks)
            await self._dialing.close_all()
            if lease is not None:
                await lease.release()
            await site.cleanup()

    def _jobs(
        self, connection: Callable[[], Awaitable[kopf.ConnectionInfo]]
    ) -> dict[str, Coroutine[Any, Any, None]]:
        """What goes on as long as this replica leads."""
        settings = self.settings
        return {
            "reconcile": work(self._queue, self._reconcilers, at_once=settings.reconcilers),
            "links": self.connections.run(self._outages.watch),
            "events": self._recorder.run(),
            **self._pools.jobs(),
            **self._devices.jobs(),
            "resync": every(settings.resync_interval, self._resync),
            "drift": every(settings.drift_interval, self._find_drift),
            "workers": every(_LOOK_AT_WORKERS, self._look_at_workers),
            "watch": watch(
                self._intake.on_object,
                self._intake.on_gone,
                connection=connection,
                namespaces=settings.namespaces,
                restart=self._watch_anew,
                on_restart=lambda: self.metrics.count("watch_restarts"),
            ),
            "cluster": mind_cluster(
                lambda: self.cluster.outage,
                self._echoes,
                hasten=self._queue.hasten,
                resync=self._resync,
                deaf=self._watch_anew.set,
            ),
        }

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
            on_phase=self._intake.retally,
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
            self.cluster,
            self._clock,
            self._recorder,
            self.store,
            take_in=self._intake.on_object,
            crash=self._crash,
        )
        self.cluster.on_write = self._echoes.wrote
        self._outages = Outages(
            self.store,
            self.connections,
            self._queue.add,
            self._clock,
            self._recorder,
            cluster_id=self._cluster_id,
            mark_interval=settings.drift_interval,
        )
        reconcilers = {
            "WorkflowRun": run_reconciler.reconcile,
            "Workflow": self._workflows.reconcile,
            "Schedules": schedules.reconcile,
            "WorkerPool": self._pools.reconciler.reconcile,
            "ConductorConnection": self._dialing.reconcile,
            "Device": self._devices.devices.reconcile,
            "DeviceModel": self._devices.models.reconcile,
            "Retention": self._build_retention().reconcile,
        }
        self._reconcilers = {
            kind: self.metrics.measured(kind, reconcile) for kind, reconcile in reconcilers.items()
        }
        show(
            self.metrics,
            self._queue,
            self.traffic,
            self.connections.default.conductor,
            self._outages,
            lambda: self.cluster.writes + self._workloads.writes,
            self.store,
            self._pools.reconciler,
        )

    async def _dial(self, access: Access, on_refused: Callable[[], None]) -> HttpConductor:
        client = HttpConductor(
            access, timeout=self.settings.conductor_timeout, traffic=self.traffic, on_refused=on_refused
        )
        return await client.__aenter__()

    def _build_retention(self) -> RetentionReconciler:
        settings, cluster = self.settings, self.cluster
        policy = retention.Policy.of(settings.tracking_keys, settings.unknown_start_wait)
        return RetentionReconciler(cluster, self.connections, self._clock, self._recorder, self.store, policy)

    def _site(self) -> Site:
        return Site(
            notice_token=self.settings.notice_token,
            on_notice=self._on_notice,
            on_refused_notice=lambda: self.metrics.count("notices_refused"),
            problems=lambda: [] if self._synced else ["the objects are not listed yet"],
            alive=lambda: time.monotonic() - self._beat < _TOO_LATE,
            render_metrics=self.metrics.render,
        )

    # --- what comes in -------------------------------------------------------------------------------

    def _on_notice(self, workflow_id: str, ended: bool) -> None:
        self.metrics.count("notices")
        self.connections.notice(workflow_id, ended=ended)

    def _on_stranger(self, correlation_id: str, workflow_id: str) -> None:
        cluster_id, _, uid = correlation_id.partition(".")
        if cluster_id == self._cluster_id:
            self._intake.on_stranger(workflow_id, uid)

    # --- by the clock --------------------------------------------------------------------------------

    async def _resync(self) -> None:
        first = not self._synced
        await resync(
            self.cluster,
            self.store,
            self._intake.wake,
            (lambda: None) if first else (lambda: self.metrics.count("missed_events")),
            self.settings.namespaces,
            first=first,
        )
        for namespace, name in self.store.run_owners():
            self._queue.add(retention_key(namespace, name), GATHER)
        self._intake.on_list()
        follow_again(self.store, self.connections)

    async def _find_drift(self) -> None:
        for key in await self._workflows.find_drift():
            self._queue.add(key)

    async def _look_at_workers(self) -> None:
        for key in await self._workflows.find_changed_workers():
            self._intake.wake(key)

    async def _keep_beating(self) -> None:
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(1.0)

    def _step_down(self) -> None:
        log.error("the Lease was not renewed in time: another replica may lead; stopping all work")
        self.stepped_down = True
        self._over.set()
