"""Conditions: the transition time moves with the status only; messages are bounded."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.core.conditions import Word, json_bytes, ready, reconciling, shorten, stalled, write_conditions

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)

word_lists = st.lists(
    st.builds(
        Word,
        st.sampled_from(["Ready", "Reconciling", "Stalled", "Succeeded"]),
        st.sampled_from(["True", "False", "Unknown"]),
        st.just("Because"),
        st.text(max_size=400),
    ),
    unique_by=lambda word: word.type,
)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (ready("Registered"), {"Ready": "True"}),
        (reconciling("Starting"), {"Ready": "False", "Reconciling": "True"}),
        (stalled("InvalidSpec"), {"Ready": "False", "Stalled": "True"}),
    ],
)
def test_what_kstatus_reads(words: tuple[Word, ...], wanted: dict[str, str]) -> None:
    assert {word.type: word.status for word in words} == wanted


@given(word_lists, word_lists)
def test_the_transition_time_moves_only_with_the_status(before: list[Word], after: list[Word]) -> None:
    first = write_conditions(before, [], generation=1, now=NOW)
    second = write_conditions(after, first, generation=2, now=LATER)
    statuses = {item["type"]: item["status"] for item in first}
    for item in second:
        moved = statuses.get(item["type"]) != item["status"]
        assert item["lastTransitionTime"] == ("2026-01-01T00:05:00Z" if moved else "2026-01-01T00:00:00Z")
        assert item["observedGeneration"] == 2
    assert [item["type"] for item in second] == [word.type for word in after]


@given(word_lists)
def test_the_same_words_again_change_nothing(words: list[Word]) -> None:
    first = write_conditions(words, [], generation=1, now=NOW)
    assert write_conditions(words, first, generation=1, now=LATER) == first


@given(st.text(max_size=400), st.integers(3, 300))
def test_what_is_cut_says_so(text: str, longest: int) -> None:
    short = shorten(text, longest)
    assert len(short) <= longest
    assert json_bytes(short) <= 2 * longest + 2
    if short != text:
        assert short.endswith("…")
        assert text.startswith(short[:-1])


def test_ordinary_words_are_not_cut() -> None:
    assert shorten("ä" * 256) == "ä" * 256
    assert len(shorten("x" * 300)) == 256
