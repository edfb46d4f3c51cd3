"""The commands for runs, by what they write to a real API server and say to a person."""

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from cli.commands import Shell, in_process, task
from podium.adapters.console import open_personal_cluster
from podium.cli.access import Place
from podium.cli.approvals import decide
from podium.cli.schedule import change
from podium.ports import Json

pytestmark = pytest.mark.slow

WAITING: Json = {"phase": "Running", "tasks": [task("sign-off", type="HUMAN")]}


def test_run_makes_a_workflow_run(shell: Shell) -> None:
    shell.make_workflow()
    made = shell.podium("run", "video", "--set", "prompt=a red chair", "--set", "size=64", "--name", "one")
    assert (made.exit_code, made.stdout) == (0, "workflowrun.podium.dev/one created\n")
    assert shell.get("workflowrun", "one")["spec"]["input"] == {"prompt": "a red chair", "size": 64}

    piped = shell.podium("run", "video", "--input", "-", "-o", "json", stdin='{"prompt": "x"}')
    body = json.loads(piped.stdout)
    assert body["metadata"]["name"].startswith("video-")
    assert body["spec"] == {
        "workflow": "video", "input": {"prompt": "x"}, "desiredState": "Running", "priority": 0,
        "deletionPolicy": "Terminate",
    }  # fmt: skip

    again = shell.podium("run", "video", "--name", "one")
    assert (again.exit_code, again.stdout) == (2, "")
    assert again.stderr == f"podium: workflowrun 'one' exists already in namespace '{shell.namespace}'\n"
    wrong = shell.podium("run", "vidoe")
    assert wrong.exit_code == 2
    assert (
        wrong.stderr
        == f"podium: no workflow 'vidoe' in namespace '{shell.namespace}'; did you mean 'video'?\n"
    )
    refused = shell.podium("run", "video", "--name", "Not_A_Name")
    assert refused.exit_code == 2
    assert "RFC 1123" in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        ({"phase": "Succeeded", "progress": "1/1"}, 0, "one Succeeded: 1/1 tasks done\n"),
        ({"phase": "Failed", "message": "n1 failed: no ink"}, 1, "one Failed: n1 failed: no ink\n"),
        ({"phase": "TimedOut", "message": "too late"}, 1, "one TimedOut: too late\n"),
    ],
)
def test_the_exit_code_of_a_run_that_was_waited_for_is_its_result(
    shell: Shell, status: Json, code: int, words: str
) -> None:
    shell.make_workflow()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(shell.podium, "run", "video", "--name", "one", "--watch")
        _until(lambda: "one" in shell.plane.run("get", "workflowruns", "-n", shell.namespace))
        shell.put_status("one", {"phase": "Running", "progress": "0/1", "currentTask": "n1"})
        time.sleep(1.2)  # the command looks twice a second: let it see this state too
        shell.put_status("one", status)
        ended = running.result(timeout=20)
    assert ended.exit_code == code
    assert ended.stderr == words
    assert "one  Running  0/1  n1\n" in ended.stdout


def test_waiting_has_an_end(shell: Shell) -> None:
    shell.make_workflow()
    late = shell.podium("run", "video", "--name", "one", "--wait", "--timeout", "1s")
    assert late.exit_code == 3
    assert late.stderr == "podium: workflowrun 'one' took longer than the time-out to end: it goes on\n"


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("retry", "one"), {"type": "Retry"}),
        (("restart", "one"), {"type": "Restart"}),
        (
            ("rerun", "one", "--from", "n1", "--input", '{"a": 1}'),
            {"type": "Rerun", "fromTask": "n1", "input": {"a": 1}},
        ),
        (("skip", "one", "n2"), {"type": "Skip", "task": "n2"}),
    ],
)  # fmt: skip
def test_an_action_is_asked_for_under_an_id_of_its_own(
    shell: Shell, arguments: tuple[str, ...], wanted: Json
) -> None:
    before = {"id": "old", "type": "Skip", "task": "n9"}
    answered = {"id": "old", "type": "Skip", "result": "Done", "at": "2026-01-01T00:00:00Z"}
    shell.make_run("one", {"phase": "Failed", "lastAction": answered}, action=before)
    with Answering(shell, "Done"):
        asked = shell.podium(*arguments)
    assert (asked.exit_code, asked.stdout) == (0, f"{arguments[0]} of one: done\n"), asked.stderr
    action = shell.get("workflowrun", "one")["spec"]["action"]
    assert action.pop("id") not in ("", "old")
    assert action == wanted


