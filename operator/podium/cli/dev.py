"""`podium dev`: a cluster, Conductor, the operator and a worker on this machine, in the background."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from podium.cli.addresses import api_address
from podium.cli.tables import format_table
from podium.local.cache import Cache
from podium.local.cluster import Source
from podium.local.control_plane import run_kubectl
from podium.local.errors import LocalError
from podium.local.node import load_image
from podium.local.parts import NODE, find_crds
from podium.local.progress import PlainProgress, Progress, Silence, format_seconds, open_progress
from podium.local.stack import PartStatus, Stack
from podium.local.state import StackState, Wishes, list_stacks, state_root

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)

_name = click.option(
    "--name",
    default="default",
    show_default=True,
    metavar="NAME",
    help="Which stack; several can run at once.",
)


@click.group()
def dev() -> None:
    """A cluster, Conductor, the operator and a worker on this machine."""


@dev.command()
@_name
@click.option(
    "--context", metavar="NAME", help="Use the cluster of this kubeconfig context ($PODIUM_CONTEXT)."
)
@click.option("--conductor-url", metavar="URL", help="Use this Conductor ($PODIUM_CONDUCTOR_URL).")
@click.option("--namespaces", metavar="A,B", help="The worker serves these beside `default`.")
@click.option("--node", is_flag=True, help="With a node, so that Pods run (Linux, as root; kind has one).")
@click.option("--no-operator", is_flag=True, help="Leave the operator out, to run it by hand.")
@click.option("--no-worker", is_flag=True, help="Leave the worker out.")
@click.option(
    "--functions",
    metavar="MODULES",
    help="The worker also runs the functions of these modules (a.b,c), found here.",
)
@click.option("--reload", "reload_", is_flag=True, help="Stay, and restart what changes in the code.")
@click.option(
    "--watch",
    "watched",
    type=_FOLDER,
    multiple=True,
    metavar="DIR",
    help="With --reload: more code of the worker's functions (again: more).",
)
@click.option(
    "--apply",
    "manifests",
    type=_FOLDER,
    metavar="DIR",
    help="Stay, and apply the manifests in it as they change.",
)
@click.option("--down-on-exit", is_flag=True, help="With --reload or --apply: end the stack with Ctrl-C too.")
def up(
    name: str,
    context: str | None,
    conductor_url: str | None,
    namespaces: str | None,
    node: bool,
    no_operator: bool,
    no_worker: bool,
    functions: str | None,
    reload_: bool,
    watched: tuple[Path, ...],
    manifests: Path | None,
    down_on_exit: bool,
) -> None:
    """Start everything that is not running, and leave it running.

    The first time takes several minutes, to compile Kubernetes (unless there is kind and a container engine,
    $KUBEBUILDER_ASSETS, or a --context) and to download Conductor.

    \b
    Example:
      podium dev up
      podium dev up --reload --functions my.tasks --apply manifests
    """
    if (watched and not reload_) or (down_on_exit and not (reload_ or manifests)):
        raise click.UsageError("--watch goes with --reload, --down-on-exit with --reload or --apply")
    if node and (context or conductor_url):
        raise click.UsageError("--node goes with a cluster and a Conductor that are made here")
    began = time.monotonic()
    modules = tuple(part.strip() for part in (functions or "").split(",") if part.strip())
    wishes = Wishes(
        context=context,
        conductor_url=api_address(conductor_url or os.environ.get("PODIUM_CONDUCTOR_URL")),
        namespaces=_namespaces(namespaces),
        operator=not no_operator,
        worker=not no_worker,
        functions=modules,
        module_folder=str(Path.cwd()) if modules else "",
        node=node,
    )
    with _told_in_one_line(), _ended_politely(), open_progress() as progress:
        stack = _stack(name, progress)
        changed = stack.up(wishes)
        state = stack.state()
    took = f" ({format_seconds(time.monotonic() - began)})" if changed else ""
    click.echo(f'podium dev "{name}" is {"up" if changed else "already up"}{took}')
    click.echo(_next_steps(name, state))
    if reload_ or manifests:
        with _told_in_one_line(), _ended_politely():
            _stay(stack, reload_, watched, manifests, down_on_exit)


@dev.command()
@_name
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def status(name: str, output: str) -> None:
    """Show each part; exit with 1 if one is down.

    \b
    Example:
      podium dev status -o json
    """
    with _told_in_one_line():
        stack = _stack(name)
        state, parts = stack.state(), stack.status()
    healthy = state.complete and all(part.healthy for part in parts)
    if output == "json":
        click.echo(json.dumps(_as_json(state, parts, healthy), indent=2))
    else:
        if not state.complete:
            click.echo("`podium dev up` is still at work, or was interrupted", err=True)
        click.echo(_as_table(parts))
    sys.exit(0 if healthy else 1)


@dev.command()
@_name
def env(name: str) -> None:
    """Print what a shell needs to use the stack.

    \b
    Example:
      eval "$(podium dev env)"
    """
    with _told_in_one_line():
        stack = _stack(name)
        state = stack.state()
    click.echo(f"export KUBECONFIG={shlex.quote(str(state.kubeconfig))}")
    click.echo(f"export CONDUCTOR_SERVER_URL={shlex.quote(state.conductor_url)}")
    click.echo(f'export PATH={shlex.quote(str(stack.bin_folder))}:"$PATH"')


@dev.command()
@_name
def down(name: str) -> None:
    """End everything and remove it; nothing stays but the cache.

    \b
    Example:
      podium dev down
    """
    with _told_in_one_line(), _ended_politely():
        stack = _stack(name)
        remains = _remains(stack)
        if stack.down():
            click.echo(f'podium dev "{name}" is down')
        else:
            others = ", ".join(list_stacks(state_root()))
            click.echo(
                f'there is no dev stack "{name}"' + (f"; there are: {others}" if others else ""), err=True
            )
    if remains:
        click.echo(remains, err=True)


@dev.command()
@_name
@click.argument("archive", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def load(name: str, archive: Path) -> None:
    """Give the images of an ARCHIVE (docker save) to the node, so that Pods can use them.

    \b
    Example:
      make images ARCHIVES=1            # says in which files they are
      podium dev load FILE
    """
    with _told_in_one_line():
        state = _stack(name).state()
        if state.source is Source.KIND:
            raise LocalError(
                f"kind loads images itself: kind load image-archive {archive} --name podium-{name}"
            )
        if state.node is None:
            raise LocalError(f'the dev stack "{name}" has no node: end it, and start it with --node.')
        load_image(state.node, archive)


@dev.command()
@_name
@click.argument("part")
@click.option("-f", "--follow", is_flag=True, help="Go on printing what is added.")
def logs(name: str, part: str, follow: bool) -> None:
    """Print the log of one PART (see `podium dev status`).

    \b
    Example:
      podium dev logs operator -f
    """
    with _told_in_one_line():
        parts = _stack(name).state().parts
        if part not in parts:
            raise LocalError(f'there is no part "{part}"; there are: {", ".join(parts)}.')
    log = parts[part].service.program.log
    if follow:
        os.execvp("tail", ["tail", "-n", "100", "-F", str(log)])  # noqa: S606 - nothing is left to do here
    with contextlib.suppress(BrokenPipeError):
        click.echo(log.read_text(errors="replace"), nl=False)


def _stay(
    stack: Stack, reload_: bool, watched: tuple[Path, ...], manifests: Path | None, down_on_exit: bool
) -> None:
    from podium.cli.applying import ManifestFolder
    from podium.cli.reload import Reloading, find_sources, say

    # A terminal's live bars would hide what is said between them.
    stack = Stack(stack.name, state_root(), Cache.of(), Silence())
    state = stack.state()
    sources = {}
    if reload_:
        wishes = state.wishes
        sources = find_sources(wishes.functions, Path(wishes.module_folder), watched)
        sources = {part: folders for part, folders in sources.items() if part in state.parts}
    kubectl = functools.partial(run_kubectl, state.kubectl, state.kubeconfig)
    folder = ManifestFolder(manifests.resolve(), kubectl, say) if manifests else None
    try:
        Reloading(stack, sources, folder).run()
    except KeyboardInterrupt:
        option = "" if stack.name == "default" else f" --name {stack.name}"
        if down_on_exit:
            stack.down()
            say(f'podium dev "{stack.name}" is down')
            return
        say(f'podium dev "{stack.name}" stays up, no longer reloaded; to end it: podium dev down{option}')
        for part in stack.status():
            if not part.healthy:
                say(f"{part.name} is down; to start it: podium dev up{option}")


def _stack(name: str, progress: Progress | None = None) -> Stack:
    if not name.replace("-", "").isalnum() or not name.isascii() or name != name.lower().strip("-"):
        raise LocalError(f'"{name}" cannot be the name of a stack: use small letters, digits and hyphens.')
    return Stack(name, state_root(), Cache.of(), progress or PlainProgress(sys.stderr))


def _namespaces(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    return tuple(dict.fromkeys(["default", *(part.strip() for part in text.split(",") if part.strip())]))


def _next_steps(name: str, state: StackState) -> str:
    option = "" if name == "default" else f" --name {name}"
    lines = [
        f"  cluster    {state.cluster_url}",
        f"  conductor  {state.conductor_url}",
        "",
        f'  eval "$(podium dev env{option})"      KUBECONFIG, CONDUCTOR_SERVER_URL, and kubectl on PATH',
    ]
    if examples := _examples():
        lines.append(f"  kubectl apply -f {examples}")
    lines += [
        "  kubectl get workflows,workflowruns",
        f"  podium dev status{option}    podium dev logs{option} operator -f    podium dev down{option}",
    ]
    if NODE in state.parts:
        lines += ["", "  pods of WorkerPools run as processes of this machine (stand-in; no images)"]
    if not state.wishes.operator:
        listen = f"PODIUM_LISTEN=127.0.0.1:{state.operator_port}"
        lines += [
            "",
            f"  the operator, by hand: {listen} PODIUM_NOTICE_TOKEN={state.notice_token} podium operator",
        ]
    if state.wishes.conductor_url:
        lines += ["", "  That Conductor was not told to send notices here: changes are seen by asking it."]
    return "\n".join(lines)


def _examples() -> Path | None:
    here = Path(__file__).resolve()
    for folder in (here.parents[1] / "local" / "examples", here.parents[3] / "manifests" / "examples"):
        if any(folder.glob("*.yaml")):
            return folder
    return None


def _remains(stack: Stack) -> str:
    """What `down` leaves in a cluster of the user's own."""
    with contextlib.suppress(LocalError):
        state = stack.state()
        if state.source is Source.CONTEXT:
            context = state.wishes.context
            return (
                f"The CRDs of podium, and the objects made with them, are still in the cluster of {context}. "
                f"To delete them all: kubectl --context {context} delete -f {find_crds()}"
            )
    return ""


