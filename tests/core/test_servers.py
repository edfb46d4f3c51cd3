"""What is concluded from what a server answers, and from its version where it answers nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.core.definitions import used_settings
from podium.core.servers import (
    BULK_READ,
    DEFINITION_STAMPS,
    DEFINITION_VERSIONS,
    FEATURES,
    SEARCH,
    Abilities,
    detect,
    parse_version,
    tell,
)

ANSWERS = st.dictionaries(st.sampled_from(FEATURES), st.booleans())
VERSIONS = st.sampled_from(["", "3.21.0", "3.21.14", "3.30.0", "3.32.3", "rubbish"])


@given(answers=ANSWERS, version=VERSIONS)
def test_what_was_seen_wins_over_the_version(answers: dict, version: str) -> None:
    found = detect(answers, version)
    assert not found.has & found.lacks
    for feature, there in answers.items():
        assert feature in (found.has if there else found.lacks)


@given(answers=ANSWERS)
def test_without_a_version_nothing_is_guessed(answers: dict) -> None:
    found = detect(answers, "")
    assert found.has | found.lacks == set(answers)


@pytest.mark.parametrize(
    ("version", "lacks"),
    [
        ("3.21.9", {BULK_READ, DEFINITION_VERSIONS}),
        ("3.21.14", {DEFINITION_VERSIONS}),
        ("v3.29.9-rc1", {DEFINITION_VERSIONS}),
        ("3.30.0", set()),
        ("3.32.3", set()),
        ("4.0", set()),
    ],
)
def test_the_first_release_of_each_decides_where_nothing_was_seen(version: str, lacks: set) -> None:
    assert detect({}, version).lacks == lacks


@given(answers=ANSWERS, version=VERSIONS, dropped=st.sets(st.text(max_size=600), max_size=4))
def test_what_is_missing_fits_into_a_status(answers: dict, version: str, dropped: set[str]) -> None:
    facts = tell(detect(answers, version), version, "SQLite", dropped)
    assert len(facts.features) + len(facts.missing) <= 16
    assert all(0 < len(words) <= 500 for words in facts.missing)
    assert set(facts.features) == {feature.name for feature in detect(answers, version).has}


@pytest.mark.parametrize(
    "said", ["<html>", "3.32.3\nsecret", "3", "1.2.3 token=abc", "9" * 40, "3.1-" + "x" * 99]
)
def test_only_a_version_or_a_store_comes_into_a_status(said: str) -> None:
    """Whoever names a URL must not read there what some other server says."""
    facts = tell(Abilities(frozenset(), frozenset()), said, said)
    assert (facts.version, facts.store) == ("", "")


def test_versions_of_all_kinds_are_read() -> None:
    assert parse_version("3.32.3") == (3, 32, 3)
    assert parse_version("v3.30.0-rc20") == (3, 30, 0)
    assert parse_version("3.22.0.1+build.7") == (3, 22, 0, 1)


def test_the_settings_of_a_definition_are_known_at_any_depth() -> None:
    deep = {
        "name": "n",
        "maskedFields": ["x"],
        "metadata": {},
        "tasks": [
            {
                "name": "f",
                "type": "FORK_JOIN",
                "forkTasks": [[{"name": "t", "type": "SIMPLE", "permissive": True, "optional": False}]],
            },
            {
                "name": "s",
                "type": "SWITCH",
                "decisionCases": {
                    "a": [{"name": "u", "taskDefinition": {"retryCount": 9, "backoffJitterMs": 0}}]
                },
            },
        ],
    }
    used = used_settings(deep)
    assert {"maskedFields", "tasks.permissive", "taskDefinition.retryCount"} <= used
    assert not {"metadata", "tasks.optional", "taskDefinition.backoffJitterMs"} & used


def test_the_words_say_what_is_slower() -> None:
    words = tell(detect({SEARCH: False, DEFINITION_STAMPS: False}, "3.32.3"), "3.32.3", "SQLite").missing
    assert ["drift" in words[0], "notice" in words[1]] == [True, True]
