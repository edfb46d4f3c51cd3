"""Whose a definition in Conductor is: what Podium writes into its `metadata`, and how it is read."""

from podium.ports import Json

OWNER = "owner"


def podium_metadata(definition: Json) -> Json:
    """What Podium keeps in a definition's metadata; empty for one that is not ours."""
    found = (definition.get("metadata") or {}).get("podium")
    return found if isinstance(found, dict) else {}


def owner_key(cluster_id: str, namespace: str, name: str) -> str:
    """Who a definition belongs to: it stays the same when the object is deleted and made again."""
    return f"{cluster_id}/{namespace}/{name}"


def with_owner(definition: Json, owner: str, version: int) -> Json:
    """The definition as it is stored: with its version, and marked as ours."""
    metadata = dict(definition.get("metadata") or {})
    metadata["podium"] = {**metadata.get("podium", {}), OWNER: owner}
    return {**definition, "metadata": metadata, "version": version}


def is_owned(definition: Json, owner: str) -> bool:
    """Whether it was registered for this owner."""
    return podium_metadata(definition).get(OWNER) == owner
