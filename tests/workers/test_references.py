"""Values of Secrets and ConfigMaps reach the function, and nothing that leaves the worker."""

import base64
import contextlib
import hashlib
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp.web
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from podium.local import free_port
from podium_workers.runtime.context import Reject, Retry
from podium_workers.runtime.redaction import RedactingFormatter, find_secrets, hide, scrub, spellings
from podium_workers.services.references import References, Sources, own_namespace

from .conftest import Desk

TOKEN = {"_type": "secretKeyRef", "name": "api", "key": "token"}
PAGE = {"_type": "configMapKeyRef", "name": "texts", "key": "page.html"}
VALUE = 's3cr3t "ключ"/+=\nsecond line of it'


@pytest.fixture
def mounts(tmp_path: Path) -> Sources:
    for folder, name, key, text in (("s", "api", "token", VALUE), ("c", "texts", "page.html", "<p>")):
        (tmp_path / folder / name).mkdir(parents=True)
        (tmp_path / folder / name / key).write_text(text)
    return Sources(tmp_path / "s", tmp_path / "c", namespace="studio")


# --- mounted ----------------------------------------------------------------------------------------


async def test_a_reference_is_replaced_wherever_it_stands(mounts: Sources) -> None:
    given = {"token": TOKEN, "deep": [{"page": PAGE, "n": 1}], "plain": "x", "_type": "other"}
    resolved = await References(mounts).resolve(given, "studio")
    assert resolved.input == {
        "token": VALUE,
        "deep": [{"page": "<p>", "n": 1}],
        "plain": "x",
        "_type": "other",
    }
    assert resolved.secrets == [VALUE], "a ConfigMap is no secret"
    assert given["token"] == TOKEN


async def test_an_input_without_references_is_left_alone(mounts: Sources) -> None:
    given = {"a": [{"_type": "reference", "nodeId": "x"}], "b": {"_type": 7}}
    assert (await References(mounts).resolve(given, "studio")).input is given


async def test_a_value_is_never_taken_for_a_reference(mounts: Sources) -> None:
    (mounts.secrets_dir / "api" / "nested").write_text(json.dumps(TOKEN))
    resolved = await References(mounts).resolve({"a": {**TOKEN, "key": "nested"}}, "studio")
    assert resolved.input == {"a": json.dumps(TOKEN)}


@pytest.mark.parametrize("domain", ["elsewhere", "studio2"])
async def test_what_is_mounted_is_not_for_runs_of_another_namespace(mounts: Sources, domain: str) -> None:
    with pytest.raises(Reject, match=f"Secret api in namespace {domain} is not mounted here"):
        await References(mounts).resolve({"token": TOKEN}, domain)


async def test_a_task_without_a_domain_is_of_the_workers_own_namespace(mounts: Sources) -> None:
    assert (await References(mounts).resolve({"token": TOKEN}, None)).input == {"token": VALUE}
    nowhere = Sources(mounts.secrets_dir, mounts.configmaps_dir)
    with pytest.raises(Reject, match="cannot tell in which namespace"):
        await References(nowhere).resolve({"token": TOKEN}, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "../api"}, "a secretKeyRef needs `name`"),
        ({"name": 7}, "a secretKeyRef needs `name`"),
        ({"key": ".."}, "secretKeyRef api needs `key`"),
        ({"key": "../api/token"}, "secretKeyRef api needs `key`"),
        ({"key": None}, "secretKeyRef api needs `key`"),
        ({"key": "other"}, "mount it, or give its pod a service account"),
    ],
)
async def test_a_bad_reference_says_which_field_and_reads_nothing(
    mounts: Sources, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(Reject, match=r"input field deep\[0\]\.token: ") as refused:
        await References(mounts).resolve({"deep": [{"token": {**TOKEN, **change}}]}, "studio")
    assert words in str(refused.value)


async def test_what_is_not_text_is_refused_without_showing_it(mounts: Sources) -> None:
    (mounts.secrets_dir / "api" / "bin").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Reject, match="key bin of Secret api is not text") as refused:
        await References(mounts).resolve({"token": {**TOKEN, "key": "bin"}}, "studio")
    assert refused.value.__cause__ is None


def test_the_own_namespace_outside_of_a_cluster_is_the_only_one_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("POD_NAMESPACE", raising=False)
    assert own_namespace(("studio",)) == "studio"
    assert own_namespace(("studio", "media")) is None
    assert own_namespace((None,)) is None
    monkeypatch.setenv("POD_NAMESPACE", "here")
    assert own_namespace(("studio", "media")) == "here"


