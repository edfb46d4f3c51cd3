"""What only the commands of a person need: their context and name, patches under their own name, task logs.

The operator never uses this: it neither patches what people own, nor follows anyone's current context.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from kubernetes.aio import client, config

from podium.adapters.conductor import HttpConductor
from podium.adapters.kubernetes import KubernetesCluster, translate_errors
from podium.api.v1alpha1 import GROUP, KINDS, VERSION
from podium.core.definitions.findings import did_you_mean
from podium.ports import Json, Key, Refused

_PLURALS = {kind.kind: kind.plural for kind in KINDS}
_MERGE_PATCH = "application/merge-patch+json"
_JSON_PATCH = "application/json-patch+json"
_REQUEST_TIMEOUT = 30
_IN_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class LogLine:
    """One line that a worker wrote to a task's log. `at_ms`: milliseconds since 1970."""

    task_id: str
    at_ms: int
    text: str


@dataclass(frozen=True)
class Caller:
    """Who asks, by the name under which the API server knows them, and when."""

    name: str
    now: datetime


class PersonalCluster(KubernetesCluster):
    """The API server as the user of a kubeconfig sees it. `namespace`: that of the context."""

    manager = "podium-cli"

    def __init__(self, configuration: Any, namespace: str) -> None:
        super().__init__(configuration)
        self.namespace = namespace

    async def read_caller(self) -> Caller:
        """Who the caller is, and what time it is, as the API server knows it."""
        async with translate_errors():
            answer = await client.AuthenticationV1Api(self._api).create_self_subject_review(
                {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
                _request_timeout=_REQUEST_TIMEOUT,
            )
        # Its own clock: one that is slow here would date an answer before the question.
        return Caller(
            answer.status.user_info.username, answer.metadata.creation_timestamp or datetime.now(UTC)
        )

    async def merge_as_user(self, key: Key, patch: Json, *, resource_version: str) -> Json:
        """Merge into the object, if it is unchanged since (Conflict). Raises Gone, Refused."""
        body = {**patch, "metadata": {"resourceVersion": resource_version}}
        return await self._patch(key, body, _MERGE_PATCH)

    async def patch_as_user(self, key: Key, operations: Sequence[Json], *, status: bool = False) -> Json:
        """A JSON patch (RFC 6902) of the object, or of its status. A failed `test` is Refused too."""
        return await self._patch(key, list(operations), _JSON_PATCH, status=status)

    async def _patch(self, key: Key, patch: object, content_type: str, *, status: bool = False) -> Json:
        verb = (
            self._objects.patch_namespaced_custom_object_status
            if status
            else self._objects.patch_namespaced_custom_object
        )
        async with translate_errors():
            stored: Json = await verb(
                GROUP,
                VERSION,
                key.namespace,
                _PLURALS[key.kind],
                key.name,
                patch,
                field_manager=self.manager,
                _content_type=content_type,
                _request_timeout=_REQUEST_TIMEOUT,
            )
            return stored


async def open_personal_cluster(kubeconfig: str | None, context: str | None) -> PersonalCluster:
    """As kubectl chooses: what is named, else the current context, else the pod's own account.

    Raises Refused with what is wrong with the kubeconfig.
    """
    configuration = client.Configuration()
    files = _choose_files(kubeconfig, context)
    if files is None:
        config.load_incluster_config(client_configuration=configuration)
        return PersonalCluster(configuration, _read_pod_namespace())
    try:
        loader = await config.load_kube_config(
            config_file=files, context=context, client_configuration=configuration
        )
    except (config.ConfigException, OSError, ValueError, yaml.YAMLError) as error:
        raise Refused(f"{files}: {_what_is_wrong(files, context) or error}") from error
    return PersonalCluster(configuration, loader.current_context["context"].get("namespace") or "default")


def _choose_files(kubeconfig: str | None, context: str | None) -> str | None:
    """The kubeconfig, or several in one string; None in a pod that has none. Raises Refused."""
    files = kubeconfig or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    if any(Path(file).exists() for file in files.split(os.pathsep) if file):
        return files
    if kubeconfig or context or not _IN_POD.exists():
        raise Refused(f"no kubeconfig at {files}: name one with --kubeconfig or $KUBECONFIG")
    return None


def _read_pod_namespace() -> str:
    return _IN_POD.read_text(encoding="utf-8").strip()


def _what_is_wrong(files: str, context: str | None) -> str:
    """Why no context could be chosen, if that is the matter."""
    try:
        named = yaml.safe_load(Path(files.split(os.pathsep, maxsplit=1)[0]).read_text(encoding="utf-8"))
        names = [str(item["name"]) for item in named.get("contexts") or []]
        wanted = context or named.get("current-context")
    except (OSError, ValueError, TypeError, AttributeError, KeyError, yaml.YAMLError):
        return ""
    if not wanted:
        return "no current context is set: name one with --context"
    if wanted not in names:
        return f"there is no context {wanted!r}; {did_you_mean(wanted, names)}".rstrip("; ")
    return ""


class PersonalConductor(HttpConductor):
    """Conductor, where a command needs more of a run than its status has."""

    async def read_run(self, workflow_id: str) -> Json:
        """The run without its tasks, as Conductor has it. Raises Gone."""
        params = {"includeTasks": "false"}
        found: Json = await self._read("GET", f"/workflow/{workflow_id}", params=params)
        return found

    async def list_logs(self, task_id: str) -> list[LogLine]:
        """What workers wrote to the log of one attempt of a task, oldest first."""
        found = await self._read("GET", f"/tasks/{task_id}/log", absent=[])
        lines = [
            LogLine(task_id, int(item.get("createdTime") or 0), str(item.get("log", "")))
            for item in found or []
        ]
        return sorted(lines, key=lambda line: line.at_ms)
