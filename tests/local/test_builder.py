"""Which engine builds the images, and on which base."""

from pathlib import Path

import pytest

from podium.local import LocalError, MissingPrerequisites
from podium.local.cache import Cache
from podium.local.images import Builder, build_images, choose_builder
from podium.local.processes import Processes


@pytest.mark.parametrize(
    ("engine", "buildah", "mmdebstrap", "base", "chosen"),
    [
        ("docker", True, True, None, Builder("docker", "python:3.12-slim")),
        ("podman", False, False, "ours:1", Builder("podman", "ours:1")),
        (None, True, True, None, Builder("buildah", None)),
        (None, True, False, None, Builder("buildah", "python:3.12-slim")),
        (None, True, True, "ours:1", Builder("buildah", "ours:1")),
    ],
)
def test_an_engine_that_answers_goes_first(
    engine: str | None, buildah: bool, mmdebstrap: bool, base: str | None, chosen: Builder
) -> None:
    assert choose_builder(engine, buildah, mmdebstrap, base) == chosen


def test_without_any_the_remedy_is_named() -> None:
    with pytest.raises(MissingPrerequisites, match="start docker or podman, or install Debian's buildah"):
        choose_builder(None, False, True, None)


def test_outside_a_checkout_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="images are built from a checkout"):
        build_images(tmp_path, Builder("buildah", None), Cache(tmp_path), Processes())