# --- from the API server ----------------------------------------------------------------------------


class ApiServer:
    """Answers as one does, and counts."""

    def __init__(self, folder: Path) -> None:
        self.kubeconfig = folder / "kubeconfig"
        self.status = 200
        self.asked: list[str] = []
        self.secret = {"token": VALUE}

    async def answer(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        self.asked.append(request.path)
        if self.status != 200:
            return aiohttp.web.json_response({"kind": "Status", "message": VALUE}, status=self.status)
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in self.secret.items()}
        data: dict[str, Any] = {"data": encoded}
        if "configmaps" in request.path:
            data = {"data": {"page.html": "<p>"}, "binaryData": {"b": base64.b64encode(b"<b>").decode()}}
        return aiohttp.web.json_response({"metadata": {"name": "api"}, **data})


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    server = ApiServer(tmp_path)
    app = aiohttp.web.Application()
    app.router.add_get("/{path:.*}", server.answer)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", port).start()
    named = {"name": "x"}
    server.kubeconfig.write_text(
        yaml.safe_dump(
            {
                "current-context": "x",
                "clusters": [{**named, "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{**named, "user": {"token": "t"}}],
                "contexts": [{**named, "context": {"cluster": "x", "user": "x"}}],
            }
        )
    )
    yield server
    await runner.cleanup()


@contextlib.asynccontextmanager
async def asking(api: ApiServer, tmp_path: Path) -> AsyncIterator[References]:
    references = References(Sources(tmp_path / "no", tmp_path / "no", api.kubeconfig))
    yield references
    await references.close()


async def test_what_is_not_mounted_is_read_from_the_runs_namespace_and_kept_a_moment(
    api: ApiServer, tmp_path: Path
) -> None:
    async with asking(api, tmp_path) as references:
        for _ in range(3):
            resolved = await references.resolve({"token": TOKEN, "page": PAGE}, "studio")
            assert resolved.input == {"token": VALUE, "page": "<p>"}
            assert resolved.secrets == [VALUE]
        assert (await references.resolve({"b": {**PAGE, "key": "b"}}, "studio")).input == {"b": "<b>"}
        await references.resolve({"token": TOKEN}, "media")
    assert api.asked == [
        "/api/v1/namespaces/studio/secrets/api",
        "/api/v1/namespaces/studio/configmaps/texts",
        "/api/v1/namespaces/media/secrets/api",
    ]


async def test_a_key_that_was_added_is_seen_at_once(api: ApiServer, tmp_path: Path) -> None:
    async with asking(api, tmp_path) as references:
        await references.resolve({"token": TOKEN}, "studio")
        new = {**TOKEN, "key": "new"}
        with pytest.raises(Reject, match="Secret api in namespace studio has no key new"):
            await references.resolve({"token": new}, "studio")
        api.secret["new"] = "value"
        assert (await references.resolve({"token": new}, "studio")).input == {"token": "value"}


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (404, Reject, "there is no Secret api in namespace studio"),
        (403, Reject, "the worker may not read Secret api in namespace studio: give its service account"),
        (401, Retry, "Secret api in namespace studio cannot be read, the API server answered 401"),
        (500, Retry, "Secret api in namespace studio cannot be read, the API server answered 500"),
        (429, Retry, "answered 429"),
    ],
)
async def test_why_it_cannot_be_read_is_said_without_what_the_server_said(
    api: ApiServer, tmp_path: Path, status: int, error: type[Exception], words: str
) -> None:
    api.status = status
    async with asking(api, tmp_path) as references:
        with pytest.raises(error, match=f"input field token: .*{words}") as raised:
            await references.resolve({"token": TOKEN}, "studio")
    assert "s3cr3t" not in str(raised.value)
    assert raised.value.__cause__ is None


