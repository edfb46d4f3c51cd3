"""`podium lint` and `podium compile` on files."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from podium.cli.compile import compile_
from podium.cli.lint import lint

ROOT = Path(__file__).parents[3]
REJECTS = sorted((ROOT / "tests/rejects/lint").glob("*.yaml"))
EXAMPLES = sorted((ROOT / "manifests/examples").glob("*.yaml"))
GOOD = """\
apiVersion: podium.dev/v1alpha1
kind: Workflow
metadata:
  name: good
spec:
  flow:
    nodes:
      - id: a
        type: echo
        config: {day: 2026-11-23}
"""
RUN = """\
apiVersion: podium.dev/v1alpha1
kind: WorkflowRun
metadata: {name: good-1}
spec: {workflow: good}
"""


def run(*arguments: str, text: str | None = None) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of `podium lint`."""
    done = CliRunner().invoke(lint, list(arguments), input=text)
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("path", REJECTS, ids=lambda path: path.stem)
def test_lint_refuses_what_the_api_server_cannot_know(path: Path) -> None:
    code, out, _ = run(str(path))
    assert code == 1
    wanted = [
        line.removeprefix("# wants: ")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("# wants: ")
    ]
    assert wanted
    for part in wanted:
        assert part in out
    assert "error:" in out


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_pass_without_a_word(path: Path) -> None:
    assert run("--strict", str(path))[:2] == (0, "")


def test_a_finding_names_its_line() -> None:
    code, out, err = run("-", text=GOOD.replace("config: {day", "confg: {day") + "---\n" + RUN)
    assert code == 0
    assert out.startswith("<stdin>:10: warning: spec.flow.nodes[0].confg: 'confg' is not a key of a node;")
    assert out.endswith("did you mean 'config'?\n")
    assert err == "2 objects checked: 0 errors, 1 warning\n"
    assert run("--strict", "-", text=GOOD.replace("config: {day", "confg: {day"))[0] == 1


SHAPES = {
    "unknown field": (GOOD.replace("  flow:", "  folw: 1\n  flow:"), "-:6: error: spec.folw: unknown field"),
    "unknown field inside": (
        GOOD + "  taskDefaults: {retrys: 3}\n",
        "spec.taskDefaults.retrys: unknown field 'retrys'; did you mean 'retries'?",
    ),
    "our own spelling is not the wire's": (
        GOOD + "  task_types: {}\n",
        "unknown field 'task_types'; did you mean 'taskTypes'?",
    ),
    "a wrong type": (GOOD + "  suspend: 'yes'\n", "spec.suspend: input should be a valid boolean"),
    "a number as text": (
        GOOD + "  taskDefaults: {retries: '3'}\n",
        "spec.taskDefaults.retries: input should be",
    ),
    "no duration": (GOOD + "  timeout: 10 minutes\n", "spec.timeout: is not a duration such as 90s"),
    "a wrong word": (
        GOOD + "  deletionPolicy: Keep\n",
        "spec.deletionPolicy: must be one of 'Delete' or 'Orphan'",
    ),
    "missing": (GOOD.replace("        type: echo\n", ""), "spec.flow.nodes[0].type: is missing"),
    "unknown kind": (GOOD.replace("Workflow", "Workflo"), "kind: podium.dev/v1alpha1 has no 'Workflo'"),
    "unknown version": (GOOD.replace("v1alpha1", "v1"), "apiVersion: 'podium.dev/v1' is unknown"),
    "no name": (GOOD.replace("name: good", "labels: {}"), "metadata.name: the object has no name"),
    "no good name": (GOOD.replace("name: good", "name: Good"), "metadata.name: 'Good' cannot be a name"),
    "no spec": ("apiVersion: podium.dev/v1alpha1\nkind: Workflow\nmetadata: {name: a}\n", "there is no spec"),
    "no form": (
        GOOD[: GOOD.index("  flow:")] + "  timeout: 1m\n",
        "spec: there is none; give exactly one of",
    ),
    "an input against the schema": (
        GOOD + "  inputSchema: {required: [prompt]}\n---\n" + RUN,
        "spec.input: 'prompt' is a required property; see inputSchema of the Workflow good",
    ),
}


@pytest.mark.parametrize(("text", "wanted"), SHAPES.values(), ids=SHAPES)
def test_what_the_api_server_would_refuse(text: str, wanted: str) -> None:
    code, out, _ = run("-", text=text)
    assert code == 1
    assert wanted.removeprefix("-") in out


