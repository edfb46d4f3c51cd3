"""Runs while Conductor is away, and when it has come back without its data: none of them has failed."""

import zlib
from datetime import datetime, timedelta

from podium.core import effects as do
from podium.core.conditions import shorten
from podium.core.durations import format_time
from podium.core.effects import Note, Report, RunEffect, Unknown
from podium.core.runs.seen import TOLD_AFTER, WAIT_FOR_CONDUCTOR, Seen
from podium.core.runs.words import active_words, changed_reason, failed_words, words_of
from podium.ports import Json

# The writes that tell all runs of an outage are spread over this time.
_SPREAD = timedelta(seconds=10)
_WANTED = {"Running": "Running", "Paused": "Paused"}


def sit_out(seen: Seen, now: datetime) -> Report | None:
    """What a run that goes on says while Conductor is away; None: there is something else to do.

    A short outage is no news, unless something is wanted of the run that cannot be done now.
    """
    run, outage = seen.run, seen.outage
    recorded = (run.status.get("conductor") or {}).get("workflowId")
    if outage is None or run.spec is None or not recorded or run.status.get("phase") not in _WANTED:
        return None
    unmoved = run.generation == run.status.get("observedGeneration")
    content = run.spec.desired_state == _WANTED[run.status["phase"]]
    left = outage.since + TOLD_AFTER + _share(run.uid) - now
    if unmoved and content and left > timedelta(0):
        return Report(run.status, words_of(run), requeue_after=left)
    words = active_words("ConductorUnavailable", outage.message)
    return Report(dict(run.status), words, requeue_after=None if content else WAIT_FOR_CONDUCTOR)


def judge_absence(seen: Seen, now: datetime, status: Json) -> RunEffect | None:
    """What it means that Conductor does not have the run, if it may have lost its data; else None.

    Its word counts only if its database is still the one that the run was started in. That is read
    first, and then the run once more: a database that is exchanged in between fools nobody.
    """
    conductor: Json = status["conductor"]
    if not conductor.get("store"):
        return None
    if not seen.store_fresh:
        return do.ReadStore()
    match seen.store:
        case Unknown(error, reason):
            words = active_words(reason, error)
            return Report(status, words, requeue_after=WAIT_FOR_CONDUCTOR)
        case str(store) if store and store != conductor["store"]:
            return _lost(seen, now, status)
        case _:
            return None


def _lost(seen: Seen, now: datetime, status: Json) -> Report:
    run = seen.run
    what = status["conductor"].get("workflowId") or "the start of this run"
    if run.spec is not None and run.spec.desired_state == "Terminated":
        message = f"terminated; Conductor had lost its data, and {what} with it"
        status = status | {"phase": "Terminated", "finishedAt": format_time(now), "message": message}
        return Report(status, failed_words("Terminated", message))
    message = shorten(
        f"Conductor came back with another database, without {what}: restore it and the run is followed "
        "again; action Restart starts it anew; desiredState Terminated ends it"
    )
    told = not changed_reason(seen, "ConductorLostData")
    notes = () if told else (Note("Warning", "ConductorLostData", message),)
    return Report(status, active_words("ConductorLostData", message), notes)


def _share(uid: str) -> timedelta:
    """A run's own part of the spread: the same each time it is asked."""
    return _SPREAD * ((zlib.crc32(uid.encode()) % 1000) / 1000)
