"""Until tests/conftest.py gives a `cluster` to all tests: one that already runs."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class RunningCluster:
    kubeconfig: Path
    kubectl: Path


@pytest.fixture(scope="session")
def cluster() -> RunningCluster:
    if "KUBECONFIG" not in os.environ:
        pytest.skip("set KUBECONFIG and KUBECTL to a cluster in which crds/ are installed")
    return RunningCluster(Path(os.environ["KUBECONFIG"]), Path(os.environ.get("KUBECTL", "kubectl")))
