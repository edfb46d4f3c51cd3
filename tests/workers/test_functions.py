"""The built-in functions, called as what they are: functions."""

import email
import email.policy
import struct
import zlib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiohttp.web
import pytest

from podium_workers import Reject, Retry, TaskContext
from podium_workers.functions import builtin, control, images, records, transforms, web


@pytest.fixture
def context(tmp_path):
    return TaskContext("task", "run", "kind", "ref", 1, 1, None, tmp_path, "worker")


def path_of(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


def test_each_has_a_docstring_and_can_serve():
    for function in builtin:
        assert function.summary.endswith(("." if "`: `" not in function.summary else "`.", ":", ".")), (
            function
        )
        assert function.signature is not None


@pytest.mark.parametrize(
    ("record", "errors"),
    [
        ({"email": "ann@Example.COM", "name": " Ann ", "age": 3}, []),
        ({"email": "ann@example.com", "name": "Ann"}, []),
        ({}, ["email: missing", "name: missing"]),
        ({"email": "ann", "name": "Ann"}, ["email: not an e-mail address"]),
        (
            {"email": "a@b.co", "name": "A\nBcc: x"},
            ["name: longer than 200 characters, or more than one line"],
        ),
        ({"email": "a@b.co", "name": "A", "age": 200}, ["age: not a number from 0 to 150"]),
        ({"email": "a@b.co", "name": "A", "age": True}, ["age: not a number from 0 to 150"]),
    ],
)
def test_records_are_validated(record, errors):
    if not errors:
        assert records.validate_record(record) == {**record, "email": "ann@example.com", "name": "Ann"}
        return
    with pytest.raises(Reject) as caught:
        records.validate_record(record)
    assert caught.value.output == {"errors": errors}


def test_a_record_is_stored_once_however_often_it_is_delivered(context):
    first = records.store_record(context, {"email": "a@b.co", "name": "A"})
    again = records.store_record(context, {"email": "a@b.co", "name": "A"})
    assert first["created"] is again["created"] is True
    assert again == first
    context.task_id = "another"
    changed = records.store_record(context, {"email": "a@b.co", "name": "B"})
    assert (changed["id"], changed["created"]) == (first["id"], False)
    found = records.get_record(context, key="a@b.co")
    assert (found["found"], found["record"]["name"]) == (True, "B")
    assert records.get_record(context, id=first["id"]) == found
    assert records.get_record(context, key="x") == {"found": False, "record": None}


def test_a_welcome_mail_is_a_real_message_and_one_file(context):
    person = {"email": "ann@example.com", "name": "Änn"}
    written = records.write_welcome_email(context, person)
    assert records.write_welcome_email(context, person)["file"] == written["file"]
    (path,) = (context.data_dir / "outbox").iterdir()
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    assert (message["To"], message["Subject"]) == ("ann@example.com", "Welcome, Änn")
    assert "Hello Änn" in message.get_content()
    with pytest.raises(Reject, match="headers"):
        records.write_welcome_email(context, {"email": "a@b.co", "name": "A\r\nBcc: x@y.zz"})


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, found = 8, []
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + body),)
        found.append((kind, body))
        at += 12 + length
    return found


def test_pictures_are_real_and_go_from_hand_to_hand(context):
    made = images.generate_image(context, "a red chair", 32)
    assert images.generate_image(context, "a red chair", 32) == made
    assert images.generate_image(context, "another", 32)["imageUrl"] != made["imageUrl"]
    data = path_of(made["imageUrl"]).read_bytes()
    assert len(data) == made["size"]
    parts = dict(chunks(data))
    assert struct.unpack(">II", parts[b"IHDR"][:8]) == (32, 32)
    assert len(zlib.decompress(parts[b"IDAT"])) == 32 * (32 * 3 + 1)
    small = images.resize(context, imageUrl=made["imageUrl"], width=16)
    assert (small["width"], small["height"]) == (16, 16)
    video = images.image_to_video(context, small["imageUrl"], 4)
    kinds = [kind for kind, _ in chunks(path_of(video["videoUrl"]).read_bytes())]
    assert kinds == [b"IHDR", b"acTL", b"fcTL", b"IDAT", *[b"fcTL", b"fdAT"] * 3, b"IEND"]
    said = images.caption(context, image=small["url"])
    assert "16 x 16" in said["caption"]
    published = images.publish(context, video["videoUrl"], said["caption"], name="../chair")
    assert path_of(published["url"]).parent == context.data_dir / "published"


@pytest.mark.parametrize(
    "url", ["http://x/y", "file:///etc/passwd", "images/x.png", "{}/../x", "{}/gone.png"]
)
def test_only_own_pictures_are_read(context, url):
    with pytest.raises(Reject):
        images.caption(context, url.replace("{}", context.data_dir.as_uri()))