def test_a_refused_action_says_why(shell: Shell) -> None:
    shell.make_run("one", {"phase": "Running"})
    with Answering(shell, "Refused", "it has not failed"):
        asked = shell.podium("retry", "one", "--wait")
    assert (asked.exit_code, asked.stderr) == (2, "podium: retry of one is refused: it has not failed\n")


def test_an_action_does_not_push_out_one_that_is_not_done_yet(shell: Shell) -> None:
    shell.make_run("one", {"phase": "Running"}, action={"id": "a1", "type": "Retry"})
    asked = shell.podium("restart", "one")
    assert asked.exit_code == 2
    assert "one still has another action to do (Retry, id a1)" in asked.stderr
    assert shell.get("workflowrun", "one")["spec"]["action"]["id"] == "a1"


def test_pause_resume_terminate(shell: Shell) -> None:
    shell.make_run("one", {"phase": "Running"})
    for command, state in (("pause", "Paused"), ("resume", "Running"), ("terminate", "Terminated")):
        done = shell.podium(command, "one")
        assert done.exit_code == 0, done.stderr
        assert shell.get("workflowrun", "one")["spec"]["desiredState"] == state
    back = shell.podium("resume", "one")
    assert back.stderr == "podium: one is being terminated, which cannot be taken back\n"
    shell.make_run("two", {"phase": "Succeeded"})
    late = shell.podium("pause", "two", "--wait")
    assert (late.exit_code, late.stderr) == (2, "podium: two has ended already: Succeeded\n")
    unknown = shell.podium("pause", "tow")
    assert f"no workflowrun 'tow' in namespace '{shell.namespace}'; did you mean 'two'?" in unknown.stderr


def test_an_approval_is_added_with_the_callers_name(shell: Shell) -> None:
    shell.make_run("one", WAITING)
    said = shell.podium("approve", "one", "sign-off", "--note", "fine", "--output", '{"percent": 25}')
    assert (said.exit_code, said.stdout) == (0, "sign-off of one: approved\n"), said.stderr
    (entry,) = shell.get("workflowrun", "one")["status"]["approvals"]
    assert entry.pop("at").startswith("20")
    assert entry == {
        "task": "sign-off", "attempt": 1, "decision": "Approve", "note": "fine", "output": {"percent": 25},
        "by": shell.plane.run("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}").strip(),
    }  # fmt: skip
    again = shell.podium("reject", "one", "sign-off")
    assert again.exit_code == 2
    assert "said Approve at 20" in again.stderr

    shell.put_status("one", {"tasks": [task("sign-off", type="HUMAN", attempts=2)]})
    assert shell.podium("reject", "one", "sign-off").stdout == "sign-off of one: rejected\n"
    said_both = shell.get("workflowrun", "one")["status"]["approvals"]
    assert [(item["attempt"], item["decision"]) for item in said_both] == [(1, "Approve"), (2, "Reject")]


def test_a_task_that_does_not_wait_takes_no_approval(shell: Shell) -> None:
    shell.make_run("one", {"phase": "Running", "tasks": [task("n1")]})
    refused = shell.podium("approve", "one", "n1")
    assert refused.exit_code == 2
    assert "n1 of one does not wait for anyone: it is a resize task and Running" in refused.stderr
    assert "approvals" not in shell.get("workflowrun", "one")["status"]


async def test_people_who_approve_at_once_take_nothing_from_each_other(shell: Shell) -> None:
    names = [f"gate-{number}" for number in range(6)]
    shell.make_run("one", {"phase": "Running", "tasks": [task(name, type="HUMAN") for name in names]})
    async with await open_personal_cluster(str(shell.plane.kubeconfig), None) as cluster:
        place = Place(cluster, shell.namespace)
        await asyncio.gather(*(decide(place, "one", name, "Approve", None, None, None) for name in names))
    said = shell.get("workflowrun", "one")["status"]["approvals"]
    assert sorted(item["task"] for item in said) == names


