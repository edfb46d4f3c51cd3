"""Images that were built elsewhere, and what is taken of them."""

import hashlib
from collections.abc import AsyncIterator

import aiohttp.web
import pytest

from podium_workers import Reject, Retry
from podium_workers.firmware import importing
from podium_workers.services.artifacts import open_store
from podium_workers.simulator.firmware import build_image
from support.firmware import Run

COMMIT = "9f1c2ab0c3d4e5f60718293a4b5c6d7e8f901234"
IMAGE = build_image(COMMIT)
SHA256 = hashlib.sha256(IMAGE).hexdigest()


class Shelf:
    """Serves files; remembers who asked."""

    def __init__(self) -> None:
        self.files = {"/firmware.bin": IMAGE}
        self.status = 200
        self.told: list[str] = []
        self.url = ""

    async def give(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        self.told.append(request.headers.get("Authorization", ""))
        if request.path == "/moved":
            raise aiohttp.web.HTTPFound("/firmware.bin")
        return aiohttp.web.Response(status=self.status, body=self.files.get(request.path, b""))


@pytest.fixture
async def shelf() -> AsyncIterator[Shelf]:
    shelf = Shelf()
    app = aiohttp.web.Application()
    app.router.add_get("/{name}", shelf.give)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    shelf.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield shelf
    await runner.cleanup()


async def test_an_image_with_the_right_sum_becomes_an_artifact_and_is_fetched_once(
    shelf: Shelf, run: Run
) -> None:
    for _ in range(2):
        found = await run(
            "import_artifact", url=f"{shelf.url}/firmware.bin", sha256=SHA256, environment="s3", build=COMMIT
        )
    (artifact,) = found["artifacts"]
    assert (artifact["sha256"], artifact["commit"], artifact["build"]) == (SHA256, COMMIT, COMMIT)
    assert open_store(run.context.data_dir).get(SHA256) == IMAGE
    assert len(shelf.told) == 1
    rollback = await run("find_rollback_artifact", build=COMMIT[:8])
    assert rollback["sha256"] == SHA256


@pytest.mark.parametrize("wrong", ["", "71be003"])
async def test_an_import_with_wrong_words_is_corrected_by_another(shelf: Shelf, run: Run, wrong: str) -> None:
    given = {"url": f"{shelf.url}/firmware.bin", "sha256": SHA256}
    await run("import_artifact", **given, environment="c3", build=wrong)
    found = await run("import_artifact", **given, environment="s3", build=COMMIT)
    (artifact,) = found["artifacts"]
    assert (artifact["commit"], artifact["environment"]) == (COMMIT, "s3")
    rollback = await run("find_rollback_artifact", build=COMMIT[:8], environment="s3")
    assert rollback["sha256"] == SHA256
    if wrong:
        with pytest.raises(Reject, match="has nothing of build 71be003"):
            await run("find_rollback_artifact", build=wrong)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (IMAGE[:-1] + b"x", "it was replaced, or the release names another file"),
        (b"", "it was replaced"),
    ],
)
async def test_another_file_than_was_named_is_not_taken(
    shelf: Shelf, run: Run, body: bytes, words: str
) -> None:
    shelf.files["/firmware.bin"] = body
    with pytest.raises(Reject, match=words):
        await run("import_artifact", url=f"{shelf.url}/firmware.bin", sha256=SHA256, environment="s3")
    assert open_store(run.context.data_dir).artifacts() == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\x7fELF and so on", "not an image: .*this is the ELF file"),
        (IMAGE[:5000] + b"!" + IMAGE[5001:], "the image is damaged"),
    ],
)
async def test_what_is_no_image_is_not_taken_even_with_the_right_sum(
    shelf: Shelf, run: Run, body: bytes, words: str
) -> None:
    shelf.files["/firmware.bin"] = body
    with pytest.raises(Reject, match=words):
        await run(
            "import_artifact",
            url=f"{shelf.url}/firmware.bin", sha256=hashlib.sha256(body).hexdigest(), environment="s3",
        )  # fmt: skip
    assert open_store(run.context.data_dir).artifacts() == []


@pytest.mark.parametrize(("status", "kind"), [(404, Reject), (401, Reject), (503, Retry), (429, Retry)])
async def test_a_server_that_does_not_give_it(
    shelf: Shelf, run: Run, status: int, kind: type[Exception]
) -> None:
    shelf.status = status
    with pytest.raises(kind, match=f"127.0.0.1:.* answered {status}"):
        await run("import_artifact", url=f"{shelf.url}/firmware.bin", sha256=SHA256, environment="s3")


async def test_a_token_does_not_follow_a_redirection(shelf: Shelf, run: Run) -> None:
    given = {"url": f"{shelf.url}/moved", "sha256": SHA256, "environment": "s3"}
    with pytest.raises(Reject, match="answered 302"):
        await run("import_artifact", **given, token="s3cret")
    assert shelf.told == ["Bearer s3cret"]
    await run("import_artifact", **given)


async def test_what_is_too_large_for_an_image_is_not_read_to_its_end(
    shelf: Shelf, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "LARGEST_IMAGE", 1000)
    with pytest.raises(Reject, match="is larger than"):
        await run("import_artifact", url=f"{shelf.url}/firmware.bin", sha256=SHA256, environment="s3")


@pytest.mark.parametrize(
    ("url", "sha256", "kind", "words"),
    [
        ("firmware.bin", SHA256, Reject, "url: not an address"),
        ("ftp://host/x", SHA256, Reject, "url: not an address"),
        ("http://127.0.0.1:9/x", SHA256, Retry, "127.0.0.1:9 cannot be reached"),
        ("http://127.0.0.1:9/x", "", Reject, "an image without a known sum is not taken"),
    ],
)
async def test_what_cannot_be_fetched_says_so(
    run: Run, url: str, sha256: str, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        await run("import_artifact", url=url, sha256=sha256, environment="s3")