def test_other_files_are_no_pictures(context):
    (context.data_dir / "x.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    with pytest.raises(Reject, match="not a picture"):
        images.caption(context, (context.data_dir / "x.png").as_uri())


def test_transform_works_in_order():
    result = transforms.transform(
        {"first": "ann", "last": "lee", "age": 3},
        pick=["first", "last"],
        rename={"first": "name"},
        uppercase=["last"],
        template={"greeting": "Hello $name $last"},
    )
    assert result["record"] == {"name": "ann", "last": "LEE", "greeting": "Hello ann LEE"}
    with pytest.raises(Reject, match="no field 'x' in the record; it has a"):
        transforms.transform({"a": 1}, pick=["x"])
    with pytest.raises(Reject, match="no field 'b'"):
        transforms.transform({"a": 1}, template={"t": "$b"})


def test_small_transforms():
    assert transforms.concat(["a", 1, None], "-") == "a-1-"
    assert transforms.sum_numbers([1, 2]) == {"sum": 3, "count": 2, "mean": 1.5}
    assert transforms.sum_numbers([]) == {"sum": 0, "count": 0, "mean": None}
    assert transforms.echo(a=1) == {"a": 1}


def test_fail_fails_so_often_and_then_succeeds(context):
    with pytest.raises(Retry, match="on purpose"):
        control.fail(context, times=1)
    context.attempt = 2
    assert control.fail(context, times=1) == {"attempt": 2}
    with pytest.raises(Reject):
        control.fail(context, terminal=True)


def test_fan_out_makes_what_a_dynamic_fork_wants():
    made = control.fan_out(["a", {"url": "b"}], "http_get", key="url")
    assert [item["taskReferenceName"] for item in made["dynamicTasks"]] == ["http_get_0", "http_get_1"]
    assert made["dynamicTasksInput"] == {
        "http_get_0": {"url": "a", "index": 0},
        "http_get_1": {"url": "b", "index": 1},
    }


@pytest.fixture
async def site():
    async def answer(request: aiohttp.web.Request) -> aiohttp.web.Response:
        status = int(request.match_info["status"])
        if status == 299:
            return aiohttp.web.Response(body=b"x" * (web.LARGEST_BODY + 1))
        if status == 298:
            return aiohttp.web.Response(text="not json", content_type="application/json")
        sent = await request.text()
        return aiohttp.web.json_response({"method": request.method, "sent": sent}, status=status)

    async def say(request: aiohttp.web.Request) -> aiohttp.web.Response:
        status = int(request.match_info["status"])
        return aiohttp.web.Response(status=status, body=b"<p>gone", headers={"Content-Type": "text/html"})

    async def repeat(request: aiohttp.web.Request) -> aiohttp.web.Response:
        body = (await request.text()).encode("latin-1")
        return aiohttp.web.Response(body=body, headers={"Content-Type": request.headers["As"]})

    app = aiohttp.web.Application()
    app.router.add_put("/", repeat)
    app.router.add_get("/{status}/text", say)
    app.router.add_route("*", "/{status}", answer)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_http_answers(site):
    got = await web.http_get(f"{site}/200")
    assert (got["status"], got["body"]) == (200, {"method": "GET", "sent": ""})
    sent = await web.http_request(f"{site}/201", "put", body={"a": 1})
    assert sent["body"] == {"method": "PUT", "sent": '{"a": 1}'}
    assert (await web.http_get(f"{site}/298"))["body"] == "not json"


@pytest.mark.parametrize(
    ("content_type", "body", "read"),
    [
        ("text/html", "<p>é".encode(), "<p>é"),
        ("text/plain", b"hello", "hello"),
        ("text/plain", b"", ""),
        ("application/octet-stream", b"\x00\xff", "\x00\ufffd"),
        ("application/vnd.api+json", b'{"a": 1}', {"a": 1}),
        ("text/plain; charset=latin-1", b"\xe9", "é"),
        ("text/plain; charset=nonsense", "é".encode(), "é"),
        ("text/plain; charset=hex", b"00", "00"),
        ("text/plain; charset=undefined", "é".encode(), "é"),
        ("nonsense", b"hello", "hello"),
    ],
)
async def test_http_answers_of_any_type_are_read(site, content_type, body, read):
    got = await web.http_request(site, "PUT", {"As": content_type}, body=body.decode("latin-1"))
    assert (got["body"], got["size"]) == (read, len(body))


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (404, Reject, "404 Not Found from 127.0.0.1"),
        (503, Retry, "503 Service Unavailable from 127.0.0.1"),
    ],
)
async def test_http_failures_keep_their_words(site, status, kind, reason):
    with pytest.raises(kind, match=reason) as caught:
        await web.http_get(f"{site}/{status}/text")
    assert caught.value.output == {"status": status, "body": "<p>gone"}


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/500", Retry), ("/503", Retry), ("/429", Retry), ("/404", Reject), ("/400", Reject), ("/299", Reject)],
)
async def test_http_failures_are_worth_a_retry_or_not(site, path, kind):
    with pytest.raises(kind):
        await web.http_get(site + path)


@pytest.mark.parametrize(
    ("url", "kind"), [("http://127.0.0.1:1/x", Retry), ("not a url", Reject), ("ftp://x/y", Reject)]
)
async def test_http_addresses_that_do_not_answer(url, kind):
    with pytest.raises(kind):
        await web.http_get(url)
