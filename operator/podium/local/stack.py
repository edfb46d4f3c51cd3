"""The dev stack: a cluster, a Conductor, the operator and a worker, left running in the background."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from podium.local.build import needs_for_node, provide_binaries
from podium.local.cache import Cache, fingerprint, hold
from podium.local.cluster import (
    Source,
    choose_source,
    create_kind_cluster,
    delete_kind_cluster,
    export_context,
    needs_for_source,
    read_cluster_url,
    survey,
)
from podium.local.conductor import Notices, prepare_conductor, write_conductor
from podium.local.conductor_server import needs_for_conductor
from podium.local.control_plane import await_node, write_control_plane
from podium.local.errors import LocalError
from podium.local.node import await_gone, build_relay, load_pause_image, prepare_node
from podium.local.parts import (
    NODE,
    cluster_answers,
    find_crds,
    install_crds,
    node_service,
    operator_service,
    worker_service,
)
from podium.local.prerequisites import Need, require
from podium.local.process_node.addresses import find_network
from podium.local.processes import Process, Processes, at_once, is_alive, stop
from podium.local.progress import Progress
from podium.local.services import Probe, Service, await_ready, free_port
from podium.local.state import Part, StackState, Wishes, list_stacks, read_state, write_state

_SECONDS_TO_START = 180.0
_SECONDS_TO_DRAIN = 15.0


@dataclass(frozen=True)
class PartStatus:
    """One part as it is now. `pid` and `log` are None for what is not a process of this stack."""

    name: str
    address: str
    pid: int | None
    log: Path | None
    healthy: bool


class Stack:
    """One named stack. `root` is the folder of all state, `crds` that of the CRDs to install."""

    def __init__(
        self,
        name: str,
        root: Path,
        cache: Cache,
        progress: Progress,
        environment: Mapping[str, str] = os.environ,
        crds: Path | None = None,
    ) -> None:
        self.name = name
        self.folder = root / "dev" / name
        self._root = root
        self._cache = cache
        self._progress = progress
        self._environment = environment
        self._crds = crds
        self._writing = threading.Lock()
        self._state: StackState | None = None

    @property
    def bin_folder(self) -> Path:
        """Holds `kubectl` and `podium`, for PATH."""
        return self.folder / "bin"

    def state(self) -> StackState:
        """Raises LocalError, naming the stacks that there are, if this one is not there."""
        state = read_state(self.folder)
        if state is None:
            names = ", ".join(list_stacks(self._root))
            raise LocalError(
                f'there is no dev stack "{self.name}"; '
                + (f"there are: {names}." if names else "start one: podium dev up")
            )
        return state

    def up(self, wishes: Wishes) -> bool:
        """Brings up what is not; False if everything was. Leaves nothing new behind if it fails."""
        with self._alone(), Processes() as processes:
            state = read_state(self.folder)
            if state is not None and not state.complete:
                self._progress.say("removing what an interrupted start has left")
                self._remove(state)
                state = None
            if state is None:
                return self._up_from_nothing(wishes, processes)
            return self._up_again(state, wishes, processes)

    def restart(self, name: str) -> None:
        """Ends one part politely and starts it anew, at the same address and with the same log.

        A part that is not ready again raises LocalError, with the end of its log; it is then down.
        """
        with self._alone(), Processes() as processes:
            self._state = self.state()
            part = self._state.parts.get(name)
            if part is None:
                raise LocalError(f'the dev stack "{self.name}" has no part "{name}".')
            if part.identity:
                stop([part.identity], _SECONDS_TO_DRAIN)
            self._bring(part.service, processes)
            processes.release()

    def add(self, service: Service) -> None:
        """Makes one more server a part of the stack: listed with the others, and ended with them."""
        with self._alone(), Processes() as processes:
            self._state = self.state()
            self._bring(service, processes)
            processes.release()

    def status(self) -> tuple[PartStatus, ...]:
        """Every part, asked now. Raises LocalError if there is no such stack."""
        state = self.state()
        report = []
        if not state.source.runs_here:
            report.append(PartStatus("cluster", state.cluster_url, None, None, cluster_answers(state)))
        if state.wishes.conductor_url:
            healthy = Probe(f"{state.conductor_url}/metadata/workflow").answers(timeout=5.0)
            report.append(PartStatus("conductor", state.conductor_url, None, None, healthy))
        for part in state.parts.values():
            alive = part.identity is not None and is_alive(part.identity)
            report.append(
                PartStatus(
                    part.service.name,
                    part.service.address,
                    part.identity.pid if part.identity and alive else None,
                    part.service.program.log,
                    alive and part.service.probe.answers(),
                )
            )
        return tuple(report)

    def down(self) -> bool:
        """Ends and removes all of it; False if there was nothing. Raises LocalError if something resists."""
        with self._alone():
            if not self.folder.exists():
                return False
            self._remove(read_state(self.folder))
            return True

    def _up_from_nothing(self, wishes: Wishes, processes: Processes) -> bool:
        surroundings = survey(wishes.context, self._environment)
        source = choose_source(surroundings)
        needs = needs_for_source(source, self._cache, self._environment) | {Need.ROOM_TO_RUN}
        if wishes.node and source.runs_here:
            needs |= needs_for_node(self._cache)
        if not wishes.conductor_url:
            needs |= needs_for_conductor(self._cache, self._environment)
        found = require(needs, self._cache.root, self._environment)
        crds = self._crds or find_crds()
        state = StackState(
            name=self.name,
            wishes=replace(
                wishes, context=surroundings.context, namespaces=wishes.namespaces or ("default",)
            ),
            source=source,
            engine=surroundings.engine or "",
            kubeconfig=self.folder / "kubeconfig",
            kubectl=found.kubectl.path if found.kubectl else Path("kubectl"),
            operator_port=free_port(),
            notice_token=secrets.token_urlsafe(24),
        )
        try:
            for path in (self.folder, self.bin_folder, self.folder / "logs"):
                path.mkdir(parents=True, mode=0o700, exist_ok=True)
            self._save(state)
            at_once(
                processes,
                lambda: self._bring_cluster(processes, crds),
                lambda: self._bring_conductor(processes),
            )
            self._bring_relay(processes)
            self._link_programs()
            self._bring_ours(processes)
            self._change(lambda now: replace(now, complete=True))
        except BaseException:
            processes.stop(grace=0.0)
            self._remove(self._state)
            raise
        processes.release()
        return True

    def _up_again(self, state: StackState, wishes: Wishes, processes: Processes) -> bool:
        self._state = state
        asked = Wishes(
            context=wishes.context or self._environment.get("PODIUM_CONTEXT") or state.wishes.context,
            conductor_url=wishes.conductor_url or state.wishes.conductor_url,
            namespaces=wishes.namespaces or state.wishes.namespaces,
            operator=wishes.operator,
            worker=wishes.worker,
            functions=wishes.functions or state.wishes.functions,
            module_folder=wishes.module_folder if wishes.functions else state.wishes.module_folder,
            node=wishes.node or state.wishes.node,
        )
        for what in ("context", "conductor_url", "node"):
            if getattr(asked, what) != getattr(state.wishes, what):
                raise LocalError(
                    f'the dev stack "{self.name}" is there already, with another cluster or Conductor: end '
                    "it (podium dev down), or give the new one a name of its own (--name)."
                )
        unwanted = set() if asked.operator else {"operator"}
        if not asked.worker or _work_differs(asked, state.wishes):
            unwanted.add("worker")
        if _code_differs(asked, state.wishes):
            unwanted.add(NODE)
        changed = self._drop(unwanted)
        self._change(lambda now: replace(now, wishes=asked))
        for part in self._now().parts.values():
            changed |= self._bring(part.service, processes)
        if changed and state.node:
            load_pause_image(state.node)
        changed |= self._bring_ours(processes)
        processes.release()
        return changed

    def _drop(self, names: set[str]) -> bool:
        """Ends these parts and forgets them; whether there was any."""
        ending = {name: part for name, part in self._now().parts.items() if name in names}
        stop([part.identity for part in ending.values() if part.identity], _SECONDS_TO_DRAIN)
        rest = {name: part for name, part in self._now().parts.items() if name not in names}
        self._change(lambda now: replace(now, parts=rest))
        return bool(ending)

    def _bring_cluster(self, processes: Processes, crds: Path) -> None:
        state = self._now()
        if state.source is Source.CONTEXT:
            context = state.wishes.context or ""
            url = export_context(context, state.kubeconfig, state.kubectl)
            self._progress.say(f"using the context {context} ({url})")
        elif state.source is Source.KIND:
            log = self.folder / "logs" / "kind.log"
            create_kind_cluster(
                self._kind_name, state.kubeconfig, log, processes, self._progress, state.engine
            )
            url = read_cluster_url(state.kubectl, state.kubeconfig)
        else:
            url = self._bring_control_plane(processes)
        self._change(lambda now: replace(now, cluster_url=url))
        with self._progress.step("installing the CRDs"):
            install_crds(self._now().kubectl, state.kubeconfig, crds)

    def _bring_control_plane(self, processes: Processes) -> str:
        state, node = self._now(), None
        about = (self._cache, processes, self._progress, self._environment)
        if state.wishes.node:
            node = prepare_node(*about, seed=time.time())
        binaries = node.binaries.control_plane if node else provide_binaries(*about)
        plane = write_control_plane(self.folder / "cluster", binaries, node)
        shutil.copy(plane.kubeconfig, state.kubeconfig)
        self._change(lambda now: replace(now, kubectl=plane.kubectl, node=plane.node))
        for service in plane.services:
            self._bring(service, processes)
        if plane.node:
            load_pause_image(plane.node)
            await_node(plane)
        return plane.url

    def _bring_relay(self, processes: Processes) -> None:
        """Gives Conductor an address that holds for pods too."""
        state = self._now()
        if state.node and not state.wishes.conductor_url:
            service = build_relay(state.node, state.conductor_url)
            self._bring(service, processes)
            self._change(lambda now: replace(now, conductor_url=service.address))

    def _bring_conductor(self, processes: Processes) -> None:
        state = self._now()
        if url := state.wishes.conductor_url:
            if not Probe(f"{url}/metadata/workflow").answers(timeout=10.0):
                raise LocalError(f"no Conductor answers at {url} (GET {url}/metadata/workflow).")
            self._change(lambda now: replace(now, conductor_url=url))
            return
        server = prepare_conductor(self._cache, processes, self._progress, self._environment)
        notices = Notices(f"http://127.0.0.1:{state.operator_port}/notices", state.notice_token)
        service = write_conductor(self.folder / "conductor", server, notices)
        self._change(lambda now: replace(now, conductor_url=service.address))
        self._bring(service, processes)

    def _bring_ours(self, processes: Processes) -> bool:
        state = self._now()
        services = []
        # Other systems have one loopback address, and pods need one each. A real node needs no stand-in.
        if state.source.runs_here and sys.platform == "linux" and not state.node:
            services.append(self._existing(NODE) or node_service(state, self.folder, find_network()))
        if state.wishes.operator:
            services.append(self._existing("operator") or operator_service(state, self.folder))
        if state.wishes.worker:
            services.append(self._existing("worker") or worker_service(state, self.folder, free_port()))
        started = [self._bring(service, processes) for service in services]
        return any(started)

    def _bring(self, service: Service, processes: Processes) -> bool:
        """Starts it unless it runs, and waits until it is ready; whether it had to be started."""
        part = self._now().parts.get(service.name)
        if part and part.identity and is_alive(part.identity):
            await_ready(service, Process(service.name, part.identity), _SECONDS_TO_START)
            return False
        with self._progress.step(f"starting {service.name}"):
            process = processes.start(service.program)
            started = Part(service, process.identity)
            self._change(lambda now: replace(now, parts={**now.parts, service.name: started}))
            await_ready(service, process, _SECONDS_TO_START)
        return True

    def _remove(self, state: StackState | None) -> None:
        if state is not None:
            parts = {name: part.identity for name, part in state.parts.items() if part.identity}
            ours = [parts[name] for name in ("worker", "operator", NODE) if name in parts]
            stop(ours, _SECONDS_TO_DRAIN)
            # Their data goes too, so a polite end (an API server takes ten seconds) would save nothing.
            stop(parts.values(), grace=0.0)
            if state.node:
                await_gone(state.node)
            if state.source is Source.KIND:
                delete_kind_cluster(self._kind_name, state.kubeconfig, state.engine)
        shutil.rmtree(self.folder)
        for folder in (self.folder.parent, self._root):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _link_programs(self) -> None:
        programs = {"kubectl": self._now().kubectl, "podium": Path(sys.executable).with_name("podium")}
        for name, target in programs.items():
            if target.exists():
                (self.bin_folder / name).unlink(missing_ok=True)
                (self.bin_folder / name).symlink_to(target)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One command at a time works on a stack; its lock outlives the stack, so it is kept in the cache."""
        lock = self._cache.root / "locks" / f"dev-{fingerprint([str(self.folder)])}.lock"
        with hold(lock, f'the dev stack "{self.name}"', self._progress):
            yield

    @property
    def _kind_name(self) -> str:
        return f"podium-{self.name}"

    def _existing(self, name: str) -> Service | None:
        part = self._now().parts.get(name)
        return part.service if part else None

    def _now(self) -> StackState:
        if self._state is None:
            raise LocalError(f'the dev stack "{self.name}" has no state yet.')
        return self._state

    def _save(self, state: StackState) -> None:
        write_state(self.folder, state)
        self._state = state

    def _change(self, change: Callable[[StackState], StackState]) -> None:
        with self._writing:
            self._save(change(self._now()))


def _work_differs(one: Wishes, other: Wishes) -> bool:
    """Whether a worker that was started for one of these does not do for the other."""
    return one.namespaces != other.namespaces or _code_differs(one, other)


def _code_differs(one: Wishes, other: Wishes) -> bool:
    """Whether they name other functions of the user's."""
    return (one.functions, one.module_folder) != (other.functions, other.module_folder)
