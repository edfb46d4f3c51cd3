"""A folder of manifests that a cluster is kept in step with: what changed is applied, nothing is deleted."""

from collections.abc import Callable, Iterable
from pathlib import Path

import click

from podium.cli.lint import ENDINGS, check, read_files
from podium.core.definitions import Rules
from podium.core.definitions.manifests import Manifest, read_manifests
from podium.local.errors import LocalError

Kubectl = Callable[..., str]
"""kubectl with these arguments: its standard output, or LocalError with what it said."""


class ManifestFolder:
    """The manifests below `folder`, as they were applied last."""

    def __init__(self, folder: Path, kubectl: Kubectl, say: Callable[[str], None] = click.echo) -> None:
        self.folder = folder
        self._kubectl = kubectl
        self._say = say
        self._applied: dict[Path, frozenset[str]] = {}

    def holds(self, path: Path) -> bool:
        """Whether this is one of its manifests, there or gone."""
        return path.suffix in ENDINGS and path.is_relative_to(self.folder)

    def apply_all(self) -> None:
        """Every manifest in it."""
        self.apply(path for path in self.folder.rglob("*") if self.holds(path) and path.is_file())

    def apply(self, paths: Iterable[Path]) -> None:
        """These of its manifests, each for itself; one with an error changes nothing."""
        for path in sorted(paths):
            name = str(path.relative_to(self.folder))
            if not path.exists():
                self._tell_left(name, self._applied.pop(path, frozenset()))
            elif (titles := self._read(path, name)) is not None:
                self._apply(path, name, titles)

    def _apply(self, path: Path, name: str, titles: frozenset[str]) -> None:
        if not titles:
            return  # empty, or nothing but comments
        try:
            # All of it or nothing: kubectl would apply the objects before the one that is refused. Of what is
            # in a namespace that the manifest itself brings, the server can say nothing before that is there.
            if not any(title.startswith("namespace/") for title in titles):
                self._kubectl("apply", "--dry-run=server", "-f", str(path))
            answer = self._kubectl("apply", "-f", str(path))
        except LocalError as error:
            self._say(f"{name} is not applied: {error}")
            return
        for line in answer.splitlines():
            if not line.endswith(" unchanged"):
                self._say(f"{name}: {line}")
        self._tell_left(name, self._applied.get(path, frozenset()) - titles)
        self._applied[path] = titles

    def _read(self, path: Path, name: str) -> frozenset[str] | None:
        """The objects in a manifest; None, and what is wrong is said, if it has errors."""
        there: list[tuple[str, Manifest]] = []
        wrong: list[str] = []
        for file, text in read_files([str(self.folder)], unread := []):
            try:
                there += [(file, item) for item in read_manifests(text)]
            except ValueError as error:
                unread.append(f"{file}: {error}")
        wrong += [line for line in unread if line.startswith(f"{path}:")]
        for remark in check(there, "default", Rules()):
            if remark.file == str(path):
                self._say(str(remark).replace(str(path), name, 1))
                if remark.finding.level == "error":
                    wrong.append("")
        for line in filter(None, wrong):
            self._say(line.replace(str(path), name, 1))
        if wrong:
            self._say(f"{name} is not applied: it has errors")
            return None
        return frozenset(
            f"{item.kind.lower()}/{item.name}" + (f" -n {item.namespace}" if item.namespace else "")
            for file, item in there
            if file == str(path) and item.kind
        )

    def _tell_left(self, name: str, titles: Iterable[str]) -> None:
        for title in sorted(titles):
            self._say(f"{title} is gone from {name} and stays in the cluster: kubectl delete {title}")
