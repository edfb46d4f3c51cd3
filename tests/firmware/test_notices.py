"""What people are told, and that the webhook's secret is not."""

import hashlib
import hmac
import json

import pytest

from podium_workers import Reject, Retry
from podium_workers.firmware.narration import MOST_TOLD, Narration
from support.firmware import Run
from support.webhook import Webhook


async def test_a_message_reaches_the_webhook_and_can_be_checked(webhook: Webhook, run: Run) -> None:
    sent = await run(
        "notify", url=webhook.url, title="Not released", message="2 warnings", level="error",
        details={"commit": "9f1c2ab"}, secret="shared",
    )  # fmt: skip
    assert sent == {"delivered": True, "status": 200, "text": "Not released\n2 warnings"}
    ((headers, data),) = webhook.got
    body = json.loads(data)
    assert body["text"] == "Not released\n2 warnings"
    assert (body["level"], body["details"]["commit"]) == ("error", "9f1c2ab")
    assert headers["Idempotency-Key"] == "task-1"
    wanted = hmac.new(b"shared", data, hashlib.sha256).hexdigest()
    assert headers["X-Podium-Signature-256"] == f"sha256={wanted}"


async def test_without_a_webhook_the_message_is_in_the_log(run: Run) -> None:
    assert await run("notify", message="all is well") == {"delivered": False, "text": "all is well"}
    assert run.lines == ["all is well"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(500, Retry), (503, Retry), (429, Retry), (404, Reject), (410, Reject), (302, Reject)],
)
async def test_a_webhook_that_does_not_take_it(
    webhook: Webhook, run: Run, status: int, kind: type[Exception]
) -> None:
    webhook.status = status
    with pytest.raises(kind, match=f"127.0.0.1 answered {status}") as caught:
        await run("notify", url=webhook.url, message="x")
    assert "T0PS3CRET" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/T0PS3CRET", "not a url T0PS3CRET", "ftp://x/T0PS3CRET"])
async def test_an_address_that_does_not_work_keeps_its_secret(run: Run, url: str) -> None:
    with pytest.raises((Reject, Retry)) as caught:
        await run("notify", url=url, message="x")
    assert "T0PS3CRET" not in str(caught.value)


async def test_a_failure_is_told_with_its_task_and_commit(run: Run) -> None:
    told = await run(
        "describe_build_failure",
        workflowId="w-1",
        reason="c3: src/a.c:1:1: error: x",
        failureStatus="FAILED",
        repository="https://git.example/k1",
        commit="9f1c2ab0c3d4e5f6",
        failedTasks=["platformio_compile"],
    )
    assert told["title"] == "Firmware of https://git.example/k1 at 9f1c2ab0c3d4 was not released"
    assert told["message"].splitlines() == [
        "FAILED in platformio_compile: c3: src/a.c:1:1: error: x",
        "Nothing was stored or sent to a device by this run.",
        "The whole log: podium logs (Conductor workflow w-1)",
    ]
    assert told["task"] == "platformio_compile"


async def test_a_failure_about_which_nothing_is_known_is_told_too(run: Run) -> None:
    told = await run("describe_build_failure")
    assert told["title"] == "Firmware was not released"
    assert told["reason"] == "no reason was given"


def test_a_long_build_is_told_within_bounds_and_kept_with_every_warning() -> None:
    told: list[str] = []
    at = [0.0]
    narration = Narration("c3", told.append, lambda: at[0])
    for number in range(200_000):
        at[0] += 0.01
        narration.add(f"Compiling .pio/build/c3/src/a_file_with_a_rather_long_name_{number}.cpp.o")
        if number % 1000 == 0:
            narration.add(f"src/a.c:{number}: warning: x")
    narration.add("the last line")
    assert len(told) <= MOST_TOLD + 1
    text = narration.text()
    assert len(text) < 17 * 2**20
    assert text.count(b"warning: x") >= 200
    assert text.rstrip().endswith(b"the last line")
    assert b"lines are left out here" in text


def test_progress_is_told_every_two_seconds() -> None:
    told: list[str] = []
    at = [0.0]
    narration = Narration("c3", told.append, lambda: at[0])
    for number in range(50):
        at[0] += 0.1
        narration.add(f"Compiling {number}.o")
    assert told == ["[c3] 20 files so far, now 19.o", "[c3] 40 files so far, now 39.o"]
