"""One commit of a git repository in a folder, exactly, and whatever stands in the way of that in plain words.

By git's own command line: it speaks every transport and every manner of logging in, and its fixes for
weaknesses
come with the system. The libraries either lack shallow fetches of single commits or wrap the same command.

Credentials never stand in an argument list, an environment or a URL: they lie in files that only this user
can
read, for as long as git runs, and git gives them to the repository's own host only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from podium_workers.runtime.context import Reject, Retry
from podium_workers.services.programs import CannotStart, Ended, Limits, run

FULL_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
SHORT_COMMIT = re.compile(r"[0-9a-f]{7,63}")
_SCHEMES = frozenset({"http", "https", "ssh", "git", "file"})
_SCP_LIKE = re.compile(r"(?:[\w.-]+@)?[\w.-]+:(?!//)\S+")
_BRANCH = re.compile(r"(?!-)[\w./@+-]{1,200}")
_MOST_SECONDS = 300.0
_PASSED_ON = ("PATH", "LANG", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "SSH_AUTH_SOCK")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


@dataclass(frozen=True)
class Credentials:
    """How to log in: user and password (or token) over HTTP, or a private key over ssh."""

    username: str = ""
    password: str = ""
    ssh_private_key: str = ""
    known_hosts: str = ""


@dataclass(frozen=True)
class Commit:
    """What was found. `committed_at`: seconds since 1970."""

    id: str
    subject: str
    author: str
    committed_at: int

    @property
    def short(self) -> str:
        """Its first seven digits."""
        return self.id[:7]


async def checkout(
    repository: str,
    revision: str,
    folder: Path,
    credentials: Credentials | None = None,
    *,
    submodules: bool = False,
    disk_bytes: int | None = None,
) -> Commit:
    """Puts `revision` into `folder`, with nothing beside it, and says which commit that is.

    What was in `folder` is removed, a repository too: what a build left in it (a program in its
    configuration, half a checkout, a lock) must not meet git, least of all while it has credentials.

    `revision` is a commit (a shortened one needs the whole history), a branch or a tag. Raises Reject for
    what only a person can mend, Retry for what may pass.
    """
    check_repository(repository)
    if shutil.which("git") is None:
        raise Reject("git is not installed where this worker runs: add it to its image")
    if (old := _put_aside(folder)) is not None:
        await asyncio.to_thread(shutil.rmtree, old, ignore_errors=True)
    with _Git.open(repository, credentials or Credentials(), folder, disk_bytes) as git:
        wanted = revision.strip()
        await git.must("init", "--quiet")
        await git.must("checkout", "--quiet", "--detach", await git.fetch(wanted))
        if submodules:
            await git.must(
                "submodule", "update", "--quiet", "--init", "--recursive", "--depth", "1", "--force"
            )
        # Not what was asked for but what is there decides what the build is called.
        text = await git.must(
            "show", "--no-patch", "--no-show-signature", "--format=%H%n%ct%n%an%n%s", "HEAD"
        )
        found, at, author, subject, *_ = [*text, "", "", ""]
        if FULL_COMMIT.fullmatch(wanted.lower()) and found != wanted.lower():
            raise Retry(f"{git.name}: commit {found} was checked out in the place of {wanted}")
        return Commit(found, subject[:200], author[:100], int(at or 0))


def _put_aside(folder: Path) -> Path | None:
    """Renames what is there: a removal that is cancelled goes on, and must not meet the next checkout."""
    if not os.path.lexists(folder):
        return None
    old = Path(tempfile.mkdtemp(prefix=".old-", dir=folder.parent))
    folder.rename(old / folder.name)
    return old


def check_repository(repository: str) -> None:
    """Raises Reject for what is no repository's address, and for one that holds a password."""
    if repository.startswith("-") or not repository.strip() or "::" in repository.partition("/")[0]:
        raise Reject("repository: not the address of a git repository")
    parts = urlsplit(repository)
    if parts.scheme in _SCHEMES:
        if parts.password or (parts.username and parts.scheme.startswith("http")):
            raise Reject(
                "repository: it holds a user name or a password, which everybody who may see the run could "
                "read; put them into a Secret and pass it as `credentials`"
            )
        return
    if not (repository.startswith("/") or _SCP_LIKE.fullmatch(repository)):
        raise Reject(
            f"repository: {repository!r} is not an address that git knows: https://…, ssh://…, "
            "git@host:path, or an absolute path on the worker"
        )


