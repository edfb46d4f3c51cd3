"""What commands make of what they are given, without a cluster."""

import re
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from podium.cli import main
from podium.cli.access import Told
from podium.cli.approvals import choose_waiting
from podium.cli.get import grow
from podium.cli.run import read_object, set_values
from podium.cli.schedule import choose, parse_moment, why_never
from podium.ports import Json


def commands(group: click.Group, path: str = "") -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found |= commands(command, f"{path}{name} ")
        else:
            found[path + name] = command
    return found


@pytest.mark.parametrize("name", sorted(commands(main)))
def test_each_command_has_an_example_of_itself_in_its_help(name: str) -> None:
    shown = CliRunner().invoke(main, [*name.split(), "--help"])
    assert shown.exit_code == 0
    assert "Example:" in shown.output
    assert f"podium {name}" in shown.output.split("Example:")[1]


def test_the_list_of_commands_needs_none_of_them() -> None:
    shown = CliRunner().invoke(main, ["--help"])
    for name in main.list_commands(click.Context(main)):
        assert f"\n  {name} " in shown.output


def test_docs_show_every_command() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    assert [name for name in commands(main) if f"podium {name}" not in page] == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(shell: str) -> None:
    shown = CliRunner().invoke(main, ["completion", shell])
    assert shown.exit_code == 0
    assert f"_PODIUM_COMPLETE={shell}_complete" in shown.output


@pytest.mark.parametrize(
    ("start", "pairs", "wanted"),
    [
        ({}, ("prompt=a red chair",), {"prompt": "a red chair"}),
        ({"a": 1}, ("a=2", "b=true", "c=null"), {"a": 2, "b": True, "c": None}),
        ({}, ('size="3"', "n=3", "list=[1, 2]"), {"size": "3", "n": 3, "list": [1, 2]}),
        ({}, ("word=null and void",), {"word": "null and void"}),
        ({"a": {"x": 1}}, ("a.b=2", "c.d.e=x"), {"a": {"x": 1, "b": 2}, "c": {"d": {"e": "x"}}}),
        ({}, ("q=a=b", "empty="), {"q": "a=b", "empty": ""}),
    ],
)  # fmt: skip
def test_values_that_are_json_are_taken_as_such(start: Json, pairs: tuple[str, ...], wanted: Json) -> None:
    assert set_values(start, pairs) == wanted


@pytest.mark.parametrize("pair", ["prompt", "=x", "a..b=1", ".a=1"])
def test_what_is_no_pair_is_told(pair: str) -> None:
    with pytest.raises(Told, match="write key=value"):
        set_values({}, (pair,))


def test_nothing_goes_deeper_into_a_value() -> None:
    with pytest.raises(Told, match="'a' has a value already"):
        set_values({"a": 1}, ("a.b=1",))


def test_an_input_may_be_json_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "input.yaml"
    file.write_text("prompt: a red chair\nsize: 3\n")
    assert read_object('{"a": 1}', "--input") == {"a": 1}
    assert read_object(str(file), "--input") == {"prompt": "a red chair", "size": 3}
    for source, words in (
        (str(tmp_path / "none.yaml"), "No such file"),
        ('{"a": }', "neither JSON nor YAML"),
        (str(tmp_path), "Is a directory"),
    ):
        with pytest.raises(Told, match=words):
            read_object(source, "--input")
    file.write_text("at: 12:30:45\nday: 2026-11-23\n200: ok\n")
    assert read_object(str(file), "--input") == {"at": "12:30:45", "day": "2026-11-23", "200": "ok"}
    file.write_text("- a\n")
    with pytest.raises(Told, match="is no object"):
        read_object(str(file), "--input")


def view(name: str, status: str = "Running", kind: str = "HUMAN", **more: object) -> Json:
    return {"id": name, "ref": name.replace("-", "_"), "status": status, "type": kind, **more}


def run_with(*tasks: Json, approvals: list[Json] | None = None) -> Json:
    status: Json = {"tasks": list(tasks)}
    if approvals is not None:
        status["approvals"] = approvals
    return {"metadata": {"name": "r"}, "status": status}


def test_the_attempt_that_waits_now_is_meant() -> None:
    body = run_with(view("sign-off", attempts=2), view("build", "Completed", "SIMPLE"))
    assert choose_waiting(body, "sign-off", None) == {"task": "sign-off", "attempt": 2}
    assert choose_waiting(body, "sign_off", None) == {"task": "sign-off", "attempt": 2}
    assert choose_waiting(run_with(view("nap", kind="WAIT")), "nap", None) == {"task": "nap", "attempt": 1}


