"""Task: what came of a pattern, as a page for people and as JSON."""

from __future__ import annotations

import html
import io
import json
from string import Template
from typing import Any

from pydantic import TypeAdapter, ValidationError

from podium_workers.patterns.catalogue import Pattern, build_frames
from podium_workers.patterns.validation import PatternRef
from podium_workers.runtime.context import Reject, TaskContext
from podium_workers.runtime.registry import task
from podium_workers.services.artifacts import KEY, open_store

_PAGE = Template("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>$title</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
  table { border-collapse: collapse; } td, th { padding: .3rem .8rem; text-align: left; }
  td, th { border-bottom: 1px solid #ccc; } .pass { color: #176f2c; } .fail { color: #b3261e; }
  svg { max-width: 100%; height: auto; }
</style>
<h1>$title: <span class="$verdict">$verdict</span></h1>
<p>$reason</p>
<table>
<tr><th>number<th>baseline<th>now<th>worse by<th>allowed<th></tr>
$rows
</table>
$plot
<table>
$facts
</table>
</html>
""")


# Drawing computes for a while, and matplotlib is loaded in that process only.
@task("report_pattern", cpu_bound=True)
def report_pattern(
    context: TaskContext,
    pattern: PatternRef,
    comparison: dict[str, Any],
    environment: str,
    build: str = "",
    commit: str = "",
    repository: str = "",
    health: dict[str, Any] | None = None,
    image: str = "",
) -> dict[str, Any]:
    """Stores a page with a plot, and the same as JSON; `comparison` is what compare_pattern returned."""
    key = str(comparison.get("baselineKey", ""))
    if not KEY.fullmatch(key) or comparison.get("verdict") not in {"pass", "fail"}:
        raise Reject("comparison: not what compare_pattern returns")
    document = {
        "verdict": comparison["verdict"],
        "reason": comparison.get("reason"),
        "pattern": pattern.model_dump(),
        "environment": environment,
        "repository": repository,
        "commit": commit,
        "build": build,
        "image": image,
        "baselineMade": comparison.get("baselineMade"),
        "baseline": comparison.get("baseline"),
        "comparisons": comparison.get("comparisons"),
        "health": health,
        "workflowId": context.workflow_id,
    }
    store = open_store(context.data_dir)
    files: dict[str, dict[str, Any]] = {}
    data = json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"
    for name, content in (("json", data), ("html", build_page(document).encode())):
        files[name] = {"sha256": store.put(content), "size": len(content)}
    record = {"files": files, "verdict": document["verdict"], "workflowId": context.workflow_id}
    store.put_record("pattern-report", key, files["json"]["sha256"], record)
    context.log(f"report {files['html']['sha256']} ({files['html']['size']:,} bytes)")
    return {"report": files, "verdict": document["verdict"], "reason": document["reason"]}


def build_page(document: dict[str, Any]) -> str:
    """HTML in one file. Everything that came from outside is escaped."""
    pattern, made = document["pattern"], document["baselineMade"]
    facts = {
        "pattern": json.dumps(pattern["parameters"], sort_keys=True),
        "frames": pattern["checksum"],
        **{name: document[name] for name in ("environment", "repository", "commit", "build", "image")},
        "run": document["workflowId"],
    }
    words = document["reason"] or ("These numbers are the baseline now." if made else "Nothing got worse.")
    return _PAGE.substitute(
        title=html.escape(f"{pattern['name']} on {document['environment']}"),
        verdict=document["verdict"],
        reason=html.escape(words),
        rows="\n".join(_row(item) for item in document["comparisons"] or []),
        plot=draw(document),
        facts="\n".join(f"<tr><th>{name}<td>{html.escape(str(value))}</tr>" for name, value in facts.items()),
    )


def draw(document: dict[str, Any]) -> str:
    """SVG: the pattern over its frames, and each number beside its baseline and what is allowed."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    compared = document["comparisons"] or []
    with rc_context({"svg.hashsalt": "podium", "svg.fonttype": "none"}):
        figure = Figure(figsize=(9, 3), layout="constrained")
        widths = [3, *(1 for _ in compared)]
        axes = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
        _draw_frames(axes[0], document["pattern"]["parameters"])
        for place, item in zip(axes[1:], compared, strict=True):
            _draw_number(place, item)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    # The XML declaration has no place within a page.
    return file.getvalue()[file.getvalue().index("<svg") :]


def _draw_frames(place: Any, parameters: dict[str, Any]) -> None:
    import numpy as np

    try:
        pattern = TypeAdapter[Any](Pattern).validate_python(parameters)
    except ValidationError:
        raise Reject("pattern: its parameters are not those of a pattern") from None
    shape = (pattern.frames, pattern.leds, 3)
    place.imshow(np.frombuffer(build_frames(pattern), np.uint8).reshape(shape), aspect="auto")
    place.set(xlabel="LED", ylabel="frame", title=f"{pattern.kind}, {pattern.leds} LEDs")


def _draw_number(place: Any, item: dict[str, Any]) -> None:
    colours = {"baseline": "#9aa7b2", "now": "#2a9d4e" if item["passed"] else "#c0392b"}
    bars = {"baseline": item["baseline"], "now": item["observed"]}
    known = [name for name, value in bars.items() if value is not None]
    place.bar(known, [bars[name] for name in known], color=[colours[name] for name in known])
    if item["baseline"] is not None:
        share = item["allowed_percent"] / 100 * (1 if item["name"] == "frameMicros" else -1)
        place.axhline(item["baseline"] * (1 + share), color="black", linestyle="--", linewidth=1)
    place.set(title=f"{item['words']} ({item['unit']})")


def _row(item: dict[str, Any]) -> str:
    def number(value: Any, unit: str) -> str:
        return "missing" if value is None else html.escape(f"{value:g} {unit}")

    verdict = "pass" if item["passed"] else "fail"
    return (
        f"<tr><td>{html.escape(item['words'])}<td>{number(item['baseline'], item['unit'])}"
        f"<td>{number(item['observed'], item['unit'])}<td>{number(item['worse_percent'], '%')}"
        f'<td>{number(item["allowed_percent"], "%")}<td class="{verdict}">{html.escape(item["message"])}</tr>'
    )