def _as_table(parts: tuple[PartStatus, ...]) -> str:
    rows = [("PART", "HEALTHY", "PID", "ADDRESS", "LOG")]
    rows += [
        (p.name, "yes" if p.healthy else "no", str(p.pid or "-"), p.address, str(p.log or "-")) for p in parts
    ]
    return format_table(rows)


def _as_json(state: StackState, parts: tuple[PartStatus, ...], healthy: bool) -> dict[str, object]:
    return {
        "name": state.name,
        "healthy": healthy,
        "kubeconfig": str(state.kubeconfig),
        "conductorUrl": state.conductor_url,
        "parts": [
            {
                "name": part.name,
                "healthy": part.healthy,
                "pid": part.pid,
                "address": part.address,
                "log": str(part.log) if part.log else None,
            }
            for part in parts
        ],
    }


@contextlib.contextmanager
def _told_in_one_line() -> Iterator[None]:
    try:
        yield
    except LocalError as error:
        first, *rest = str(error).splitlines()
        click.echo(f"podium: {first}", err=True)
        for line in rest:
            click.echo(line if line.startswith(" ") else f"podium: {line}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("podium: interrupted", err=True)
        sys.exit(130)


@contextlib.contextmanager
def _ended_politely() -> Iterator[None]:
    """A closed terminal and `kill` clean up as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
