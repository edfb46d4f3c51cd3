"""The artifact store, in a folder and in a bucket: nothing lost, nothing false, nothing half."""

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from podium_workers import Reject, Retry
from podium_workers.services import s3, shelves
from podium_workers.services.artifacts import ArtifactStore, Damaged, NotStored, open_store
from podium_workers.services.s3 import S3Shelf
from podium_workers.services.shelves import FolderShelf, Item, Shelf, StoreFull

DAY = 86_400.0
IMAGE = b"\xe9 an image"
SHA = hashlib.sha256(IMAGE).hexdigest()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    name = f"b{abs(hash(request.node.nodeid))}"
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=name)
    return name


@pytest.fixture(params=["folder", "s3"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    if request.param == "folder":
        return FolderShelf(tmp_path / "store")
    return S3Shelf.at(f"s3://{request.getfixturevalue('bucket')}/some/prefix")


class Clock:
    """Time passes as the test says, from now on."""

    def __init__(self) -> None:
        self.later = 0.0

    def __call__(self) -> float:
        return time.time() + self.later


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(shelf: Shelf, clock: Clock) -> ArtifactStore:
    return ArtifactStore(shelf, clock)


def stored(store: ArtifactStore, data: bytes, **metadata: Any) -> str:
    sha256 = store.put(data)
    store.put_artifact(sha256, {"environment": "c3", "repository": "r", "path": "", **metadata})
    return sha256


def test_what_is_stored_is_read_again_by_its_sha256(store: ArtifactStore) -> None:
    assert store.put(IMAGE) == SHA
    assert store.put(IMAGE) == SHA
    assert store.get(SHA) == IMAGE


def test_what_is_not_there_says_what_to_do(store: ArtifactStore) -> None:
    with pytest.raises(NotStored, match=r"pruned or lost; build its commit again, or restore the store \("):
        store.get(SHA)
    with pytest.raises(NotStored, match="knows no artifact"):
        store.artifact(SHA)
    with pytest.raises(Reject, match="is no SHA-256"):
        store.get("../../etc/passwd")
    assert not store.has(SHA)


@pytest.mark.parametrize("damage", [b"", IMAGE[:-1], IMAGE + b"x", b"x" + IMAGE[1:]])
def test_what_is_damaged_is_never_given_out_and_can_be_stored_again(
    store: ArtifactStore, shelf: Shelf, damage: bytes
) -> None:
    store.put(IMAGE)
    shelf.write(f"blobs/{SHA}", damage)
    with pytest.raises(Damaged, match=r"is damaged .* it is not used"):
        store.get(SHA)
    with pytest.raises(Damaged):
        store.put_artifact(SHA, {})
    with pytest.raises(Damaged):
        store.pin(SHA, "device/a/b")
    store.put(IMAGE)
    assert store.get(SHA) == IMAGE


def test_an_artifact_is_what_was_said_of_it_last(store: ArtifactStore, clock: Clock) -> None:
    first = store.put_artifact(store.put(IMAGE), {"commit": "one", "repository": "r", "path": ""})
    assert first["path"] == ""
    clock.later = 1.0
    again = store.put_artifact(SHA, {"commit": "two", "repository": "", "path": None})
    assert again == store.artifact(SHA)
    assert again == {**first, "commit": "two", "storedAt": again["storedAt"]}
    assert first["storedAt"].endswith("Z")
    assert first["storedAt"] < again["storedAt"]


def test_a_damaged_record_is_named_and_can_be_written_again(store: ArtifactStore, shelf: Shelf) -> None:
    stored(store, IMAGE)
    shelf.write(f"artifacts/{SHA}.json", b"{half a rec")
    with pytest.raises(Damaged, match=rf"artifacts/{SHA}.json is damaged: remove it"):
        store.artifact(SHA)
    with pytest.raises(Damaged):
        store.prune([], 1)
    assert store.put_artifact(SHA, {"commit": "two"})["commit"] == "two"


def test_a_build_is_known_only_while_all_its_files_are_whole(store: ArtifactStore, shelf: Shelf) -> None:
    key = "ab" * 20
    assert store.build(key) is None
    store.put_build(key, {"files": {"image": {"sha256": store.put(IMAGE)}}})
    assert store.build(key) is not None
    shelf.write(f"blobs/{SHA}", b"")
    assert store.build(key) is None
    shelf.remove(f"blobs/{SHA}")
    assert store.build(key) is None


def test_a_prune_keeps_the_newest_the_pinned_the_named_and_the_young(
    store: ArtifactStore, clock: Clock
) -> None:
    all_of_them = [stored(store, bytes([number])) for number in range(6)]
    other = stored(store, b"other", environment="s3")
    store.pin(all_of_them[1], "device/lights/k1-07")
    assert store.prune([], 1) == []  # all are young
    clock.later = 2 * DAY
    gone = store.prune([all_of_them[2]], 2)
    assert set(gone) == {all_of_them[0], all_of_them[3]}
    assert {record["sha256"] for record in store.artifacts()} == {
        other, *(all_of_them[number] for number in (1, 2, 4, 5))
    }  # fmt: skip
    for sha256 in gone:
        with pytest.raises(NotStored):
            store.get(sha256)
    assert store.get(all_of_them[1]) == b"\x01"
    store.unpin(all_of_them[1], "device/lights/k1-07")
    assert store.prune([], 2) == [all_of_them[2], all_of_them[1]]


def age(shelf: Shelf, days: float) -> None:
    """Makes all that is there older; the bucket's service has it in memory, and in this process."""
    if isinstance(shelf, FolderShelf):
        for path in Path(str(shelf)).rglob("*"):
            at = path.stat().st_mtime - days * DAY
            os.utime(path, (at, at))
        return
    bucket = urlsplit(str(shelf)).netloc
    for key in s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[bucket].keys.values():
        key.last_modified -= timedelta(days=days)


def test_what_is_stored_or_built_again_is_young_again(store: ArtifactStore, shelf: Shelf) -> None:
    """An old commit is released again, and its image waits for an approval while somebody prunes."""
    key, log = "ab" * 20, store.put(b"its log")
    old = stored(store, IMAGE)
    store.put_build(key, {"files": {"image": {"sha256": old}, "log": {"sha256": log}}})
    newer = [stored(store, bytes([number])) for number in range(3)]
    age(shelf, 30)
    # It is taken from the store, and goes through its gates.
    assert store.build(key) is not None
    assert set(store.prune([], 2)) == {old, newer[0]}
    assert store.get(old) == IMAGE
    assert store.get(log) == b"its log"
    stored(store, store.get(old))
    assert store.artifacts()[0]["sha256"] == old
    age(shelf, 0.9)
    assert store.prune([], 1) == [newer[2], newer[1]]
    age(shelf, 30)
    # What was used last is the newest.
    assert store.prune([], 1) == []
    assert store.get(old) == IMAGE


def test_a_pin_that_is_made_while_a_prune_reads_counts(
    store: ArtifactStore, shelf: Shelf, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, dropped = stored(store, b"sent"), stored(store, b"dropped")
    clock.later = 2 * DAY
    listed = type(shelf).list

    def slow(self: Shelf, prefix: str) -> Iterator[Item]:
        yield from listed(self, prefix)
        if prefix == "artifacts/":
            ArtifactStore(self).hold(sent, "device/lights/k1-07", runs=False)

    monkeypatch.setattr(type(shelf), "list", slow)
    assert store.prune([], 0) == [dropped]
    assert store.get(sent) == b"sent"
    assert store.artifact(sent)["environment"] == "c3"


def test_a_prune_keeps_the_files_of_what_it_keeps(store: ArtifactStore, clock: Clock) -> None:
    kept, dropped = stored(store, b"kept"), stored(store, b"dropped")
    for key, sha256 in (("aa" * 20, kept), ("bb" * 20, dropped)):
        store.put_build(
            key, {"files": {"image": {"sha256": sha256}, "log": {"sha256": store.put(key.encode())}}}
        )
    clock.later = 2 * DAY
    assert store.prune([kept], 0) == [dropped]
    assert store.build("aa" * 20) is not None
    assert store.build("bb" * 20) is None
    assert not store.has(hashlib.sha256(b"bb" * 20).hexdigest())


def test_a_prune_that_cannot_read_everything_drops_nothing(
    store: ArtifactStore, shelf: Shelf, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = stored(store, IMAGE)
    clock.later = 2 * DAY
    listed = type(shelf).list

    def broken(self: Shelf, prefix: str) -> Iterator[Item]:
        yield from listed(self, prefix)
        if prefix == "blobs/":
            raise Retry("the rest is not to be had")

    monkeypatch.setattr(type(shelf), "list", broken)
    with pytest.raises(Retry):
        store.prune([], 0)
    assert store.get(sha256) == IMAGE


def test_a_device_keeps_what_it_runs_and_what_it_may_go_back_to(store: ArtifactStore) -> None:
    one, two, bad, worse, three = (stored(store, name.encode()) for name in ("1", "2", "bad", "worse", "3"))

    def held() -> set[str]:
        return set(store.pins())

    for sha256 in (one, two):
        store.hold(sha256, "device/a/b", runs=False)
        store.hold(sha256, "device/a/b", runs=True)
    assert held() == {one, two}
    store.hold(bad, "device/a/b", runs=False)
    assert held() == {one, two, bad}
    # However often it is sent something in vain, what ran well is still there.
    store.hold(worse, "device/a/b", runs=False)
    assert held() == {one, two, worse}
    store.hold(two, "device/a/b", runs=False)
    store.hold(two, "device/a/b", runs=True)
    assert held() == {one, two}
    store.hold(three, "device/a/b", runs=False)
    store.hold(three, "device/a/b", runs=True)
    store.hold(three, "device/a/b", runs=True)
    assert held() == {two, three}


def test_what_a_device_ran_before_is_known_until_it_is_sent_something_else(store: ArtifactStore) -> None:
    one, two = (stored(store, name.encode()) for name in ("1", "2"))
    first, later = {"build": "71be003"}, {"build": "9f1c2ab"}
    assert store.held("device/a/b") == {}
    assert store.hold(one, "device/a/b", runs=False, before=first)["before"] == first
    assert store.hold(one, "device/a/b", runs=False)["before"] == first
    assert store.hold(one, "device/a/b", runs=True) == store.held("device/a/b")
    assert store.held("device/a/b") == {"ran": [one], "sent": one, "before": first}
    assert store.hold(two, "device/a/b", runs=False)["before"] is None
    assert store.hold(two, "device/a/b", runs=False, before=later)["before"] == later


@pytest.mark.parametrize("holder", ["", "../x", "a//b", "/a", "device/lights/..", "A", "a" * 301, "a/b\nc"])
def test_a_holder_that_is_no_name_is_refused(store: ArtifactStore, holder: str) -> None:
    store.put(IMAGE)
    with pytest.raises(Reject, match="holder"):
        store.pin(SHA, holder)


# --- the folder -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["disk_usage", "write", "fsync", "replace"])
def test_a_full_disk_is_said_and_leaves_nothing_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    store = ArtifactStore(FolderShelf(tmp_path))
    old = store.put(b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    match at:
        case "disk_usage":
            monkeypatch.setattr(shelves.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
        case "write":
            monkeypatch.setattr(shelves, "_ROOM_BYTES", 0)
            monkeypatch.setattr(Path, "open", full)
        case "fsync":
            monkeypatch.setattr(shelves.os, "fsync", full)
        case "replace":
            monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StoreFull, match=r"the disk is full\. Make room, enlarge its volume, or prune"):
        store.put(IMAGE)
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == [old]
    assert store.get(old) == b"old"


def test_a_small_real_disk_that_fills_up_keeps_what_it_had(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "x", str(disk)], check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        store = ArtifactStore(FolderShelf(disk / "store"))
        kept = []

        def fill() -> None:
            kept.extend(store.put(bytes([number]) * 2**20) for number in range(60))

        with pytest.raises(StoreFull):
            fill()
        assert len(kept) >= 4
        assert all(store.has(sha256) for sha256 in kept)
        assert not [path for path in disk.rglob(".*") if path.is_file()]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_writer_that_is_killed_leaves_no_file_that_could_be_taken_for_one(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from podium_workers.services.artifacts import ArtifactStore\n"
        "from podium_workers.services.shelves import FolderShelf\n"
        "store = ArtifactStore(FolderShelf(Path(sys.argv[1])))\n"
        "print('go', flush=True)\n"
        "number = 0\n"
        "while True:\n"
        "    number += 1\n"
        "    store.put(number.to_bytes(4, 'big') * 500_000)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    process.stdout.readline()
    threading.Event().wait(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    store = ArtifactStore(FolderShelf(tmp_path))
    found = [path.name for path in (tmp_path / "blobs").iterdir() if not path.name.startswith(".")]
    assert found
    assert all(store.has(name) for name in found)


def test_half_written_files_go_after_a_day(tmp_path: Path) -> None:
    shelf = FolderShelf(tmp_path)
    shelf.write("blobs/x", b"x")
    half = tmp_path / "blobs" / ".y.1234"
    half.write_bytes(b"half")
    assert [item.name for item in shelf.list("blobs/")] == ["blobs/x"]
    assert half.exists()
    os.utime(half, (1, 1))
    list(shelf.list("blobs/"))
    assert not half.exists()


@settings(max_examples=50, deadline=None)
@given(
    data=st.data(),
    ages=st.lists(st.floats(0, 10), min_size=1, max_size=8),
    newest=st.integers(1, 4),
)
def test_what_is_pinned_or_named_survives_every_prune(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, ages: list[float], newest: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = ArtifactStore(FolderShelf(folder))
    all_of_them = [stored(store, f"{number}".encode()) for number in range(len(ages))]
    for sha256, days in zip(all_of_them, ages, strict=True):
        at = time.time() - days * DAY
        for path in (folder / "blobs" / sha256, folder / "artifacts" / f"{sha256}.json"):
            os.utime(path, (at, at))
    pinned = data.draw(st.sets(st.sampled_from(all_of_them)))
    named = data.draw(st.sets(st.sampled_from(all_of_them)))
    for sha256 in pinned:
        store.pin(sha256, "device/a/b")
    gone = set(store.prune(named, newest))
    assert not gone & (pinned | named)
    assert len(all_of_them) - len(gone) >= min(newest, len(all_of_them))
    for sha256 in all_of_them:
        assert store.has(sha256) == (sha256 not in gone)


# --- the bucket -----------------------------------------------------------------------------------------


def test_a_store_is_where_the_setting_says(tmp_path: Path, bucket: str) -> None:
    assert str(open_store(tmp_path, "")) == str(tmp_path / "artifacts")
    assert str(open_store(tmp_path, "/mnt/artifacts")) == "/mnt/artifacts"
    assert str(open_store(tmp_path, f"s3://{bucket}/p/")) == f"s3://{bucket}/p"
    with pytest.raises(Reject, match="wants s3://bucket"):
        open_store(tmp_path, "s3://")


def test_a_long_list_of_a_bucket_is_read_to_its_end(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PAGE", 10)
    shelf = S3Shelf.at(f"s3://{bucket}")
    for number in range(25):
        shelf.write(f"pins/{SHA}/device/a/d{number}", b"")
    assert len(ArtifactStore(shelf).pins()[SHA]) == 25


def test_a_bucket_that_is_not_there_says_so(bucket: str) -> None:
    with pytest.raises(Reject, match="there is no such bucket: make it, or mend PODIUM_ARTIFACTS"):
        ArtifactStore(S3Shelf.at("s3://nowhere")).put(IMAGE)


def test_a_bucket_service_that_is_away_is_asked_again(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Retry, match="cannot write blobs/"):
        ArtifactStore(S3Shelf.at(f"s3://{bucket}")).put(IMAGE)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("AccessDenied", Reject, "give this worker's key read, write, list and delete"),
        ("XMinioStorageFull", StoreFull, "it is full"),
        ("SlowDown", Retry, "SlowDown"),
    ],
)
def test_the_words_of_a_bucket_become_a_remedy(
    bucket: str, monkeypatch: pytest.MonkeyPatch, code: str, kind: type[Exception], words: str
) -> None:
    from botocore.exceptions import ClientError

    shelf = S3Shelf.at(f"s3://{bucket}")

    def refuse(**_: object) -> None:
        raise ClientError({"Error": {"Code": code}}, "PutObject")

    monkeypatch.setattr(shelf._client, "put_object", refuse)
    with pytest.raises(kind, match=words):
        shelf.write("blobs/x", b"x")


def test_without_the_library_the_reason_is_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(Reject, match=r"install podium's extra 's3'"):
        S3Shelf.at("s3://bucket")
