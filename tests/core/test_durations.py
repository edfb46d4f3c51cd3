"""Durations and times as people and Kubernetes write them."""

import contextlib
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from podium.api.v1alpha1.meta import DURATION_PATTERN
from podium.core.durations import (
    format_precise_time,
    format_time,
    from_milliseconds,
    parse_duration,
    parse_time,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("250ms", 0.25),
        ("1m1ms", 60.001),
        ("0s", 0),
    ],
)
def test_a_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "90", "s", "90 s", "-1s", "1d", "1h 30m", "1hx", "1.s", ".5s", "90S"])
def test_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as 90s, 10m or 1h30m"):
        parse_duration(text)


@given(st.from_regex(DURATION_PATTERN, fullmatch=True).filter(lambda text: text.isascii() and len(text) < 40))
def test_whatever_the_api_server_lets_in_is_understood(text: str) -> None:
    assert parse_duration(text) >= timedelta(0)


def test_longer_than_a_life_means_never_and_can_be_added_to_a_date() -> None:
    assert datetime(2026, 1, 1, tzinfo=UTC) + parse_duration("9" * 60 + "h") > datetime(
        2100, 1, 1, tzinfo=UTC
    )


@given(st.text("0123456789.hms ", max_size=8))
def test_nothing_else_is(text: str) -> None:
    if re.fullmatch(DURATION_PATTERN.strip("^$"), text):
        parse_duration(text)
    else:
        with pytest.raises(ValueError, match="is not a duration"):
            parse_duration(text)


moments = st.datetimes(
    min_value=datetime(1971, 1, 1),  # noqa: DTZ001
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
)


@given(moments)
def test_times_are_in_utc_and_come_back(moment: datetime) -> None:
    assert parse_time(format_precise_time(moment)) == moment
    assert parse_time(format_time(moment)) == moment.replace(microsecond=0)
    assert format_time(moment).endswith("Z")


@given(moments, moments)
def test_precise_times_keep_their_order_as_text(one: datetime, other: datetime) -> None:
    assert (format_precise_time(one) < format_precise_time(other)) == (one < other)


@pytest.mark.parametrize(
    "text", ["2026-01-31t12:00:00z", "2026-01-31T12:00:00Z", "2026-01-31T13:00:00.0+01:00"]
)
def test_times_as_rfc_3339_has_them(text: str) -> None:
    assert parse_time(text) == datetime(2026, 1, 31, 12, tzinfo=UTC)


@given(st.text("0123456789-+:.TtZzß ", max_size=30) | st.text(max_size=10))
@example("2026-01-31T12:00:00+99:00")
@example("0000-01-01T00:00:00Z")
def test_whatever_else_is_written_is_a_time_or_an_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(parse_time(text), datetime)


def test_zero_milliseconds_mean_not_yet() -> None:
    assert from_milliseconds(0) is None
    assert from_milliseconds(1_500) == datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)
