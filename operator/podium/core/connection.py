"""What to do next about a ConductorConnection: read its Secrets, have a client, say what it found."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from podium.api.v1alpha1.conductor_connection import Auth, ConductorConnectionSpec
from podium.core import effects as do
from podium.core.conditions import Word, ready, reconciling, stalled, write_conditions
from podium.core.effects import ConnectionEffect, Note, Report, Unknown
from podium.core.objects import ConductorConnection, conditions_of
from podium.ports import Access, Credentials, Json, ServerFacts

# Secrets are not watched: who may watch them may read them all.
_LOOK_AT_SECRETS = timedelta(seconds=60)
_MENDED_SOON = timedelta(seconds=10)
_WAIT_FOR_CONDUCTOR = timedelta(seconds=5)
_MOST_FEATURES = 16
# The client's own business; another value would break every request.
_OURS = frozenset({"connection", "content-length", "content-type", "transfer-encoding", "upgrade"})
# What no header may carry: line ends and other control characters.
_UNPRINTABLE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")

SecretSeen = Mapping[str, bytes] | Unknown | Literal["Absent"]


@dataclass(frozen=True)
class Seen:
    """Everything known about one ConductorConnection at one moment. None: not asked yet."""

    connection: ConductorConnection
    secrets: Mapping[str, SecretSeen] = field(default_factory=dict, repr=False)
    """Name → its data, as far as they were read in this pass."""
    dialed: tuple[Access, str] | Unknown | None = field(default=None, repr=False)
    """The access and isolation of the client that there is, or why there is none."""
    failure: Unknown | None = None
    """Why there is no client, if one could not be made in this pass."""
    facts: ServerFacts | Unknown | None = None
    """What the server said in this pass."""


def decide_connection(seen: Seen) -> ConnectionEffect:
    """The next effect, or the Report that ends this pass."""
    connection = seen.connection
    if connection.spec is None:
        return _without(seen, Unknown(connection.spec_error, "InvalidSpec", stalled=True))
    for name in secrets_of(connection.spec):
        match seen.secrets.get(name):
            case None:
                return do.ReadSecret(name)
            case Unknown() as unknown:
                # Nothing says that they changed: what there is goes on.
                return _report(seen, unknown) if isinstance(seen.dialed, tuple) else _without(seen, unknown)
            case "Absent":
                return _without(seen, Unknown(f"there is no Secret {name} here", "SecretNotFound"))
            case _:
                pass
    access = build_access(connection.spec, seen.secrets)
    if isinstance(access, Unknown):
        return _without(seen, access)
    wanted = (access, connection.spec.isolation)
    if seen.failure is not None:
        return _without(seen, seen.failure)
    if seen.dialed != wanted:
        return do.Dial(*wanted)
    if seen.facts is None:
        return do.Describe()
    return _report(seen, seen.facts)


def build_access(spec: ConductorConnectionSpec, secrets: Mapping[str, SecretSeen]) -> Access | Unknown:
    """Spec and Secrets → how the server is reached, or what is wrong with a Secret."""
    try:
        return Access(
            url=spec.url.rstrip("/"),
            ca=_text(secrets, spec.ca_secret.name, spec.ca_secret.key) if spec.ca_secret else "",
            requests_per_second=spec.budget.requests_per_second,
            credentials=_credentials(spec, secrets),
        )
    except _InvalidSecret as error:
        return Unknown(str(error), "InvalidSecret", stalled=True)


def report_conditions(seen: Seen, report: Report, now: datetime) -> Json:
    """The status of a report, with its conditions and generation: what is written."""
    status = dict(report.status or {})
    status["observedGeneration"] = seen.connection.generation
    status["conditions"] = write_conditions(
        report.words, conditions_of(seen.connection), generation=seen.connection.generation, now=now
    )
    return status


# --- secrets ----------------------------------------------------------------------------------------


class _InvalidSecret(Exception):
    """A Secret is there and does not have what it should; the message shows no value."""


def secrets_of(spec: ConductorConnectionSpec) -> list[str]:
    """The names of the Secrets that `build_access` wants."""
    auth = spec.auth or Auth()
    return [secret.name for secret in (spec.ca_secret, auth.secret, auth.headers_secret) if secret]


def _credentials(spec: ConductorConnectionSpec, secrets: Mapping[str, SecretSeen]) -> Credentials:
    if spec.auth is None:
        return Credentials()
    if (key := spec.auth.secret) is not None:
        return Credentials(
            key_id=_text(secrets, key.name, key.key_id), key_secret=_text(secrets, key.name, key.key_secret)
        )
    assert spec.auth.headers_secret is not None
    name = spec.auth.headers_secret.name
    data = secrets[name]
    assert isinstance(data, Mapping)
    if not data:
        raise _InvalidSecret(f"Secret {name} is empty: each of its keys is a header")
    headers = {key: _text(secrets, name, key) for key in data}
    if ours := sorted(key for key in headers if key.lower() in _OURS):
        raise _InvalidSecret(f"Secret {name}: the header {ours[0]} is Podium's own: take it out")
    if bad := sorted(key for key, value in headers.items() if _UNPRINTABLE.search(value)):
        raise _InvalidSecret(
            f"Secret {name}: the value of {bad[0]} cannot be a header: has it several lines?"
        )
    return Credentials(headers=headers)


def _text(secrets: Mapping[str, SecretSeen], name: str, key: str) -> str:
    data = secrets[name]
    assert isinstance(data, Mapping)
    if key not in data:
        raise _InvalidSecret(f"Secret {name} has no key {key}")
    try:
        # What an editor or `echo` leaves at the end is never meant.
        text = data[key].decode("utf-8").strip()
    except UnicodeDecodeError:
        raise _InvalidSecret(f"Secret {name}: {key} is not text") from None
    if not text:
        raise _InvalidSecret(f"Secret {name}: {key} is empty")
    return text


# --- words ------------------------------------------------------------------------------------------


def _without(seen: Seen, problem: Unknown) -> ConnectionEffect:
    """No client from now on; then it is said why."""
    return _report(seen, problem) if seen.dialed == problem else do.HangUp(problem)


def _report(seen: Seen, found: ServerFacts | Unknown) -> Report:
    status: Json = {
        part: value
        for part, value in seen.connection.status.items()
        if part in ("version", "store", "features", "missing")
    }
    if isinstance(found, Unknown):
        words = (stalled if found.stalled else reconciling)(found.reason, found.error)
        again = _WAIT_FOR_CONDUCTOR if found.reason == "ConductorUnavailable" else _MENDED_SOON
        return Report(status, words, _news(seen, words[0]), again)
    status = {
        part: value
        for part, value in {
            "version": found.version,
            "store": found.store,
            "features": list(found.features[:_MOST_FEATURES]),
            "missing": list(found.missing[:_MOST_FEATURES]),
        }.items()
        if value
    }
    assert seen.connection.spec is not None
    version = f"Conductor {found.version}" if found.version else "a Conductor of unknown version"
    words = ready("Connected", f"{version} at {seen.connection.spec.url}")
    return Report(status, words, _news(seen, words[0]), _LOOK_AT_SECRETS)


def _news(seen: Seen, word: Word) -> tuple[Note, ...]:
    for old in conditions_of(seen.connection):
        if (old["type"], old["status"], old["reason"]) == (word.type, word.status, word.reason):
            return ()
    return (Note("Normal" if word.status == "True" else "Warning", word.reason, word.message),)