class _Git:
    """git in one folder, with the files that hold its credentials."""

    def __init__(
        self, repository: str, folder: Path, safe: Path, credentials: Credentials, disk_bytes: int | None
    ) -> None:
        self._repository = repository
        self._folder = folder
        self._limits = Limits(_MOST_SECONDS, disk_bytes=disk_bytes, folder=folder)
        self._with_password = bool(credentials.password or credentials.username)
        self._with_key = bool(credentials.ssh_private_key)
        self._options = ["-c", "core.hooksPath=/dev/null", "-c", "credential.helper=", "-c", "gc.auto=0"]
        self._env = _environment(safe)
        self.name = _without_password(repository)
        if self._with_password:
            self._options += ["-c", f"credential.helper={_store_password(repository, safe, credentials)}"]
        self._env["GIT_SSH_COMMAND"] = _ssh_command(safe, credentials)

    @classmethod
    @contextlib.contextmanager
    def open(
        cls, repository: str, credentials: Credentials, folder: Path, disk_bytes: int | None
    ) -> Iterator[_Git]:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="podium-git-") as safe:
            yield cls(repository, folder, Path(safe), credentials, disk_bytes)

    async def fetch(self, revision: str) -> str:
        """Fetches it, alone if the server gives single commits; its name here."""
        if FULL_COMMIT.fullmatch(revision.lower()):
            commit = revision.lower()
            ended, lines = await self._fetch(commit, alone=True)
            if ended.ok:
                return commit
            if not _not_alone(lines):
                raise self._failure(ended, lines)
            return await self._from_history(commit)
        if SHORT_COMMIT.fullmatch(revision.lower()):
            return await self._from_history(revision.lower())
        if not _BRANCH.fullmatch(revision):
            raise Reject(f"commit: {revision[:80]!r} is neither a commit nor the name of a branch or tag")
        ended, lines = await self._fetch(revision, alone=True)
        if ended.ok:
            return "FETCH_HEAD"
        if any("couldn't find remote ref" in line for line in lines):
            raise Reject(
                f"{self.name} has neither a branch nor a tag named {revision!r}: push it, or name a commit"
            )
        raise self._failure(ended, lines)

    async def must(self, *arguments: str) -> list[str]:
        """What git says. Raises Reject or Retry if it fails."""
        ended, lines = await self._git(*arguments)
        if not ended.ok:
            raise self._failure(ended, lines)
        return lines

    async def _from_history(self, commit: str) -> str:
        """From all branches and tags: for shortened ids, and servers that do not give single commits."""
        ended, lines = await self._fetch("+refs/heads/*:refs/remotes/podium/*", "+refs/tags/*:refs/tags/*")
        if not ended.ok:
            raise self._failure(ended, lines)
        ended, lines = await self._git("rev-parse", "--verify", f"{commit}^{{commit}}")
        if ended.ok:
            return lines[0]
        if any("ambiguous" in line for line in lines):
            raise Reject(
                f"commit {commit} is the beginning of several in {self.name}: write more of its digits"
            )
        raise Reject(
            f"there is no commit {commit} on any branch or tag of {self.name}: was it pushed, or has a "
            "forced push taken it away?"
        )

    async def _fetch(self, *refs: str, alone: bool = False) -> tuple[Ended, list[str]]:
        options = ["--quiet", "--no-tags", "--no-write-commit-graph", *(["--depth=1"] if alone else [])]
        return await self._git("fetch", *options, "--", self._repository, *refs)

    async def _git(self, *arguments: str) -> tuple[Ended, list[str]]:
        said: list[str] = []
        complaints: list[str] = []
        try:
            ended = await run(
                ["git", *self._options, *arguments],
                cwd=self._folder,
                env=self._env,
                limits=self._limits,
                on_line=lambda line, channel: (said if channel == "out" else complaints).append(line),
            )
        except CannotStart as error:
            raise Reject(str(error)) from None
        return ended, said if ended.ok else complaints

    def _failure(self, ended: Ended, lines: Sequence[str]) -> Reject | Retry:
        return explain(self.name, ended, lines, password=self._with_password, key=self._with_key)


