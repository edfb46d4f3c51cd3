"""The command `podium-worker`."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from podium_workers.runtime.early import exit_on_sigterm
from podium_workers.runtime.logs import FORMS, set_up_logs
from podium_workers.runtime.registry import DuplicateTask, Function, registry
from podium_workers.runtime.settings import (
    MOST_AT_ONCE,
    Settings,
    Setup,
    count_processors,
    default_worker_id,
    parse_address,
    parse_domains,
    parse_duration,
)
from podium_workers.services.references import References, Sources, own_namespace

log = logging.getLogger(__name__)


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Address(click.ParamType[tuple[str, int]]):
    name = "host:port"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        try:
            return parse_address(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("action", type=click.Choice(["run", "list"]), default="run")
@click.option(
    "--list", "list_only", is_flag=True, help="Print the functions and what they take; same as `list`."
)
@click.option(
    "--functions",
    "modules",
    envvar="WORKER_FUNCTIONS",
    default="",
    metavar="MODULES",
    help="Python modules with functions of your own: my.module[,other.module].",
)
@click.option(
    "--no-builtin", is_flag=True, envvar="WORKER_NO_BUILTIN", help="Leave Podium's own functions out."
)
@click.option(
    "--tasks",
    "task_types",
    envvar="WORKER_TASKS",
    default="",
    metavar="TYPES",
    help="Serve only these task types: resize,caption. Default: all that are known.",
)
@click.option(
    "--namespaces",
    envvar="WORKER_NAMESPACES",
    default="",
    metavar="NAMES",
    help="Serve the tasks of these namespaces (task domains): a,b; `-` for those without.  [default: -]",
)
@click.option("--shared", is_flag=True, envvar="WORKER_SHARED", help="Serve tasks without a namespace too.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, MOST_AT_ONCE),
    envvar="WORKER_CONCURRENCY",
    default=5,
    show_default=True,
    metavar="N",
    help="Tasks at once, over all task types.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, MOST_AT_ONCE),
    envvar="WORKER_PROCESSES",
    metavar="N",
    help="Of them, cpu_bound ones at once.  [default: the processors that it may use; if all are, N above]",
)
@click.option(
    "--poll-interval",
    type=_Duration(),
    envvar="WORKER_POLL_INTERVAL",
    default="1s",
    show_default=True,
    help="How often a queue is asked whose tasks may not be had yet. New tasks are seen sooner.",
)
@click.option(
    "--worker-id",
    envvar="WORKER_ID",
    metavar="ID",
    help="How Conductor calls this worker.  [default: the host's name]",
)
@click.option(
    "--listen",
    type=_Address(),
    envvar="WORKER_LISTEN",
    help="Serve /healthz, /readyz and /metrics here.  [default: nowhere]",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="WORKER_DATA_DIR",
    default="podium-data",
    show_default=True,
    help="Where functions keep their files.",
)
@click.option(
    "--secrets-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="PODIUM_SECRETS_DIR",
    default="/var/run/podium/secrets",
    show_default=True,
    help="Mounted Secrets of the worker's own namespace: <name>/<key>.",
)
@click.option(
    "--configmaps-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="PODIUM_CONFIGMAPS_DIR",
    default="/var/run/podium/configmaps",
    show_default=True,
    help="Mounted ConfigMaps, likewise.",
)
@click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="WORKER_KUBECONFIG",
    help="Read Secrets and ConfigMaps that are not mounted with it.  [default: the pod's service account]",
)
@click.option("--context", envvar="WORKER_CONTEXT", help="A context of that kubeconfig.")
@click.option(
    "--headers-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="WORKER_HEADERS_DIR",
    help="Send the files of this folder as headers to Conductor, for a gateway before it.",
)
@click.option(
    "--drain-timeout",
    type=_Duration(),
    envvar="WORKER_DRAIN_TIMEOUT",
    default="10m",
    show_default=True,
    help="How long running tasks may take to finish after SIGTERM.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    envvar="WORKER_LOG_LEVEL",
    default="info",
    show_default=True,
)
@click.option(
    "--log-format",
    type=click.Choice(FORMS),
    envvar="WORKER_LOG_FORMAT",
    default="auto",
    show_default=True,
    help="auto: text on a terminal, else JSON.",
)
def main(
    action: str,
    list_only: bool,
    modules: str,
    no_builtin: bool,
    task_types: str,
    namespaces: str,
    shared: bool,
    concurrency: int,
    processes: int | None,
    poll_interval: float,
    worker_id: str | None,
    listen: tuple[str, int] | None,
    data_dir: Path,
    secrets_dir: Path,
    configmaps_dir: Path,
    kubeconfig: Path | None,
    context: str | None,
    headers_dir: Path | None,
    drain_timeout: float,
    log_level: str,
    log_format: str,
) -> None:
    """Runs task functions for the workflows of a Conductor server.

    SIGTERM stops the taking of tasks; what runs is finished, its results are sent, and the exit code is 0.
    A second SIGTERM, or the end of --drain-timeout, cuts the rest off: exit code 1, and the tasks by name.
    It is 1 too if threads that hang past their tasks' time have held all slots for a minute.

    \b
    CONDUCTOR_SERVER_URL                     the server, with /api; http://localhost:8080/api by default
    CONDUCTOR_AUTH_KEY, CONDUCTOR_AUTH_SECRET   where it wants to know who asks
    Each option can be given as WORKER_<NAME> too (WORKER_CONCURRENCY=10).
    """
    exit_on_sigterm()
    domains = parse_domains(namespaces, shared)
    sources = Sources(secrets_dir, configmaps_dir, kubeconfig, context, own_namespace(domains))
    references = References(sources)
    worker_id = worker_id or default_worker_id()
    set_up_logs(log_level, log_format, worker_id, references.known)
    functions = load_functions(_names(modules), builtin=not no_builtin, only=_names(task_types))
    if list_only or action == "list":
        click.echo(list_functions(functions))
        return
    settings = Settings(
        worker_id=worker_id,
        concurrency=concurrency,
        domains=domains,
        poll_interval=poll_interval,
        drain_timeout=drain_timeout,
        data_dir=data_dir.absolute(),
        listen=listen,
        headers_dir=headers_dir,
        processes=min(concurrency, processes or _default_processes(functions, concurrency)),
        setup=_setup(_names(modules), functions),
    )
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.ClickException(f"--data-dir: {error}") from error
    asyncio.run(serve(functions, settings, references))


def load_functions(modules: Iterable[str], *, builtin: bool, only: Iterable[str]) -> list[Function]:
    """The functions to serve, by name. One of the user's takes the place of a built-in one.

    Raises click.ClickException, saying what is wrong with which module or function.
    """
    sys.path.insert(0, str(Path.cwd()))
    found: dict[str, Function] = {}
    try:
        if builtin:
            shelf = importlib.import_module("podium_workers.functions").builtin
            found.update({function.name: function for function in shelf})
        for module in modules:
            importlib.import_module(module)
        found.update({function.name: function for function in registry})
        for function in found.values():
            _ = function.signature
    except ModuleNotFoundError as error:
        raise click.ClickException(f"--functions: {error}") from error
    except (DuplicateTask, TypeError) as error:
        raise click.ClickException(str(error)) from error
    wanted = list(only)
    if unknown := [name for name in wanted if name not in found]:
        raise click.ClickException(
            f"--tasks: no function for {', '.join(unknown)}; there are {', '.join(sorted(found)) or 'none'}"
        )
    if not found:
        raise click.ClickException("no functions: give --functions, or leave out --no-builtin")
    return [found[name] for name in sorted(wanted or found)]


def _default_processes(functions: Iterable[Function], concurrency: int) -> int:
    """Where all functions compute, N at once was said of them, and a pool counts on it."""
    processors = count_processors()
    if not all(function.cpu_bound for function in functions):
        return processors
    if concurrency > processors:
        log.warning("all functions are cpu_bound: %d at once, on %d processors", concurrency, processors)
    return concurrency


def _setup(modules: Iterable[str], functions: Iterable[Function]) -> Setup:
    """What a process must import to have these functions."""
    homes = {function.call.__module__ for function in functions if function.cpu_bound}
    builtin = any(home.startswith("podium_workers.functions.") for home in homes)
    main = getattr(sys.modules["__main__"], "__file__", None) if "__main__" in homes else None
    return Setup(tuple(modules), builtin, str(Path(main).absolute()) if main else None)


def list_functions(functions: Iterable[Function]) -> str:
    """Two lines for each: its name with the parameters, and the first line of its docstring."""
    return "\n".join(f"{item.name}({item.signature})\n    {item.summary}".rstrip() for item in functions)


async def serve(functions: list[Function], settings: Settings, references: References) -> None:
    """Runs a worker until it was told to stop and is done.

    If tasks were cut off, or overdue functions hold all its slots, the process ends with 1.
    """
    # Late: `podium-worker list` needs neither Conductor's client nor a web server.
    from podium_workers.runtime.headers import Headers
    from podium_workers.runtime.health import start_health
    from podium_workers.runtime.metrics import WorkerMetrics
    from podium_workers.runtime.taskapi import TaskApi
    from podium_workers.runtime.worker import Worker

    cpu_bound = all(function.cpu_bound for function in functions)
    metrics = WorkerMetrics(settings.processes if cpu_bound else settings.concurrency)
    headers = Headers(settings.headers_dir) if settings.headers_dir else None
    api = TaskApi(settings.worker_id, headers)
    secrets = [os.environ.get("CONDUCTOR_AUTH_SECRET", ""), *(headers.now().values() if headers else ())]
    worker = Worker(functions, settings, api, metrics, list(filter(None, secrets)), references)
    give_up = asyncio.Event()

    def on_signal() -> None:
        if worker.stopping:
            give_up.set()
        worker.stop()
        asyncio.get_running_loop().call_later(settings.drain_timeout, give_up.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    health = None
    if settings.listen:
        try:
            health = await start_health(worker, metrics, settings.listen)
        except OSError as error:
            raise click.ClickException(f"--listen: {error}") from error
    log.info(
        "worker %s: %d task types, %d at once, namespaces %s, Conductor at %s",
        settings.worker_id,
        len(functions),
        settings.concurrency,
        ", ".join(domain or "(none)" for domain in settings.domains),
        api.url,
    )
    running = asyncio.create_task(worker.run())
    giving_up = asyncio.create_task(give_up.wait())
    try:
        await asyncio.wait([running, giving_up], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
            if worker.overdue or worker.exhausted:
                # Their threads cannot be stopped, and an exit would wait for them.
                log.warning("left behind: %s", ", ".join(map(str, worker.overdue)))
                logging.shutdown()
                os._exit(1 if worker.exhausted else 0)
            log.info("all tasks finished")
            return
        cut = worker.cut()
        for execution in cut:
            log.error("cut off: %s", execution)
        log.error("stopped with %d tasks unfinished; Conductor gives them out again in time", len(cut))
        # A function may still run in its thread, or hold on to its coroutine: a normal exit would wait.
        logging.shutdown()
        os._exit(1)
    finally:
        await references.close()
        if health is not None:
            await health.cleanup()


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    main()
