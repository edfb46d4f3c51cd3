"""A PostgreSQL on this machine, as Conductor's store: its own data, its own port, only on loopback.

For tests of what Conductor does on another store; `podium dev` and the demo keep to SQLite.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from podium.local.errors import LocalError, MissingPrerequisites
from podium.local.processes import Process, Processes, Program, wait_until
from podium.local.services import free_port, tail

_SECONDS_TO_START = 60.0
_DATABASE = "conductor"
_USER = "conductor"
_PLACES = (
    (Path("/usr/lib/postgresql"), "*/bin"),
    (Path("/opt/homebrew/opt"), "postgresql*/bin"),
    (Path("/usr/local/opt"), "postgresql*/bin"),
)
# What is kept is thrown away with the test: no need to bring each commit to the disk.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


class Postgres:
    """A running server; `settings` make a Conductor use it.

    Give them to `Conductor.start(…, properties=postgres.settings)`. Its data goes when it stops.
    """

    def __init__(self, folder: Path, port: int, password: str, processes: Processes) -> None:
        self.folder = folder
        self.port = port
        self._password = password
        self._processes = processes
        self._process: Process | None = None

    @classmethod
    def start(cls, environment: Mapping[str, str] = os.environ) -> Postgres:
        """Makes a database of its own and returns when it takes connections (2 s).

        Raises MissingPrerequisites if PostgreSQL's server programs are not on this machine, LocalError.
        """
        programs = require_postgres(environment)
        identity = _identity()
        # Not in a folder of the caller's: if we are root, the server runs as a user who may not go there.
        folder = Path(tempfile.mkdtemp(prefix="podium-postgres-"))
        postgres = cls(folder, free_port(), secrets.token_hex(16), Processes())
        try:
            if identity is not None:
                os.chown(folder, identity.pw_uid, identity.pw_gid)
            postgres._make(programs, _prefix(identity))
            postgres._run(programs, _prefix(identity))
        except BaseException:
            postgres.stop()
            raise
        return postgres

    @property
    def settings(self) -> dict[str, str]:
        """Conductor's settings for runs, queues and the index in this database."""
        return {
            "conductor.db.type": "postgres",
            "conductor.queue.type": "postgres",
            "conductor.indexing.enabled": "true",
            "conductor.indexing.type": "postgres",
            "conductor.elasticsearch.version": "0",
            "spring.datasource.url": f"jdbc:postgresql://127.0.0.1:{self.port}/{_DATABASE}",
            "spring.datasource.driver-class-name": "org.postgresql.Driver",
            "spring.datasource.username": _USER,
            "spring.datasource.password": self._password,
            "spring.datasource.hikari.maximum-pool-size": "40",
        }

    def stop(self) -> None:
        """Ends it and removes its data. Does nothing twice."""
        if self._process is not None and self._process.alive:
            # Its "fast" way: SIGTERM would wait for the last client, SIGKILL leave shared memory behind.
            self._process.signal(signal.SIGINT)
            wait_until(lambda: self._process is None or not self._process.alive, 10.0)
        self._processes.stop(grace=0.0)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _make(self, programs: Path, prefix: tuple[str, ...]) -> None:
        secret = self.folder / "password"
        secret.write_text(self._password + "\n")
        shutil.chown(secret, self.folder.stat().st_uid, self.folder.stat().st_gid)
        secret.chmod(0o600)
        _check(
            [
                *prefix,
                str(programs / "initdb"),
                f"--pgdata={self.folder / 'data'}",
                f"--username={_USER}",
                f"--pwfile={secret}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ],
            self.folder,
        )
        secret.unlink()
        # The server in its mode for one user: makes the database without a client program.
        _check(
            [*prefix, str(programs / "postgres"), "--single", "-D", str(self.folder / "data"), "postgres"],
            self.folder,
            f"CREATE DATABASE {_DATABASE}\n",
        )

    def _run(self, programs: Path, prefix: tuple[str, ...]) -> None:
        settings = {**_SETTINGS, "port": str(self.port)}
        log = self.folder / "postgres.log"
        program = Program(
            name="postgres",
            argv=(
                *prefix,
                str(programs / "postgres"),
                "-D",
                str(self.folder / "data"),
                *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
            ),
            folder=self.folder,
            log=log,
        )
        self._process = process = self._processes.start(program)
        deadline = time.monotonic() + _SECONDS_TO_START
        while not self._listens():
            if not process.alive or time.monotonic() > deadline:
                raise LocalError(f"PostgreSQL did not start; the end of its log:\n{tail(log)}")
            time.sleep(0.05)

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
                return True
        except OSError:
            return False


def find_postgres(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The folder with `initdb` and `postgres`, the newest there is; None if there is none."""
    for folder in _folders(environment):
        if all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres")):
            return folder
    return None


def require_postgres(environment: Mapping[str, str] = os.environ) -> Path:
    """The same. Raises MissingPrerequisites, which says how to get them."""
    found = find_postgres(environment)
    if found is None:
        raise MissingPrerequisites(
            ["PostgreSQL's programs initdb and postgres are needed: install Debian's package postgresql"]
        )
    return found


def _folders(environment: Mapping[str, str]) -> Iterator[Path]:
    if on_path := shutil.which("postgres", path=environment.get("PATH")):
        yield Path(on_path).resolve().parent
    for base, pattern in _PLACES:
        if base.is_dir():
            yield from sorted(
                base.glob(pattern), key=lambda path: (len(path.parent.name), path), reverse=True
            )


def _identity() -> pwd.struct_passwd | None:
    """Whom the server runs as: PostgreSQL refuses to be root. None: as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise MissingPrerequisites(["PostgreSQL does not run as root, and there is no user postgres or nobody"])


def _prefix(identity: pwd.struct_passwd | None) -> tuple[str, ...]:
    if identity is None:
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise MissingPrerequisites(
            ["setpriv is needed to run PostgreSQL as a user that is not root: install Debian's util-linux"]
        )
    return (setpriv, f"--reuid={identity.pw_uid}", f"--regid={identity.pw_gid}", "--clear-groups", "--")


def _check(argv: list[str], folder: Path, text: str | None = None) -> None:
    answer = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=folder, input=text)
    if answer.returncode != 0:
        raise LocalError(
            f"making a PostgreSQL database failed: {answer.stderr.strip() or answer.stdout.strip()}"
        )
