"""Task: all that was found of a sound as one document, kept in the artifact store with its arrays."""

from __future__ import annotations

import json
from typing import Any

from podium_workers.runtime.context import Reject, TaskContext
from podium_workers.runtime.registry import task
from podium_workers.services.artifacts import SHA256, open_store

ARRAYS = ("levels", "mel", "mfcc", "beats")
"""What is kept for good; samples and spectrum are large, can be computed again, and a prune may drop them."""


@task("report_audio")
def report_audio(
    context: TaskContext,
    source: dict[str, Any],
    levels: dict[str, Any],
    spectrum: dict[str, Any],
    features: dict[str, Any],
    tempo: dict[str, Any],
) -> dict[str, Any]:
    """Stores a JSON document of what the others found; the same sound and settings give the same one."""
    sha256 = str(source.get("sha256", ""))
    if not SHA256.fullmatch(sha256):
        raise Reject("source: it has no `sha256` of the file; decode_audio says it")
    arrays = {
        name: found
        for name in ARRAYS
        for part in (levels, features, tempo)
        if isinstance(found := part.get(name), dict)
    }
    document = {
        "source": source,
        "frames": levels.get("frames"),
        "loudness": _some(levels, "loudnessDb", "loudestDb", "silentShare"),
        "zeroCrossingRate": levels.get("zeroCrossingRate"),
        "spectrum": _some(spectrum, "peakHz", "centroidHz", "binHz"),
        "meanMfcc": features.get("meanMfcc"),
        "tempo": _some(tempo, "bpm", "confidence", "reason", "beatCount", "firstBeats"),
        "arrays": arrays,
    }
    data = json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"
    store = open_store(context.data_dir)
    stored = store.put(data)
    report = {"sha256": stored, "size": len(data)}
    files = {"source": {"sha256": sha256}, "report": report, **arrays}
    store.put_record("audio", sha256, stored, {"files": files, "workflowId": context.workflow_id})
    context.log(f"report {stored} ({len(data):,} bytes)")
    return {"report": report, "bpm": tempo.get("bpm"), "peakHz": spectrum.get("peakHz")}


def _some(part: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: part.get(name) for name in names}
