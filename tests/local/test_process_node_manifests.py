"""What a pod's manifest becomes on the stand-in node, and how a pod is told; without servers."""

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from podium.local.errors import LocalError
from podium.local.process_node.addresses import Addresses, claim_network, find_network
from podium.local.process_node.container import (
    ConfigError,
    Place,
    build_command,
    expand,
    find_references,
    find_volumes,
)
from podium.local.process_node.probes import parse_probe
from podium.local.process_node.status import (
    Running,
    Seen,
    Waiting,
    build_pod_status,
    cut_message,
    describe_end,
    is_restarted,
    next_delay,
)

PLACE = Place("node", "127.70.0.1", "127.70.1.1")
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
Json = dict[str, Any]


def pod(container: Json, **spec: Any) -> Json:
    metadata = {"name": "a", "namespace": "studio", "uid": "u", "labels": {"team": "media"}}
    container = {"name": "worker", "image": "worker:1", **container}
    return {"metadata": metadata, "spec": {"containers": [container], **spec}}


def environment(*items: Json, values: Any = None) -> Any:
    return build_command(pod({"env": list(items)}), PLACE, values or {}, {}, ("run",)).env


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$(MISSING)", "$(MISSING)"),
        ("$$(A)", "$(A)"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("100$", "100$"),
    ],
)
def test_variables_are_expanded_as_kubernetes_does(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expanded


def test_a_value_knows_only_the_variables_above_it() -> None:
    env = environment(
        {"name": "A", "value": "$(B)"}, {"name": "B", "value": "2"}, {"name": "C", "value": "$(B)"}
    )
    assert env == {"A": "$(B)", "B": "2", "C": "2"}


def test_without_a_command_the_entrypoint_runs() -> None:
    assert build_command(pod({"args": ["--x"]}), PLACE, {}, {}, ("podium-worker",)).argv == (
        "podium-worker",
        "--x",
    )


def test_all_addresses_become_the_pods_own() -> None:
    command = build_command(
        pod({"command": ["w", "--listen", "0.0.0.0:80", "--version=10.0.0.0"]}), PLACE, {}, {}, ("run",)
    )
    assert command.argv == ("w", "--listen", "127.70.1.1:80", "--version=10.0.0.0")


def test_mount_paths_become_folders() -> None:
    folders = {"/data": "/f/0", "/data/cache": "/f/1"}
    argv = ["w", "/data", "--dir=/data/x", "/data/cache/y", "/database", "see /data"]
    command = build_command(pod({"command": argv}), PLACE, {}, folders, ("run",))
    assert command.argv == ("w", "/f/0", "--dir=/f/0/x", "/f/1/y", "/database", "see /data")


def test_fields_of_the_pod_are_known() -> None:
    fields = {"metadata.name": "a", "metadata.labels['team']": "media", "status.hostIP": "127.70.0.1"}
    for path, value in fields.items():
        assert environment({"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}) == {"X": value}
    with pytest.raises(ConfigError, match=r"does not know the field spec\.other"):
        environment({"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "spec.other"}}})
    with pytest.raises(ConfigError, match="env X: the stand-in node does not know resourceFieldRef"):
        environment({"name": "X", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}})


def test_missing_references_are_told_as_a_kubelet_does() -> None:
    wanted: Json = {"name": "login", "key": "password"}
    item: Json = {"name": "X", "valueFrom": {"secretKeyRef": wanted}}
    assert find_references(pod({"env": [item]})) == {("Secret", "login")}
    with pytest.raises(ConfigError, match='secret "login" not found'):
        environment(item)
    with pytest.raises(ConfigError, match="couldn't find key password in Secret studio/login"):
        environment(item, values={("Secret", "login"): {"user": b"me"}})
    wanted["optional"] = True
    assert environment(item) == environment(item, values={("Secret", "login"): {}}) == {}


def test_volumes_hold_what_they_name() -> None:
    mounts = [{"name": name, "mountPath": f"/{name}/"} for name in ("scratch", "ca", "host")]
    volumes = [
        {"name": "scratch", "emptyDir": {}},
        {"name": "ca", "configMap": {"name": "ca", "items": [{"key": "ca.crt", "path": "certs/ca.pem"}]}},
        {"name": "host", "hostPath": {"path": "/"}},
    ]
    body = pod({"volumeMounts": mounts}, volumes=volumes)
    assert find_references(body) == {("ConfigMap", "ca")}
    values = {("ConfigMap", "ca"): {"ca.crt": b"x", "other": b"y"}}
    assert find_volumes(body, values) == {"/scratch": {}, "/ca": {"certs/ca.pem": b"x"}}


@pytest.mark.parametrize(
    ("port", "url"), [(80, "http://127.70.1.1:80/ready"), ("web", "http://127.70.1.1:8080/ready")]
)
def test_a_probe_asks_the_pods_address(port: int | str, url: str) -> None:
    container = {
        "ports": [{"name": "web", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "ready", "port": port}, "periodSeconds": 2},
    }
    probe = parse_probe(container, "readinessProbe", "127.70.1.1")
    assert probe is not None
    assert (probe.url, probe.period, probe.timeout, probe.failures, probe.successes) == (url, 2, 1, 3, 1)
    assert parse_probe(container, "livenessProbe", "127.70.1.1") is None


def test_restarts_wait_longer_each_time() -> None:
    delays: list[float] = []
    before = None
    for _ in range(8):
        before = next_delay(before, ran=0.1)
        delays.append(before)
    assert delays == [0, 1, 2, 4, 8, 16, 30, 30]
    assert next_delay(30, ran=61) == 0


@pytest.mark.parametrize(
    ("policy", "zero", "one"), [("Always", True, True), ("OnFailure", False, True), ("Never", False, False)]
)
def test_the_restart_policy_holds(policy: str, zero: bool, one: bool) -> None:
    assert is_restarted(pod({}, restartPolicy=policy), 0) is zero
    assert is_restarted(pod({}, restartPolicy=policy), 1) is one


def test_last_words_are_the_end_of_the_log() -> None:
    assert cut_message(b"x" * 5000) == "x" * 2048
    assert cut_message(b"".join(b"%d\n" % n for n in range(200))).splitlines() == [
        str(n) for n in range(120, 200)
    ]


def told(seen: Seen, written: Json | None = None, now: dt.datetime = NOW) -> Json:
    return build_pod_status(pod({}), seen, PLACE, written or {}, now)


def test_a_pod_is_told_in_the_words_of_a_kubelet() -> None:
    seen = Seen(NOW)
    assert told(seen)["phase"] == "Pending"
    seen = replace(seen, state=Running(NOW), ready=True, started=True)
    assert told(seen)["phase"] == "Running"
    crashed = seen.ended(describe_end(3, NOW, NOW, "no license"))
    assert told(crashed)["containerStatuses"][0] | {"image": ""} == {
        "name": "worker",
        "image": "",
        "imageID": "",
        "state": {
            "terminated": {
                "exitCode": 3,
                "reason": "Error",
                "message": "no license",
                "startedAt": "2026-01-01T00:00:00Z",
                "finishedAt": "2026-01-01T00:00:00Z",
            }
        },
        "lastState": {},
        "restartCount": 0,
        "started": False,
        "ready": False,
    }
    waiting = replace(crashed, state=Waiting("CrashLoopBackOff"))
    assert told(waiting)["phase"] == "Running"
    assert told(waiting)["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 3
    assert told(replace(crashed, over=True))["phase"] == "Failed"
    done = replace(seen.ended(describe_end(0, NOW, NOW, "")), over=True)
    assert told(done)["phase"] == "Succeeded"
    assert told(done)["conditions"][-1]["reason"] == "PodCompleted"


def test_a_condition_keeps_the_time_of_its_last_change() -> None:
    first = told(Seen(NOW))
    later = NOW + dt.timedelta(minutes=1)
    second = told(Seen(NOW, ready=True), first, later)
    times = {item["type"]: item["lastTransitionTime"] for item in second["conditions"]}
    assert times["PodScheduled"] == "2026-01-01T00:00:00Z"
    assert times["Ready"] == times["ContainersReady"] == "2026-01-01T00:01:00Z"


def test_two_nodes_never_share_a_network() -> None:
    with claim_network() as first, claim_network() as second:
        one, other = first.getsockname()[0], second.getsockname()[0]
        assert one != other
        with pytest.raises(LocalError, match="no loopback network"):
            claim_network(one)
    with claim_network(one):
        assert find_network() != one


def test_addresses_of_pods_are_used_again_late() -> None:
    addresses = Addresses("127.70.0.1")
    first = addresses.take()
    addresses.give_back(first)
    second = addresses.take()
    assert (first, second) == ("127.70.1.1", "127.70.1.2")