def test_a_task_in_a_sub_workflow_is_meant_by_its_path() -> None:
    call = view("review", kind="SUB_WORKFLOW", subWorkflowId="3f")
    inside = view("sign-off", parent="review")
    body = run_with(call, inside, view("fork", kind="FORK_JOIN_DYNAMIC"), view("ask", parent="fork"))
    for name in ("sign-off", "sign_off", "review/sign-off"):
        assert choose_waiting(body, name, None) == {"task": "review/sign-off", "attempt": 1}
    assert choose_waiting(body, "ask", None) == {"task": "ask", "attempt": 1}
    with pytest.raises(Told, match="name one: sign-off, review/sign-off"):
        choose_waiting(run_with(view("sign-off"), call, inside), "sign-off", None)


def test_what_was_said_before_a_restart_does_not_count_any_more() -> None:
    said = {"task": "sign-off", "attempt": 1, "decision": "Reject", "by": "ann", "at": "2026-01-01T10:00:00Z"}
    waits = view("sign-off", startedAt="2026-01-01T11:00:00Z")
    assert choose_waiting(run_with(waits, approvals=[said]), "sign-off", None)["attempt"] == 1
    with pytest.raises(Told, match="ann said Reject"):
        choose_waiting(run_with(waits, approvals=[said | {"at": "2026-01-01T11:00:05Z"}]), "sign-off", None)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (run_with(), "r shows no task 'sign-off'; it may not have begun yet; no task waits"),
        (run_with(view("sign-of")), "it may not have begun yet; did you mean 'sign-of'?"),
        (run_with(view("sign-off", "Completed")), "does not wait for anyone: it is a HUMAN task and Comp"),
        (run_with(view("sign-off", kind="SIMPLE")), "does not wait for anyone: it is a SIMPLE task"),
        (
            run_with(
                view("sign-off"),
                approvals=[{"task": "sign-off", "attempt": 1, "decision": "Reject", "by": "ann", "at": "t"}],
            ),
            "ann said Reject at t",
        ),
    ],
)  # fmt: skip
def test_what_does_not_wait_is_refused_with_the_reason(body: Json, words: str) -> None:
    with pytest.raises(Told) as refused:
        choose_waiting(body, "sign-off", None)
    assert words in str(refused.value)


names = st.sampled_from(["a", "b", "a/b", "b/a", "a/a"])


@given(st.lists(st.tuples(names, st.none() | names), max_size=8))
def test_a_tree_has_every_task_once_whoever_their_parents_are(pairs: list[tuple[str, str | None]]) -> None:
    tasks = [{"id": name, "ref": f"{name}{at}", "parent": parent} for at, (name, parent) in enumerate(pairs)]

    def refs(nodes: list[Json]) -> list[str]:
        return [ref for node in nodes for ref in (node["ref"], *refs(node.get("tasks") or []))]

    assert sorted(refs(grow(tasks))) == sorted(str(task["ref"]) for task in tasks)


def test_tasks_stand_below_their_parent() -> None:
    tasks = [{"id": "call", "ref": "call"}, {"id": "x", "ref": "x", "parent": "call"}]
    assert grow(tasks) == [
        {"id": "call", "ref": "call", "tasks": [{"id": "x", "ref": "x", "parent": "call"}]}
    ]


def test_a_moment_without_a_zone_is_in_that_of_the_schedule() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert parse_moment("2026-01-31", berlin, "--start") == datetime(2026, 1, 30, 23, tzinfo=UTC)
    assert parse_moment("2026-07-31T02:00", berlin, "--start") == datetime(2026, 7, 31, tzinfo=UTC)
    assert parse_moment("2026-01-31T00:00:00Z", berlin, "--start") == datetime(2026, 1, 31, tzinfo=UTC)
    assert parse_moment("2026-01-31t00:00:00z", berlin, "--start") == datetime(2026, 1, 31, tzinfo=UTC)
    for nonsense in ("yesterday", "0001-01-01", "2026-01-31T00:00:00+99:00"):
        with pytest.raises(Told, match=re.escape(f"--start {nonsense}: write a date")):
            parse_moment(nonsense, berlin, "--start")


def test_a_schedule_is_found_by_its_name_and_its_place_is_known() -> None:
    body: Json = {"metadata": {"name": "w"}, "spec": {"schedules": [{"name": "a"}, {"name": "nightly"}]}}
    assert choose(body, "nightly") == [(1, {"name": "nightly"})]
    assert len(choose(body, None, alone=False)) == 2
    with pytest.raises(Told, match="did you mean 'nightly'"):
        choose(body, "nihgtly")
    with pytest.raises(Told, match="several schedules, name one: a, nightly"):
        choose(body, None)
    with pytest.raises(Told, match="has no schedules"):
        choose({"metadata": {"name": "w"}, "spec": {}}, None)


def test_a_schedule_that_means_nothing_is_told_before_anything_is_promised() -> None:
    assert why_never({"name": "nightly", "cron": "0 2 * * *", "timeZone": "Europe/Berlin"}) == ""
    assert why_never({"name": "nightly", "cron": "61 2 * * *"}).startswith("cron: '61' is no minute")
    assert "did you mean Europe/Berlin?" in why_never(
        {"name": "nightly", "cron": "0 2 * * *", "timeZone": "Europe/Berlni"}
    )