async def test_an_api_server_that_is_away_is_tried_again(api: ApiServer, tmp_path: Path) -> None:
    config = yaml.safe_load(api.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"http://127.0.0.1:{free_port()}"
    api.kubeconfig.write_text(yaml.safe_dump(config))
    async with asking(api, tmp_path) as references:
        with pytest.raises(Retry, match="Secret api in namespace studio cannot be read, the API server does"):
            await references.resolve({"token": TOKEN}, "studio")


# --- what leaves the process ------------------------------------------------------------------------


@given(st.text(min_size=4), st.text(), st.text())
def test_no_spelling_of_a_secret_is_left_in_a_result(secret: str, before: str, after: str) -> None:
    known = list(spellings(secret))
    for spelling in known:
        text = f"{before}{spelling}{after}"
        left = scrub({"a": [text, {text: 1}]}, known)
        for value in (left["a"][0], *left["a"][1]):
            assert secret not in value or secret in "***" or secret in before + "***" + after


def test_numbers_and_short_values_are_hidden_where_they_are_all_there_is() -> None:
    assert scrub({"n": 8080, "s": "ab", "t": "abc", "ok": True, "f": 1.5}, ["8080", "ab", "True"]) == {
        "n": "***",
        "s": "***",
        "t": "abc",
        "ok": True,
        "f": 1.5,
    }


def test_the_names_in_a_reference_are_no_secrets() -> None:
    assert list(find_secrets({"token": TOKEN, "password": "hidden"})) == ["hidden"]


def test_a_line_of_a_key_is_hidden_too() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\n-----END KEY-----\n"
    assert hide("cannot parse MIIEvQIBADANBg", list(spellings(key))) == "cannot parse ***"


def test_the_process_log_leaves_values_out_tracebacks_included() -> None:
    known: dict[str, None] = {}
    formatter = RedactingFormatter("%(message)s", known)
    known[VALUE] = None
    try:
        int(VALUE)
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("n", logging.ERROR, "p", 1, "with %r", (VALUE,), info)
    text = formatter.format(record)
    assert "s3cr3t" not in text
    assert "second line" not in text
    assert "ValueError: invalid literal for int() with base 10: '***'" in text


# --- a worker of its own ----------------------------------------------------------------------------


async def everything(desk: Desk, run_id: str) -> str:
    """All that Conductor has of a run: the run, its tasks, their logs, the row of the search."""
    run = await desk.run(run_id)
    parts = [run, await desk.call("GET", "/workflow/search", params={"query": f"workflowId='{run_id}'"})]
    parts += [await desk.call("GET", f"/tasks/{task['taskId']}/log") for task in run["tasks"]]
    return json.dumps(parts, ensure_ascii=False)


@pytest.mark.slow
@pytest.mark.parametrize("wait", [0, 1])
async def test_a_function_that_repeats_its_token_tells_conductor_nothing(
    desk: Desk, mounts: Sources, wait: int
) -> None:
    worker = await desk.worker("--secrets-dir", str(mounts.secrets_dir))
    run_id = await desk.start("probe_secret", {"token": TOKEN, "wait": wait})
    task = await desk.ended(run_id)
    assert task["status"] == "COMPLETED", task
    output = task["outputData"]
    assert output["sha256"] == hashlib.sha256(VALUE.encode()).hexdigest(), "the function had the value"
    assert output["echo"] == "***"
    assert output["deep"] == [{"header": "Bearer ***", "***": "as a key"}]
    assert output["base64"] == output["quoted"] == "***"
    stored = await everything(desk, run_id)
    assert task["inputData"]["token"] == TOKEN
    for text in (stored, worker.said()):
        assert "s3cr3t" not in text
        assert "second line" not in text
    assert "the token is ***" in stored
    assert "calling with ***" in worker.said()


@pytest.mark.slow
async def test_a_function_that_fails_with_its_password_tells_conductor_nothing(
    desk: Desk, mounts: Sources
) -> None:
    worker = await desk.worker("--secrets-dir", str(mounts.secrets_dir))
    run_id = await desk.start("probe_leak", {"password": TOKEN})
    task = await desk.ended(run_id)
    assert task["reasonForIncompletion"] == "ConnectionError: cannot log in with ***"
    for text in (await everything(desk, run_id), worker.said()):
        assert "s3cr3t" not in text
        assert "second line" not in text


@pytest.mark.slow
async def test_a_secret_that_is_not_there_fails_the_task_for_good_and_is_named(
    desk: Desk, mounts: Sources
) -> None:
    await desk.worker("--secrets-dir", str(mounts.secrets_dir))
    run_id = await desk.start("probe_leak", {"password": {**TOKEN, "name": "apis"}}, retries=3)
    task = await desk.ended(run_id)
    assert task["status"] == "FAILED_WITH_TERMINAL_ERROR"
    assert task["reasonForIncompletion"].startswith(
        f"input field password: Secret apis in namespace {desk.domain} is not mounted here"
    )
