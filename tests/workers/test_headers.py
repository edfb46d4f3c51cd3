"""A gateway before Conductor that wants headers: the worker sends those of a folder, changed ones too."""

from pathlib import Path

import pytest

from podium_workers.runtime.headers import Headers
from support.guarded_proxy import GuardedProxy

pytestmark = pytest.mark.slow


def test_what_kubernetes_keeps_in_the_folder_is_no_header(tmp_path: Path) -> None:
    """As it mounts a Secret: links into a folder that a link names."""
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "Authorization").write_text("Bearer one\n")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "Authorization").symlink_to("..data/Authorization")
    assert Headers(tmp_path).now() == {"Authorization": "Bearer one"}


def test_what_was_read_stays_while_the_folder_is_away(tmp_path: Path) -> None:
    folder = tmp_path / "headers"
    folder.mkdir()
    (folder / "X-Team").write_text("lights")
    headers = Headers(folder)
    assert headers.now() == {"X-Team": "lights"}
    folder.rename(tmp_path / "away")
    headers.forget()
    assert headers.now() == {"X-Team": "lights"}


async def test_a_worker_comes_through_the_gateway_also_with_changed_headers(desk, tmp_path):
    folder = tmp_path / "headers"
    folder.mkdir()
    (folder / "X-Gate-Pass").write_text("one\n")
    async with GuardedProxy(desk.url) as door:
        door.wanted_headers = {"X-Gate-Pass": "one"}
        worker = await desk.worker("--headers-dir", str(folder), url=door.url)
        assert (await desk.ended(await desk.start("probe_add", {"a": 2})))["status"] == "COMPLETED"
        assert door.refused() == 0
        door.wanted_headers = {"X-Gate-Pass": "two"}
        (folder / "X-Gate-Pass").write_text("two\n")
        assert (await desk.ended(await desk.start("probe_add", {"a": 3})))["status"] == "COMPLETED"
        assert "two" not in worker.said()
