"""PlatformIO: found, given a core folder and a clean environment, and run for one of a project."""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from podium_workers.runtime.context import Reject, Retry
from podium_workers.services.programs import (
    LINE_CHARACTERS,
    CannotStart,
    Ended,
    Limits,
    OnLine,
    Stop,
    run,
    shield,
)

ENVIRONMENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_SECONDS_FOR_CONFIG = 60.0
_CONFIG_CHARACTERS = 2**20
"""PlatformIO writes a project's whole configuration as one line."""
_PASSED_ON = ("PATH", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
_NO_NETWORK = re.compile(
    r"HTTPClientError|InternetConnectionError|Max retries exceeded|NameResolutionError|Connection "
    r"(?:refused|reset)"
    r"|Read timed out|ConnectionError|You are not connected to the Internet",
    re.IGNORECASE,
)
_NOT_KNOWN = re.compile(r"UnknownPackageError: .*|UnknownBoard: .*|UnknownPlatform: .*|UnknownFramework: .*")
_NO_SUCH_ENVIRONMENT = re.compile(r"Unknown environment names '([^']*)'\. Valid names are '([^']*)'")
_EXCEPTION = re.compile(r"^(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception)\b.*")
_NO_PROJECT = "there is no platformio.ini in {}: name the project's folder as `path`"
_COMPILER_ERROR = re.compile(
    r"^(?:(?P<file>[^\s:][^:\n]*):(?P<line>\d+):(?:\d+:)? (?:fatal )?error: .*|.*undefined reference to .*"
    r"|.*(?:region|section) [`'].*|\S*ld(?:\.\w+)?: error: .*|Error: .*|\*\*\* \[.*\] .*)$"
)


@dataclass(frozen=True)
class PlatformIO:
    """How it is called, and its version."""

    argv: tuple[str, ...]
    version: str


@dataclass(frozen=True)
class Settings:
    """What a build is given. `commit` and `epoch` (seconds since 1970) make the same of the same commit."""

    core: Path
    """Where PlatformIO keeps platforms and packages; shared by builds."""
    workspace: Path
    """This build's own folder; what it writes belongs here."""
    commit: str
    epoch: int
    limits: Limits


@functools.cache
def find_platformio() -> PlatformIO:
    """PlatformIO in this Python, else `pio` on the PATH. Raises Reject if there is none."""
    if importlib.util.find_spec("platformio") is not None:
        # -P: a project's own click.py must not be taken for the library of that name.
        return PlatformIO((sys.executable, "-P", "-m", "platformio"), metadata.version("platformio"))
    for name in ("pio", "platformio"):
        if path := shutil.which(name):
            said = subprocess.run(
                [path, "--version"], capture_output=True, text=True, timeout=60, check=False
            )
            found = re.search(r"version (\S+)", said.stdout)
            return PlatformIO((path,), found[1] if found else "unknown")
    raise Reject("PlatformIO is not installed where this worker runs: install podium's extra 'firmware'")


def prepare_core(core: Path) -> None:
    """Makes PlatformIO's build engine, SCons, the one that PyPI has, where that is the version it wants.

    PlatformIO would download the same thing from its own registry: this way a build with platforms that are
    here already needs no network. Does nothing where SCons is not installed, or the core is read-only.
    """
    wanted = _scons_wanted()
    if wanted is None:
        return
    folder = core / "packages" / "tool-scons"
    if folder.exists():
        return
    made = folder.with_name(f".tool-scons-{os.getpid()}")
    try:
        made.mkdir(parents=True, exist_ok=True)
        spec = {"owner": "platformio", "id": None, "name": "tool-scons", "requirements": None, "uri": None}
        described = {"name": "tool-scons", "version": wanted}
        (made / "package.json").write_text(json.dumps(described))
        (made / ".piopm").write_text(json.dumps({"type": "tool", **described, "spec": spec}))
        (made / "scons.py").write_text("from SCons.Script import main\n\nmain()\n")
        made.rename(folder)
    except OSError:
        # Another build was quicker, or the folder is not ours to write: PlatformIO then says what it lacks.
        shutil.rmtree(made, ignore_errors=True)


def own_variables() -> dict[str, str]:
    """What PODIUM_BUILD_ENV says that builds are given besides; what is built may depend on it."""
    names = [name.strip() for name in os.environ.get("PODIUM_BUILD_ENV", "").split(",")]
    return {name: os.environ[name] for name in names if name in os.environ}


def build_environment(settings: Settings, core: Path) -> dict[str, str]:
    """All that a build may know: no token, no password, little of the worker's own environment."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    for name in _PROXIES:
        for spelled in (name, name.upper()):
            # A proxy's password would be readable by whatever the project runs.
            if "@" not in os.environ.get(spelled, "@"):
                passed[spelled] = os.environ[spelled]
    if "PYTHONPATH" in os.environ:
        # PlatformIO itself may lie there, as in the image of a worker that builds.
        passed["PYTHONPATH"] = os.environ["PYTHONPATH"]
    return (
        passed
        | own_variables()
        | {
            "HOME": str(_made(settings.workspace / "home")),
            "TMPDIR": str(_made(settings.workspace / "tmp")),
            "LC_ALL": "C.UTF-8",
            "PODIUM_COMMIT": settings.commit,
            "SOURCE_DATE_EPOCH": str(settings.epoch),
            "PLATFORMIO_CORE_DIR": str(core),
            "PLATFORMIO_SETTING_ENABLE_TELEMETRY": "no",
            "PLATFORMIO_SETTING_CHECK_PLATFORMIO_INTERVAL": "9999",
            "PLATFORMIO_SETTING_CHECK_PRUNE_SYSTEM_THRESHOLD": "0",
            "PLATFORMIO_NO_ANSI": "true",
            "CI": "true",
        }
    )


async def list_environments(project: Path, settings: Settings, wanted: list[str]) -> list[str]:
    """The environments to build: the wanted ones, else the project's default ones, else all.

    Raises Reject for a project that is none, and for names that it does not have.
    """
    sections = await _read_config(project, settings)
    known = [name.removeprefix("env:") for name in sections if name.startswith("env:")]
    if not known:
        raise Reject("platformio.ini has no [env:…]: add the environment that is to be built")
    default = sections.get("platformio", {}).get("default_envs") or known
    chosen = list(dict.fromkeys(wanted or ([default] if isinstance(default, str) else list(default))))
    for name in chosen:
        if name not in known:
            raise _no_such_environment(name, known)
    return chosen


async def build(project: Path, environment: str, settings: Settings, on_line: OnLine) -> Ended:
    """Runs `pio run` for one environment, from nothing: only a clean build prints its warnings."""
    if not ENVIRONMENT_NAME.fullmatch(environment):
        raise Reject(f"environments: {environment[:60]!r} is no name for a folder")
    core = await _core_for(project, environment, settings)
    shutil.rmtree(project / ".pio" / "build" / environment, ignore_errors=True)
    return await _pio(
        ["run", "--environment", environment, "--project-dir", str(project), "--disable-auto-clean"],
        project,
        settings,
        core,
        settings.limits,
        on_line,
    )


async def _core_for(project: Path, environment: str, settings: Settings) -> Path:
    """The shared core; one of this commit's own for an environment whose platform or packages lie in it.

    PlatformIO keeps what it was first told, a link or a copy, and takes it for every later one of the same
    name: with a shared core, one project, or commit, would be built with the platform of another.
    """
    options = (await _read_config(project, settings)).get(f"env:{environment}", {})
    specs = [*_listed(options.get("platform")), *_listed(options.get("platform_packages"))]
    if not any(_is_local(project, spec) for spec in specs):
        return settings.core
    owner = hashlib.sha256(f"{settings.commit} {project}".encode()).hexdigest()[:16]
    return settings.workspace / "cores" / owner


def _is_local(project: Path, spec: str) -> bool:
    # Not Path.exists, which raises for what is too long to be a name.
    return "file://" in spec or "symlink://" in spec or os.path.exists(project / spec)  # noqa: PTH110


async def _read_config(project: Path, settings: Settings) -> dict[str, dict[str, Any]]:
    """The project's sections with all that they inherit, include, and are made of."""
    if not (project / "platformio.ini").is_file():
        raise Reject(_NO_PROJECT.format(project.name))
    lines: list[str] = []
    complaints: list[str] = []
    ended = await _pio(
        ["project", "config", "--json-output", "-d", str(project)],
        project,
        settings,
        settings.core,
        Limits(_SECONDS_FOR_CONFIG),
        lambda line, channel: (lines if channel == "out" else complaints).append(line),
        _CONFIG_CHARACTERS,
    )
    try:
        return {name: dict(options) for name, options in json.loads("".join(lines))}
    except ValueError:
        said = " ".join(line for line in [*complaints, *lines] if line.strip())[-300:]
        raise Reject(f"platformio.ini cannot be read: {said or f'pio ended with {ended.code}'}") from None


def _listed(value: Any) -> list[str]:
    return [str(item) for item in (value if isinstance(value, list) else [value]) if item]


def explain(environment: str, ended: Ended, lines: list[str], limits: Limits) -> Reject | Retry:
    """Reject or Retry for a build that did not succeed, out of its last lines."""
    last = next((line for line in reversed(lines) if line.strip()), "nothing")[:160]
    if ended.stopped is not None:
        return _explain_stop(environment, ended.stopped, limits, last)
    text = "\n".join(lines)
    if re.search(r"No space left on device|Disk quota exceeded", text):
        return Retry(f"{environment}: the worker's disk is full: make room in its data folder")
    if found := _NO_SUCH_ENVIRONMENT.search(text):
        return _no_such_environment(found[1], found[2].split(", "))
    if unknown := _NOT_KNOWN.search(text):
        return Reject(f"{environment}: {unknown[0][:300]}")
    if _NO_NETWORK.search(text):
        return Retry(
            f"{environment}: PlatformIO could not download what the project wants: let the worker reach its "
            "registry, or give it a core folder that has everything (PODIUM_PLATFORMIO_CORE)"
        )
    if ended.code in {137, 143}:
        return Retry(f"{environment}: the build was killed by signal {ended.code - 128}: out of memory?")
    errors = list(dict.fromkeys(line.strip() for line in lines if _COMPILER_ERROR.match(line.strip())))
    # A script of the project's or the platform's that failed in Python.
    errors = errors or [line.strip() for line in lines if _EXCEPTION.match(line)][-1:]
    return Reject(f"{environment}: {'; '.join(errors[:3])[:400] or f'pio ended with {ended.code}: {last}'}")


def _no_such_environment(name: str, known: list[str]) -> Reject:
    near = difflib.get_close_matches(name, known, 1)
    return Reject(
        f"environments: platformio.ini has no [env:{name[:60]}]"
        + (f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(known[:10])}")
    )


def _explain_stop(environment: str, stop: Stop, limits: Limits, last: str) -> Reject | Retry:
    match stop:
        case "time":
            return Reject(
                f"{environment}: the build was stopped after {limits.seconds:g} s; the last it said: "
                f"{last}. Raise `timeout`, or look why it hangs"
            )
        case "memory":
            return Reject(
                f"{environment}: the build took more than {_mib(limits.memory_bytes)} of memory and was "
                "stopped; raise `memoryLimit`"
            )
        case "disk":
            return Reject(
                f"{environment}: the build wrote more than {_mib(limits.disk_bytes)} and was stopped; raise "
                "`diskLimit`, or look what it writes"
            )
        case "room":
            return Retry(
                f"{environment}: less than {_mib(limits.room_bytes)} are free on the worker's disk, and the "
                "build was stopped: make room in its data folder"
            )
        case "processes":
            return Reject(f"{environment}: the build started more than {limits.processes} processes")


async def _pio(
    arguments: list[str],
    project: Path,
    settings: Settings,
    core: Path,
    limits: Limits,
    on_line: OnLine,
    longest_line: int = LINE_CHARACTERS,
) -> Ended:
    prepare_core(core)
    shield()
    try:
        return await run(
            [*find_platformio().argv, *arguments],
            cwd=project,
            env=build_environment(settings, core),
            limits=limits,
            on_line=on_line,
            longest_line=longest_line,
        )
    except CannotStart as error:
        raise Reject(str(error)) from None


@functools.cache
def _scons_wanted() -> str | None:
    """`4.41101.0`, PlatformIO's way to write SCons 4.11.1, if that is the one installed here."""
    try:
        from platformio.dependencies import get_core_dependencies

        installed = metadata.version("SCons")
        wanted: Mapping[str, str] = get_core_dependencies()
    except (ImportError, metadata.PackageNotFoundError):
        return None
    major, minor, patch = (*map(int, re.findall(r"\d+", installed)), 0, 0)[:3]
    version = f"{major}.{major}{minor:02d}{patch:02d}.0"
    return version if wanted.get("tool-scons", "").lstrip("~^= ") == version else None


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _mib(size: int | None) -> str:
    return f"{(size or 0) / 2**20:.0f} MiB"
