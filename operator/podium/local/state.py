"""What a dev stack is made of, in a file, so that another command finds it again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from podium.local.cluster import Source
from podium.local.errors import LocalError
from podium.local.node import NodeFiles
from podium.local.pki import write_secret
from podium.local.processes import Identity
from podium.local.services import Service


@dataclass(frozen=True)
class Wishes:
    """What the user asked for.

    `namespaces` are those that the worker serves; none means `default`, or those it serves already.
    `functions` are Python modules with functions of the user's, found from `module_folder`; none means
    those that the worker has already.
    """

    context: str | None = None
    conductor_url: str | None = None
    namespaces: tuple[str, ...] = ()
    operator: bool = True
    worker: bool = True
    functions: tuple[str, ...] = ()
    module_folder: str = ""
    node: bool = False


@dataclass(frozen=True)
class Part:
    """One server of the stack; `identity` is the process that serves it, once it was started."""

    service: Service
    identity: Identity | None = None


@dataclass(frozen=True)
class StackState:
    """Everything to find, restart and end a stack. `complete` is False until `up` has come to its end."""

    name: str
    wishes: Wishes
    source: Source
    engine: str
    kubeconfig: Path
    kubectl: Path
    operator_port: int
    notice_token: str
    cluster_url: str = ""
    conductor_url: str = ""
    complete: bool = False
    node: NodeFiles | None = None
    parts: Mapping[str, Part] = field(default_factory=dict)


def state_root(environment: Mapping[str, str] = os.environ) -> Path:
    """`$PODIUM_STATE`, else `$XDG_STATE_HOME/podium`, else ~/.local/state/podium."""
    if own := environment.get("PODIUM_STATE"):
        return Path(own).expanduser().resolve()
    if shared := environment.get("XDG_STATE_HOME"):
        return Path(shared).resolve() / "podium"
    return Path(environment.get("HOME", "~")).expanduser() / ".local" / "state" / "podium"


def read_state(folder: Path) -> StackState | None:
    """The state kept in `folder`; None if there is none. Raises LocalError if it cannot be read.

    The state before the last change is kept beside it, and serves where a full disk or a power cut has
    spoilt the last one.
    """
    adapter = TypeAdapter(StackState)
    spoilt = None
    for path in (folder / "state.json", folder / "state.json.previous"):
        try:
            return adapter.validate_json(path.read_bytes())
        except FileNotFoundError:
            continue
        except ValidationError:
            spoilt = spoilt or path
    if spoilt is not None:
        raise LocalError(
            f"{spoilt} cannot be read, so the processes of this stack are not known; end those whose command "
            f"names {folder}, then remove that folder."
        )
    return None


def write_state(folder: Path, state: StackState) -> None:
    """Replaces the state in one step: a reader, or a crash, sees the old one or the new one."""
    current, new = folder / "state.json", folder / "state.json.new"
    write_secret(new, TypeAdapter(StackState).dump_json(state, indent=1))
    if current.exists():
        previous = folder / "state.json.previous"
        previous.unlink(missing_ok=True)
        previous.hardlink_to(current)
    new.replace(current)


def list_stacks(root: Path) -> tuple[str, ...]:
    """The names of the stacks that there are, running or not."""
    folder = root / "dev"
    if not folder.is_dir():
        return ()
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))