NATIVE = """\
apiVersion: podium.dev/v1alpha1
kind: Workflow
metadata: {name: native}
spec:
  definition:
    tasks:
      - name: s
        taskReferenceName: s
        type: SWITCH
        evaluatorType: value-param
        expression: code
        inputParameters: {code: "${workflow.input.code}"}
        decisionCases:
          200: [{name: t, taskReferenceName: ok, type: SIMPLE}]
          other: [{name: t, taskReferenceName: no_, type: SIMPLE}]
"""


def test_keys_that_are_no_texts_are_made_texts_as_kubectl_does() -> None:
    assert run("-", text=NATIVE)[:2] == (0, "")
    printed = CliRunner().invoke(compile_, ["-"], input=NATIVE)
    assert list(json.loads(printed.stdout)["tasks"][0]["decisionCases"]) == ["200", "other"]
    steps = GOOD[: GOOD.index("  flow:")] + '  stateMachine: {startAt: "1", steps: {1: {functionName: f}}}\n'
    assert run("-", text=steps)[:2] == (0, "")


def test_a_key_that_was_made_a_text_has_its_line() -> None:
    code, out, _ = run("-", text=NATIVE + "    on: x\n" + "    metadata: {}\n")
    assert code == 0
    assert out.startswith("<stdin>:16: warning: spec.definition.true: Conductor has no 'true' here")


def test_a_clock_is_a_text_to_kubernetes() -> None:
    schema = "  inputSchema: {properties: {at: {type: string}}}\n---\n"
    text = GOOD + schema + RUN.replace("good}", "good, input: {at: 12:30:45}}")
    assert run("-", text=text)[:2] == (0, "")


def test_a_file_that_cannot_be_json_does_not_keep_others_from_being_checked(tmp_path: Path) -> None:
    broken = {"nan.yaml": ".nan", "key.yaml": "{null: 1}", "set.yaml": "!!set {a}"}
    for name, value in broken.items():
        (tmp_path / name).write_text(GOOD.replace("2026-11-23", value), encoding="utf-8")
    (tmp_path / "wrong.yaml").write_text(GOOD.replace("type: echo", "type: WAIT"), encoding="utf-8")
    code, out, err = run(str(tmp_path))
    assert code == 2
    assert "WAIT is a task that Conductor runs itself" in out
    assert f"{tmp_path}/nan.yaml: line 10: .nan is no number in JSON\n" in err
    assert f"{tmp_path}/key.yaml: line 10: null cannot be a key" in err
    assert f"{tmp_path}/set.yaml: line 10: not YAML: could not determine a constructor" in err


@pytest.mark.parametrize("namespace", ["[x]", "5", "{a: 1}", "Studio", "a.b"])
def test_what_cannot_be_a_namespace(namespace: str) -> None:
    code, out, _ = run("-", text=GOOD.replace("name: good", f"name: good\n  namespace: {namespace}"))
    assert code == 1
    assert "<stdin>:5: error: metadata.namespace: " in out
    assert "cannot be a namespace" in out


def test_lists_are_taken_apart_and_others_are_skipped() -> None:
    items = [yaml.safe_load(GOOD), {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}]
    code, out, err = run(
        "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, default=str)
    )
    assert (code, out) == (0, "")
    assert err == "<stdin>: ConfigMap/x is not Podium's, skipped\n1 object checked: 0 errors, 0 warnings\n"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("a: [", "line 1: not YAML"), ("- 1", "line 1: not an object"), ("a: b\n c: d", "line 2: not YAML")],
)
def test_what_cannot_be_read(text: str, wanted: str) -> None:
    code, _, err = run("-", text=text)
    assert code == 2
    assert wanted in err


def test_folders_are_searched_and_json_is_clean(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.yml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "b.yaml").write_text(GOOD.replace("type: echo", "type: WAIT"), encoding="utf-8")
    (tmp_path / "c.txt").write_text("nothing", encoding="utf-8")
    code, out, _ = run(str(tmp_path), "-o", "json")
    found = json.loads(out)
    assert code == 1
    assert found["summary"] == "2 objects checked: 1 error, 1 warning"
    assert found["findings"][0] == {
        "file": str(tmp_path / "b.yaml"),
        "line": 9,
        "object": "Workflow/good",
        "level": "error",
        "path": "spec.flow.nodes[0].type",
        "message": "WAIT is a task that Conductor runs itself, no worker can serve it",
        "remedy": "write the workflow as spec.definition to use WAIT, or give your task type another name",
    }
    assert run(str(tmp_path / "nothing.yaml"))[0] == 2


