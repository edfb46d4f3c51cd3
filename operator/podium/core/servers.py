"""What a Conductor server can do: from what it answers, or else from its version.

Older servers lack what Podium likes to use. Podium then takes a way that is slower, and says so.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from podium.ports import ServerFacts

_VERSION = re.compile(r"v?(\d{1,4}(?:\.\d{1,4}){1,3})(?:[.+-][\w.+-]{0,40})?")
# What drivers call their databases. A server can say anything, and a status is read by many.
_STORES = ("SQLite", "PostgreSQL", "MySQL", "MariaDB", "H2", "Oracle", "Microsoft SQL Server")


@dataclass(frozen=True)
class Feature:
    """Something that not every server has."""

    name: str
    """As in a connection's `status.features`."""
    since: tuple[int, ...] | None
    """The first release that has it; None if that is not known."""
    without: str
    """What is slower or absent without it: as in `status.missing`."""


BULK_READ = Feature(
    "bulk-read",
    (3, 21, 10),
    "reading many runs in one request: they are read one by one, which is slower and takes more requests",
)
DEFINITION_VERSIONS = Feature(
    "definition-versions",
    (3, 30, 0),
    "the versions of one definition: they are looked up in the list of all definitions",
)
DEFINITION_STAMPS = Feature(
    "definition-stamps",
    None,
    "when a definition was changed, in the list of their names: each look for drift reads all definitions",
)
SEARCH = Feature(
    "search",
    (3, 21, 0),
    "a search of runs by the time of their change: without a notice, a change is seen after up to a minute "
    "for each thousand active runs",
)
POLLERS = Feature(
    "pollers",
    (3, 21, 0),
    "who polls which task type: a task type without a worker cannot be told",
)
FEATURES = (BULK_READ, DEFINITION_VERSIONS, DEFINITION_STAMPS, SEARCH, POLLERS)


@dataclass(frozen=True)
class Abilities:
    """What a server has and lacks; what is in neither is not known, and used as if it were there."""

    has: frozenset[Feature]
    lacks: frozenset[Feature]


def detect(answers: Mapping[Feature, bool], version: str) -> Abilities:
    """`answers`: what the server showed itself. Where it showed nothing, its version decides."""
    found = {feature: _decide(feature, answers, parse_version(version)) for feature in FEATURES}
    return Abilities(
        has=frozenset(feature for feature, there in found.items() if there),
        lacks=frozenset(feature for feature, there in found.items() if there is False),
    )


def tell(abilities: Abilities, version: str, store: str, dropped: Iterable[str] = ()) -> ServerFacts:
    """The same for people. `dropped`: settings that the server was seen not to keep."""
    lost = ", ".join(sorted(dropped))
    return ServerFacts(
        version=version if parse_version(version) else "",
        store=store if store in _STORES else "",
        features=tuple(feature.name for feature in FEATURES if feature in abilities.has),
        missing=(
            *(feature.without for feature in FEATURES if feature in abilities.lacks),
            *([f"settings that it drops: a Workflow that has them is refused: {lost}"[:500]] if lost else []),
        ),
    )


def parse_version(text: str) -> tuple[int, ...]:
    """`3.32.3`, `v3.30.0-rc1` → their numbers; () if it is no version."""
    match = _VERSION.fullmatch(text)
    return tuple(int(number) for number in match[1].split(".")) if match else ()


def _decide(feature: Feature, answers: Mapping[Feature, bool], version: tuple[int, ...]) -> bool | None:
    if feature in answers:
        return answers[feature]
    if feature.since is None or not version:
        return None
    return version >= feature.since
