"""The sign-up example: validate a record, store it, write the welcome mail."""

from __future__ import annotations

import json
import re
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from podium_workers.functions.shelf import task
from podium_workers.runtime.context import Reject, TaskContext

_EMAIL = re.compile(r"[^@\s]+@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?\.[A-Za-z]{2,}")
_NAMESPACE = uuid.UUID("7f6b2a52-6f0e-4c39-9d0b-0f1c1f5b5f53")
LONGEST_NAME = 200
OLDEST = 150


@task("validateUserData", "validate_record")
def validate_record(input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002 — a step's inputPath arrives as `input`
    """Checks `email`, `name` and, if given, `age`; returns the tidied record, or every error found."""
    record = dict(input)
    errors: list[str] = []
    email, name, age = record.get("email"), record.get("name"), record.get("age")
    if not isinstance(email, str) or not _EMAIL.fullmatch(email.strip()) or ".." in email:
        errors.append("email: not an e-mail address" if email else "email: missing")
    else:
        local, _, host = email.strip().rpartition("@")
        record["email"] = f"{local}@{host.lower()}"
    if not isinstance(name, str) or not name.strip():
        errors.append("name: missing")
    elif len(name) > LONGEST_NAME or any(ord(character) < ord(" ") for character in name):
        errors.append(f"name: longer than {LONGEST_NAME} characters, or more than one line")
    else:
        record["name"] = name.strip()
    if age is not None and (
        isinstance(age, bool) or not isinstance(age, (int, float)) or not 0 <= age <= OLDEST
    ):
        errors.append(f"age: not a number from 0 to {OLDEST}")
    if errors:
        raise Reject("; ".join(errors), output={"errors": errors})
    return record


@task("createUserInDB", "store_record")
def store_record(
    context: TaskContext,
    input: dict[str, Any],  # noqa: A002
    key: str | None = None,
    collection: str = "records",
) -> dict[str, Any]:
    """Stores the record in a SQLite file; returns it with `id` and `created`. Safe to deliver twice.

    The record is kept under `key`, or its `email`, or else the step of the workflow run: the same key again
    replaces the record and keeps its id.
    """
    key = key or str(input.get("email") or f"{context.workflow_id}/{context.ref}")
    identity = str(uuid.uuid5(_NAMESPACE, f"{collection}\0{key}"))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = {**input, "id": identity}
    with _store(context.data_dir) as store:
        known = store.execute(
            "SELECT created, task FROM record WHERE collection = ? AND key = ?", (collection, key)
        ).fetchone()
        created = known[0] if known else now
        store.execute(
            "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (collection, key) DO UPDATE SET "
            "value = excluded.value, updated = excluded.updated, task = excluded.task",
            (collection, key, identity, json.dumps(record), created, now, context.task_id),
        )
    new = known is None or known[1] == context.task_id
    return {**record, "key": key, "createdAt": created, "created": new}


@task("get_record")
def get_record(
    context: TaskContext,
    key: str | None = None,
    id: str | None = None,  # noqa: A002
    collection: str = "records",
) -> dict[str, Any]:
    """The record stored under `key`, or with `id`: `{"found": bool, "record": …}`."""
    if (key is None) == (id is None):
        raise Reject("give either key or id")
    with _store(context.data_dir) as store:
        row = store.execute(
            "SELECT value FROM record WHERE collection = ? AND (key = ? OR id = ?)", (collection, key, id)
        ).fetchone()
    return {"found": row is not None, "record": json.loads(row[0]) if row else None}


@task("sendWelcomeEmail")
def write_welcome_email(
    context: TaskContext,
    input: dict[str, Any],  # noqa: A002
    sender: str = "welcome@podium.invalid",
) -> dict[str, Any]:
    """Writes a welcome mail to `input.email` as an .eml file into the outbox; sends nothing.

    One file per step of a run: a second delivery writes the same file.
    """
    email, name = input.get("email"), input.get("name") or "there"
    if not isinstance(email, str) or not _EMAIL.fullmatch(email):
        raise Reject("input.email: not an e-mail address")
    message = EmailMessage()
    identity = uuid.uuid5(_NAMESPACE, f"{context.workflow_id}/{context.ref}")
    try:
        message["From"], message["To"], message["Subject"] = sender, email, f"Welcome, {name}"
    except ValueError as error:
        raise Reject(f"these are no mail headers: {error}") from None
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<{identity}@podium.invalid>"
    message.set_content(f"Hello {name},\n\nyour account is ready.\n")
    outbox = context.data_dir / "outbox"
    outbox.mkdir(parents=True, exist_ok=True)
    path = outbox / f"{identity}.eml"
    part = path.with_suffix(f".{uuid.uuid4().hex}.part")
    part.write_bytes(bytes(message))
    part.replace(path)
    return {
        "messageId": message["Message-ID"],
        "to": email,
        "file": path.as_uri(),
        "size": path.stat().st_size,
    }


@contextmanager
def _store(data_dir: Path) -> Iterator[sqlite3.Connection]:
    """A transaction on the store; several workers may share the file."""
    data_dir.mkdir(parents=True, exist_ok=True)
    store = sqlite3.connect(data_dir / "records.sqlite", timeout=30, isolation_level=None)
    try:
        store.execute(
            "CREATE TABLE IF NOT EXISTS record (collection TEXT, key TEXT, id TEXT, value TEXT, "
            "created TEXT, updated TEXT, task TEXT, PRIMARY KEY (collection, key))"
        )
        store.execute("BEGIN IMMEDIATE")
        yield store
        store.execute("COMMIT")
    finally:
        store.close()  # without a COMMIT, this rolls back
