"""Arrays that go from task to task through the artifact store, so that Conductor carries their names only."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from podium_workers.runtime.context import Reject
from podium_workers.services.artifacts import ArtifactStore

Floats = NDArray[np.float32]


class ArrayRef(BaseModel):
    """A float32 array in the artifact store, in NumPy's own file format (.npy)."""

    model_config = ConfigDict(extra="ignore")

    sha256: str
    size: int = 0
    """Bytes of the file."""
    shape: tuple[int, ...] = ()


def put_array(store: ArtifactStore, array: NDArray[Any]) -> dict[str, Any]:
    """Stores it as float32; the reference, as a task returns it. Raises StoreFull, Retry."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array, dtype=np.float32), allow_pickle=False)
    data = file.getvalue()
    return {"sha256": store.put(data), "size": len(data), "shape": list(array.shape)}


def get_array(store: ArtifactStore, field: str, ref: ArrayRef, dimensions: int) -> Floats:
    """The array. `field` is named in the Reject for what is no float32 array of so many `dimensions`."""
    data = store.get(ref.sha256)
    try:
        found = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError):
        raise Reject(f"{field}: {ref.sha256[:12]}… in the artifact store is no array") from None
    if not isinstance(found, np.ndarray) or found.dtype != np.float32 or found.ndim != dimensions:
        raise Reject(f"{field}: {ref.sha256[:12]}… is no float32 array of {dimensions} dimension(s)")
    if not found.size:
        raise Reject(f"{field}: {ref.sha256[:12]}… is an empty array")
    return found
