"""A git repository that grows by commits, and the tasks of firmware CI/CD as a worker would call them."""

import os
import subprocess
from pathlib import Path
from typing import Any

import podium_workers.firmware  # noqa: F401 - registers the tasks
from podium_workers import TaskContext, registry

SAMPLE = Path(__file__).parents[2] / "manifests" / "firmware" / "sample"


class Repository:
    """A git repository. `commit` writes files (None removes one) and returns the new commit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch", "main")

    @property
    def url(self) -> str:
        return str(self.folder)

    def git(self, *arguments: str) -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "GIT_AUTHOR_NAME": "A Maker",
            "GIT_AUTHOR_EMAIL": "maker@example.com",
            "GIT_COMMITTER_NAME": "A Maker",
            "GIT_COMMITTER_EMAIL": "maker@example.com",
            "GIT_AUTHOR_DATE": "2026-03-01T12:00:00Z",
            "GIT_COMMITTER_DATE": "2026-03-01T12:00:00Z",
        }
        done = subprocess.run(
            ["git", "-C", str(self.folder), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def commit(self, message: str = "Something changes", **files: str | None) -> str:
        for name, text in files.items():
            path = self.folder / name
            if text is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")


class Run:
    """One workflow's tasks: calls them with JSON, as the runtime does; what they logged is in `lines`."""

    def __init__(self, data_dir: Path, workflow_id: str = "run-1") -> None:
        self.context = TaskContext("task-1", workflow_id, "kind", "ref", 1, 1, None, data_dir, "worker")
        self.lines: list[str] = []

    async def __call__(self, task_type: str, **given: Any) -> Any:
        function = registry[task_type]
        args, kwargs = function.signature.bind(given, self.context)
        try:
            found = function.call(*args, **kwargs)
            return await found if function.is_async else found
        finally:
            self.lines += [line for _, line in self.context.take_lines()]
