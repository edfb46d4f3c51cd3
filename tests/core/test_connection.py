"""A ConductorConnection: what is asked for in which order, and what people are told."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from podium.core import effects as do
from podium.core.connection import Seen, build_access, decide_connection, report_conditions
from podium.core.effects import Report, Unknown
from podium.core.objects import project_connection
from podium.ports import Access, Credentials, Json, ServerFacts

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEYED: Json = {"auth": {"secret": {"name": "conductor"}}}
HEADERS: Json = {"auth": {"headersSecret": {"name": "headers"}}}
KEY = {"key": b"me", "secret": b"s3cret\n"}
AWAY = Unknown("no connection to Conductor")


def seen(spec: Json | None = None, **more: Any) -> Seen:
    body = {
        "metadata": {
            "name": "team",
            "namespace": "studio",
            "uid": "u",
            "generation": 2,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"url": "https://conductor.example/api", **(spec or {})},
        "status": more.pop("status", {}),
    }
    return Seen(project_connection(body), **more)


def access_of(spec: Json, **secrets: dict[str, bytes]) -> Access | Unknown:
    connection = seen(spec).connection
    assert connection.spec is not None
    return build_access(connection.spec, secrets)


def report(given: Seen) -> Report:
    found = decide_connection(given)
    assert isinstance(found, Report)
    return found


def ready(found: Report) -> tuple[str, str, str, bool]:
    [word] = [word for word in found.words if word.type == "Ready"]
    return word.status, word.reason, word.message, any(word.type == "Stalled" for word in found.words)


def test_secrets_first_then_a_client_then_the_server_then_the_report() -> None:
    given = seen(KEYED)
    assert decide_connection(given) == do.ReadSecret("conductor")
    given = replace(given, secrets={"conductor": KEY})
    dial = decide_connection(given)
    access = Access("https://conductor.example/api", credentials=Credentials({}, "me", "s3cret"))
    assert dial == do.Dial(access, "Namespace")
    given = replace(given, dialed=(access, "Namespace"))
    assert decide_connection(given) == do.Describe()
    found = report(replace(given, facts=ServerFacts("3.32.3", "sqlite", ("Scheduler",))))
    assert found.status == {"version": "3.32.3", "store": "sqlite", "features": ["Scheduler"]}
    assert ready(found) == ("True", "Connected", "Conductor 3.32.3 at https://conductor.example/api", False)


def test_an_unchanged_connection_is_not_dialed_again_and_a_changed_one_is() -> None:
    access = access_of({})
    assert isinstance(access, Access)
    assert decide_connection(seen(dialed=(access, "Namespace"))) == do.Describe()
    for change in (
        {"url": "https://other.example/api"},
        {"isolation": "Shared"},
        {"budget": {"requestsPerSecond": 3}},
    ):
        assert isinstance(decide_connection(seen(change, dialed=(access, "Namespace"))), do.Dial)


PROBLEMS: dict[str, tuple[Json, dict[str, Any], tuple[str, str, bool]]] = {
    "no secret": (
        KEYED,
        {"conductor": "Absent"},
        ("SecretNotFound", "there is no Secret conductor here", False),
    ),
    "not allowed to read it": (
        KEYED,
        {"conductor": Unknown("403", "SecretUnreadable")},
        ("SecretUnreadable", "403", False),
    ),
    "no such key in it": (
        KEYED,
        {"conductor": {"key": b"me"}},
        ("InvalidSecret", "Secret conductor has no key secret", True),
    ),
    "nothing under the key": (
        KEYED,
        {"conductor": {"key": b" \n", "secret": b"x"}},
        ("InvalidSecret", "Secret conductor: key is empty", True),
    ),
    "no text": (
        KEYED,
        {"conductor": {"key": b"\xff\xfe", "secret": b"x"}},
        ("InvalidSecret", "Secret conductor: key is not text", True),
    ),
    "no headers": (
        HEADERS,
        {"headers": {}},
        ("InvalidSecret", "Secret headers is empty: each of its keys is a header", True),
    ),
    "a header of several lines": (
        HEADERS,
        {"headers": {"X-A": b"one\r\nX-B: two"}},
        ("InvalidSecret", "Secret headers: the value of X-A cannot be a header: has it several lines?", True),
    ),
    "a header that is ours": (
        HEADERS,
        {"headers": {"Content-Length": b"0"}},
        ("InvalidSecret", "Secret headers: the header Content-Length is Podium's own: take it out", True),
    ),
    "a field that does not parse": (
        {"isolation": "None"},
        {},
        ("InvalidSpec", "spec.isolation: Input should be 'Namespace' or 'Shared'", True),
    ),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_what_is_wrong_is_said_and_no_client_is_kept(case: str) -> None:
    spec, secrets, (reason, message, is_stalled) = PROBLEMS[case]
    given = seen(spec, secrets=secrets)
    hang_up = decide_connection(given)
    assert isinstance(hang_up, do.HangUp)
    found = report(replace(given, dialed=hang_up.problem))
    assert ready(found) == ("False", reason, message, is_stalled)
    assert found.requeue_after is not None
    assert "s3cret" not in repr(found)


def test_a_secret_that_cannot_be_read_now_ends_nothing() -> None:
    access = access_of(KEYED, conductor=KEY)
    assert isinstance(access, Access)
    given = seen(KEYED, dialed=(access, "Namespace"), secrets={"conductor": Unknown("?", "SecretUnreadable")})
    assert ready(report(given))[1] == "SecretUnreadable"


def test_a_client_that_cannot_be_made_is_tried_again_with_the_next_pass() -> None:
    failure = Unknown("spec.caSecret: these are no certificates", "InvalidSecret", stalled=True)
    assert decide_connection(seen(failure=failure)) == do.HangUp(failure)
    assert ready(report(seen(failure=failure, dialed=failure)))[1] == "InvalidSecret"
    assert isinstance(decide_connection(seen(dialed=failure)), do.Dial)


def test_a_server_that_is_away_keeps_what_was_known_of_it() -> None:
    access = access_of({})
    assert isinstance(access, Access)
    given = seen(dialed=(access, "Namespace"), facts=AWAY, status={"version": "3.32.3"})
    found = report(given)
    assert found.status == {"version": "3.32.3"}
    assert ready(found) == ("False", "ConductorUnavailable", AWAY.error, False)


def test_the_same_state_is_no_news_and_no_write() -> None:
    access = access_of({})
    assert isinstance(access, Access)
    given = seen(dialed=(access, "Namespace"), facts=ServerFacts("3.32.3"))
    first = report(given)
    assert [note.reason for note in first.notes] == ["Connected"]
    status = report_conditions(given, first, NOW)
    again = seen(dialed=(access, "Namespace"), facts=ServerFacts("3.32.3"), status=status)
    assert report(again).notes == ()
    assert report_conditions(again, report(again), datetime(2026, 1, 2, tzinfo=UTC)) == status


def test_no_secret_is_shown_by_what_holds_it() -> None:
    access = access_of(HEADERS | {}, headers={"X-Key": b"s3cret"})
    given = seen(KEYED, secrets={"conductor": KEY}, dialed=(access, "Namespace"))
    assert "s3cret" not in repr(access) + repr(given) + repr(access_of(KEYED, conductor=KEY))