def test_get_shows_runs_and_one_run_with_its_tasks(shell: Shell) -> None:
    none = shell.podium("get")
    assert (none.exit_code, none.stderr) == (0, f"there are no runs in namespace '{shell.namespace}'\n")
    tasks = [
        task("n1", status="Failed", attempts=3, message="no ink"),
        task("call", type="SUB_WORKFLOW", subWorkflowId="3f"),
        task("inner", parent="call", worker="w-1"),
    ]
    status: Json = {
        "phase": "Running", "progress": "0/3", "currentTask": "inner", "tasks": tasks,
        "counts": {"pending": 2, "running": 1, "completed": 0, "failed": 1},
    }  # fmt: skip
    shell.make_run("one", status)
    shell.make_run("two", {"phase": "Failed"})
    lines = shell.podium("get").stdout.splitlines()
    assert lines[0].split() == ["NAME", "WORKFLOW", "PHASE", "PROGRESS", "CURRENT", "STARTED", "AGE"]
    assert [line.split()[0] for line in lines[1:]] == ["one", "two"]
    assert [line.split()[:5] for line in lines[1:2]] == [["one", "video", "Running", "0/3", "inner"]]
    failed = json.loads(shell.podium("get", "--phase", "failed", "-o", "json").stdout)
    assert [item["metadata"]["name"] for item in failed["items"]] == ["two"]
    assert "one" in shell.podium("get", "-A").stdout

    assert shell.podium("tree", "one").stdout == (
        "one  Running\n"
        "├── n1  resize  Failed  3 attempts  no ink\n"
        "├── call  SUB_WORKFLOW  Running\n"
        "│   └── inner  resize  Running  on w-1\n"
        "└── and 2 more tasks: 1 failed, 2 pending, 1 running in all\n"
    )
    described = shell.podium("get", "one").stdout
    assert "Phase:     Running\n" in described
    assert "├── n1  resize  Failed" in described
    assert json.loads(shell.podium("tree", "one", "-o", "json").stdout)[1]["tasks"][0]["id"] == "inner"


def test_output_is_that_of_the_status(shell: Shell) -> None:
    shell.make_run("one", {"phase": "Succeeded", "output": {"url": "x", "n": [1]}})
    assert json.loads(shell.podium("output", "one").stdout) == {"url": "x", "n": [1]}
    shell.make_run("two", {"phase": "Running"})
    assert shell.podium("output", "two").stderr == "podium: two has not ended: Running\n"
    shell.make_run("big", {"phase": "Succeeded", "outputTruncated": True})
    assert shell.podium("output", "big").stderr == (
        "podium: the output is larger than a status may be: name Conductor with CONDUCTOR_SERVER_URL or "
        "--conductor-url\n"
    )


SCHEDULES: list[Json] = [
    {"name": "hourly", "cron": "0 * * * *", "input": {"a": 1}},
    {"name": "nightly", "cron": "0 2 * * *", "timeZone": "Europe/Berlin"},
]


def test_schedules_are_changed_one_by_one(shell: Shell) -> None:
    shell.make_workflow(schedules=SCHEDULES)

    def schedules() -> dict[str, Json]:
        return {item["name"]: item for item in shell.get("workflow", "video")["spec"]["schedules"]}

    before = schedules()
    listed = shell.podium("schedule", "list").stdout.splitlines()
    assert [line.split()[:2] for line in listed[1:]] == [["video", "hourly"], ["video", "nightly"]]
    assert len(json.loads(shell.podium("schedule", "list", "video", "-o", "json").stdout)) == 2

    unnamed = shell.podium("schedule", "run-now", "video")
    assert "workflow 'video' has several schedules, name one: hourly, nightly" in unnamed.stderr
    assert shell.podium("schedule", "run-now", "video", "nightly").exit_code == 0
    first = schedules()["nightly"]["runNow"]
    assert shell.podium("schedule", "run-now", "video", "nightly").exit_code == 0
    assert schedules()["nightly"]["runNow"] not in ("", first)
    assert schedules()["hourly"] == before["hourly"]

    assert shell.podium("schedule", "suspend", "video").stdout == "video: hourly, nightly suspended\n"
    assert shell.podium("schedule", "resume", "video", "hourly").exit_code == 0
    assert {name: item["suspend"] for name, item in schedules().items()} == {"hourly": False, "nightly": True}

    filled = shell.podium("backfill", "video", "nightly", "--start", "2026-01-01", "--end", "2026-02-01")
    assert filled.exit_code == 0, filled.stderr
    fill = schedules()["nightly"]["backfill"]
    assert (fill["start"], fill["end"]) == ("2025-12-31T23:00:00Z", "2026-01-31T23:00:00Z")
    second = shell.podium("backfill", "video", "nightly", "--start", "2026-03-01", "--end", "2026-04-01")
    assert "still has a back-fill to do" in second.stderr
    backwards = shell.podium("backfill", "video", "hourly", "--start", "2026-03-01", "--end", "2026-02-01")
    assert backwards.stderr == "podium: --start 2026-03-01 is not before --end 2026-02-01\n"
    ancient = shell.podium("backfill", "video", "hourly", "--start", "0002-01-01", "--end", "2026-02-01")
    assert ancient.stderr == (
        "podium: --start 0002-01-01 --end 2026-02-01: it begins before 1970; give a later start\n"
    )
    assert "backfill" not in schedules()["hourly"]


