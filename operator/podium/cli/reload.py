"""`podium dev up --reload`: what changes in the code or a folder of manifests is running a moment later."""

import importlib.util
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

import click
from watchfiles import Change, watch
from watchfiles.filters import DefaultFilter

from podium.cli.applying import ManifestFolder
from podium.local.errors import LocalError
from podium.local.progress import format_seconds
from podium.local.stack import Stack

_LOOK_EVERY_MS = 1000
_SHOWN = 3


class Reloading:
    """The foreground of a dev stack: restarts parts and applies manifests, until it is interrupted."""

    def __init__(
        self, stack: Stack, sources: dict[str, tuple[Path, ...]], manifests: ManifestFolder | None
    ) -> None:
        """`sources`: part of the stack → the files and folders of its code."""
        self._stack = stack
        self._sources = sources
        self._manifests = manifests

    def run(self) -> None:
        """Until KeyboardInterrupt, or until the stack is taken down."""
        folders = {folder for folders in self._sources.values() for folder in folders}
        if self._manifests is not None:
            folders.add(self._manifests.folder)
        told = False
        for changes in watch(
            *sorted(folders),
            watch_filter=_Relevant(),
            rust_timeout=_LOOK_EVERY_MS,
            yield_on_timeout=True,
            raise_interrupt=True,
        ):
            if not told:
                # The first time-out: from here on nothing is missed.
                say(f"watching {', '.join(str(folder) for folder in sorted(folders))}; Ctrl-C ends it")
                if self._manifests is not None:
                    self._manifests.apply_all()
                told = True
            if not self._stack.folder.exists():
                raise LocalError(f'the dev stack "{self._stack.name}" was taken down.')
            if changes:
                self._follow(sorted({Path(path) for _, path in changes}))

    def _follow(self, paths: Sequence[Path]) -> None:
        for name, folders in self._sources.items():
            changed = [
                path
                for path in paths
                if path.suffix == ".py" and any(path.is_relative_to(folder) for folder in folders)
            ]
            if changed:
                self._restart(name, changed)
        if self._manifests is not None:
            self._manifests.apply(path for path in paths if self._manifests.holds(path))

    def _restart(self, name: str, changed: Sequence[Path]) -> None:
        broken = [problem for path in changed if (problem := find_syntax_error(path))]
        for problem in broken:
            say(problem)
        if broken:
            say(f"{name} goes on as it was, until that is mended")
            return
        shown = ", ".join(path.name for path in changed[:_SHOWN])
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        say(f"{name} restarts: {shown}{more} changed")
        began = time.monotonic()
        try:
            self._stack.restart(name)
        except LocalError as error:
            say(f"{name} is down until the next change: {error}")
        else:
            say(f"{name} is ready ({format_seconds(time.monotonic() - began)})")


def say(text: str) -> None:
    """One line with the time; more lines are indented below it."""
    first, *rest = text.splitlines()
    click.echo(f"{datetime.now().astimezone():%H:%M:%S} {first}")
    for line in rest:
        click.echo(f"         {line}")


def find_sources(
    modules: Iterable[str], module_folder: Path, more: Iterable[Path]
) -> dict[str, tuple[Path, ...]]:
    """Operator and worker → where their code is: Podium's own, the user's modules, and `more` of the worker.

    Raises LocalError for a module that is nowhere.
    """
    own = [_find_package(module.partition(".")[0], module_folder) for module in modules]
    return {
        "operator": (_find_package("podium", None),),
        "worker": (_find_package("podium_workers", None), *own, *(folder.resolve() for folder in more)),
    }


def find_syntax_error(path: Path) -> str:
    """`file:line: what is wrong` of a file that Python would not even read; empty if it would."""
    try:
        compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except FileNotFoundError:
        return ""
    except SyntaxError as error:
        return f"{path}:{error.lineno or 1}: {error.msg}"
    except ValueError as error:
        return f"{path}: {error}"
    return ""


def _find_package(name: str, folder: Path | None) -> Path:
    """The folder of a package, or the file of a module, looked for in `folder` first."""
    if folder is not None:
        for path in (folder / name, folder / f"{name}.py"):
            if path.exists():
                return path.resolve()
    spec = importlib.util.find_spec(name)
    places = list(spec.submodule_search_locations or ()) if spec else []
    if places:
        return Path(places[0]).resolve()
    if spec and spec.origin:
        return Path(spec.origin).resolve()
    raise LocalError(f"--functions {name}: there is no such module in {folder} or among those installed.")


class _Relevant(DefaultFilter):
    """Sources and manifests; not what editors and Python leave behind."""

    def __call__(self, change: Change, path: str) -> bool:
        return path.endswith((".py", ".yaml", ".yml", ".json")) and super().__call__(change, path)