def test_settings_of_the_operator_can_be_told() -> None:
    text = GOOD + "  conductorName: old\n"
    assert run("-", text=text)[0] == 1
    assert run("--allow", "old", "-", text=text)[0] == 0


def test_compile_prints_the_definition(tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(GOOD + "---\n" + GOOD.replace("name: good", "name: other"), encoding="utf-8")
    several = CliRunner().invoke(compile_, [str(file)])
    assert several.exit_code == 2
    assert "choose one with --name: good, other" in several.stderr
    one = CliRunner().invoke(compile_, [str(file), "--name", "other", "-n", "studio"])
    definition = json.loads(one.stdout)
    assert definition["name"] == "studio.other"
    assert definition["tasks"][0]["inputParameters"] == {"day": "2026-11-23"}
    as_yaml = CliRunner().invoke(compile_, [str(file), "--name", "other", "-n", "studio", "-o", "yaml"])
    assert yaml.safe_load(as_yaml.stdout) == definition


def test_compile_says_what_is_wrong() -> None:
    wrong = CliRunner().invoke(compile_, ["-"], input=GOOD.replace("type: echo", "type: WAIT"))
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("-:9: error: spec.flow.nodes[0].type: WAIT is a task")
    nothing = CliRunner().invoke(compile_, ["-"], input="")
    assert (nothing.exit_code, nothing.stderr) == (2, "there is no Workflow in it\n")


def test_a_failure_workflow_is_warned_of_the_whole_failed_run() -> None:
    text = GOOD.replace("2026-11-23", '"${workflow.input.failedWorkflow}"')
    code, out, _ = run("-", text=text)
    assert code == 0
    assert "<stdin>:10: warning: spec.flow.nodes[0].config.day: this passes the whole failed run on" in out
    assert run("-", text=text.replace("failedWorkflow", "failedWorkflow.workflowName"))[1] == ""


def test_a_template_of_conductors_own_is_a_default_too() -> None:
    text = NATIVE.replace("    tasks:", "    inputTemplate: {code: 200}\n    tasks:")
    text += "  inputSchema: {required: [code]}\n---\n" + RUN.replace("workflow: good", "workflow: native")
    assert run("-", text=text)[:2] == (0, "")


SECRET_RUN = """\
apiVersion: podium.dev/v1alpha1
kind: WorkflowRun
metadata: {name: good-1}
spec:
  workflow: good
  inputFrom:
    - {toField: token, secretKeyRef: {name: api, key: token}}
"""


@pytest.mark.parametrize(
    ("config", "broken"),
    [
        ("${workflow.input.token}", False),
        ("${workflow.input.tokens} and more", False),
        ("Bearer ${workflow.input.token}", True),
        ("${workflow.input.token.name}", True),
    ],
)
def test_a_reference_inside_of_a_longer_text_is_pointed_out(config: str, broken: bool) -> None:
    text = GOOD.replace("{day: 2026-11-23}", f'{{header: "{config}"}}')
    code, out, _ = run("-", text=f"{text}---\n{SECRET_RUN}")
    assert code == 0
    lines = [line for line in out.splitlines() if "spec.inputFrom" in line]
    assert "only Podium's own worker runtime puts the value in its place" in lines[0]
    assert len(lines) == 1 + broken
    if broken:
        assert "at spec.flow.nodes[0].config.header" in lines[1]
        assert lines[1].startswith("<stdin>:18: warning: spec.inputFrom[0].toField: ")


def test_a_run_with_a_reference_is_checked_against_the_schema_too() -> None:
    text = f"{GOOD}  inputSchema: {{required: [token, size]}}\n---\n{SECRET_RUN}"
    code, out, _ = run("-", text=text)
    assert code == 1
    assert "'size' is a required property" in out
    code, out, _ = run("-", text=f"{text}  input: {{size: 1, token: x}}\n")
    assert code == 1
    assert "spec.inputFrom[0].toField: 'token' is in spec.input too" in out


def test_an_address_without_a_scheme_is_told_as_one() -> None:
    text = """\
apiVersion: podium.dev/v1alpha1
kind: ConductorConnection
metadata: {name: team}
spec: {url: "conductor:8080/api"}
"""
    code, out, _ = run("-", text=text)
    assert code == 1
    assert "spec.url: is not an address such as https://conductor.example/api" in out