async def test_a_schedule_that_moved_in_the_list_is_still_the_one_that_is_changed(shell: Shell) -> None:
    shell.make_workflow(schedules=SCHEDULES)
    async with await open_personal_cluster(str(shell.plane.kubeconfig), None) as cluster:
        place = Place(cluster, shell.namespace)
        look = place.get

        async def look_too_early(kind: str, name: str) -> Json:
            body = await look(kind, name)
            place.get = look  # type: ignore[method-assign]
            turned = [{"op": "replace", "path": "/spec/schedules", "value": SCHEDULES[::-1]}]
            await cluster.patch_as_user(place.key(kind, name), turned)
            return body

        place.get = look_too_early  # type: ignore[method-assign]
        assert await change(place, "video", "nightly", {"suspend": True}) == ["nightly"]
    suspended = [
        item["name"] for item in shell.get("workflow", "video")["spec"]["schedules"] if item["suspend"]
    ]
    assert suspended == ["nightly"]


def test_the_current_context_and_its_namespace_are_followed(shell: Shell, tmp_path: Path) -> None:
    shell.make_run("one", {"phase": "Running"})
    config = yaml.safe_load(shell.plane.kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = shell.namespace
    mine = tmp_path / "kubeconfig"
    mine.write_text(yaml.safe_dump(config))
    assert in_process(shell, "tree", "one", kubeconfig=mine) == 0

    ghost = shell.podium("get", "--context", "podium-locl")
    assert ghost.exit_code == 2
    assert "there is no context 'podium-locl'; did you mean 'podium-local'?" in ghost.stderr
    config["current-context"] = ""
    mine.write_text(yaml.safe_dump(config))
    shell.user = str(mine)
    assert "no current context is set: name one with --context" in shell.podium("get").stderr
    shell.user = str(tmp_path / "none")
    assert shell.podium("get").stderr == (
        f"podium: no kubeconfig at {tmp_path / 'none'}: name one with --kubeconfig or $KUBECONFIG\n"
    )


@pytest.mark.parametrize(
    ("command", "resource"),
    [
        ("run ghost", "workflow"),
        ("schedule list ghost", "workflow"),
        ("get ghost", "workflowrun"),
        ("pause ghost", "workflowrun"),
        ("pool explain ghost", "workerpool"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(shell: Shell, command: str, resource: str) -> None:
    told = shell.podium(*command.split())
    assert told.exit_code == 2
    assert told.stderr == f"podium: no {resource} 'ghost' in namespace '{shell.namespace}'\n"


def test_who_may_not_is_told_so(shell: Shell, tmp_path: Path) -> None:
    shell.make_run("one", {"phase": "Running"})
    shell.plane.run("create", "serviceaccount", "guest", "-n", shell.namespace)
    token = shell.plane.run("create", "token", "guest", "-n", shell.namespace).strip()
    config = yaml.safe_load(shell.plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    mine = tmp_path / "kubeconfig"
    mine.write_text(yaml.safe_dump(config))
    shell.user = str(mine)
    refused = shell.podium("get", "one")
    assert refused.exit_code == 2
    assert "is forbidden" in refused.stderr
    assert "guest" in refused.stderr
    assert refused.stderr.count("\n") == 1


class Answering:
    """Plays the operator: answers the action that is asked for next."""

    def __init__(self, shell: Shell, result: str, message: str | None = None) -> None:
        self.shell, self.result, self.message = shell, result, message
        self._pool = ThreadPoolExecutor(1)
        self._before = shell.get("workflowrun", "one")["spec"].get("action")

    def __enter__(self) -> None:
        self._answering = self._pool.submit(self._answer)

    def __exit__(self, *_: object) -> None:
        self._answering.result(timeout=20)
        self._pool.shutdown()

    def _answer(self) -> None:
        _until(lambda: self.shell.get("workflowrun", "one")["spec"].get("action") != self._before)
        action = self.shell.get("workflowrun", "one")["spec"]["action"]
        answer = {
            "id": action["id"],
            "type": action["type"],
            "result": self.result,
            "at": "2026-01-01T00:00:00Z",
        }
        self.shell.put_status(
            "one", {"lastAction": answer | ({"message": self.message} if self.message else {})}
        )


def _until(condition: Callable[[], bool], within: float = 15.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