def explain(
    name: str, ended: Ended, lines: Sequence[str], *, password: bool = False, key: bool = False
) -> Reject | Retry:
    """Reject or Retry, out of git's own words (in English, which the environment sees to)."""
    if ended.stopped == "time":
        return Retry(f"{name}: git had not finished after {_MOST_SECONDS:g} s")
    if ended.stopped == "disk":
        return Reject(f"{name}: larger than the room that a checkout may take; raise its disk limit")
    text = "\n".join(lines)
    for pattern, words in _REMEDIES:
        if re.search(pattern, text, re.IGNORECASE):
            given = "the one given is refused" if password or key else "none was given"
            return Reject(f"{name}: {words.format(given=given)}")
    if re.search(r"no space left|disk quota", text, re.IGNORECASE):
        return Retry(f"{name}: the worker's disk is full: make room in its data folder")
    told = [line for line in lines if line.startswith(("fatal:", "error:", "remote:", "ssh:"))] or list(lines)
    return Retry(f"{name}: {'; '.join(told[:3])[:300] or f'git ended with {ended.code}'}")


_LOGIN = (
    "the repository wants a login ({given}): pass a Secret with `username` and `password` (or a token as "
    "the password) as `credentials`"
)
_KEY = (
    "the host wants an ssh key ({given}): pass a Secret with `ssh-privatekey` and `known_hosts`, and give "
    "the key access to the repository"
)
_HOST = (
    "the host's ssh key is not known: put its line (`ssh-keyscan HOST`, checked by you) into the Secret's "
    "`known_hosts`"
)
_OWNER = "the folder belongs to another user, and git will not read it: change its owner, or use a URL"
_ABSENT = "there is no such repository, or it is hidden from whoever may not read it ({given})"
_AUTHORITY = "the certificate of the host is not trusted: give the worker its authority by SSL_CERT_FILE"
_REMEDIES = (
    (r"could not read (username|password)|terminal prompts disabled|authentication failed", _LOGIN),
    (r"returned error: 40[13]", _LOGIN),
    (r"permission denied \(.*publickey|no such identity|invalid format.*key|error in libcrypto", _KEY),
    (r"host key verification failed|no .* host key is known", _HOST),
    (r"dubious ownership", _OWNER),
    (r"repository .* not found|does not appear to be a git repository|repository .* does not exist", _ABSENT),
    (r"returned error: 404|did you run git update-server-info|no such file or directory", _ABSENT),
    (r"ssl certificate problem|certificate verify failed|self[- ]signed certificate", _AUTHORITY),
)


def _not_alone(lines: Sequence[str]) -> bool:
    """Whether the server is in order but does not give (or does not have) this single commit."""
    text = "\n".join(lines).lower()
    return any(
        words in text
        for words in ("not our ref", "unadvertised object", "couldn't find remote ref", "dumb http transport")
    )


def _environment(safe: Path) -> dict[str, str]:
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    for name in _PROXIES:
        for spelled in (name, name.upper()):
            if spelled in os.environ:
                passed[spelled] = os.environ[spelled]
    return passed | {
        "HOME": str(safe),
        "LC_ALL": "C.UTF-8",
        "GIT_TERMINAL_PROMPT": "0",
        # ext:: would run a command that the address names.
        "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
    }


def _store_password(repository: str, safe: Path, credentials: Credentials) -> str:
    """A credential helper that knows the password for this host and no other."""
    parts = urlsplit(repository)
    user = quote(credentials.username or "git", safe="")
    secret = quote(credentials.password, safe="")
    host = parts.netloc.rpartition("@")[2]
    _write_private(safe / "credentials", f"{parts.scheme}://{user}:{secret}@{host}\n")
    return f"store --file={shlex.quote(str(safe / 'credentials'))}"


def _ssh_command(safe: Path, credentials: Credentials) -> str:
    words = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=20"]
    if credentials.ssh_private_key:
        # A key whose last line has no end is "invalid format" to ssh.
        _write_private(safe / "key", credentials.ssh_private_key.rstrip() + "\n")
        words += ["-i", str(safe / "key"), "-o", "IdentitiesOnly=yes"]
    if credentials.known_hosts:
        _write_private(safe / "known_hosts", credentials.known_hosts.rstrip() + "\n")
        words += ["-o", f"UserKnownHostsFile={safe / 'known_hosts'}"]
    return shlex.join(words)


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(text, encoding="utf-8")


def _without_password(repository: str) -> str:
    parts = urlsplit(repository)
    if parts.scheme in _SCHEMES and "@" in parts.netloc:
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return repository
