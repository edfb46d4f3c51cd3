"""What is made with one verb and applied with another: who owns it."""

from typing import Any

from podium.adapters.apply_patch import own_by_apply

Json = dict[str, Any]


def entry(manager: str, operation: str, **more: Any) -> Json:
    return {"manager": manager, "operation": operation, **more}


def test_what_was_made_is_owned_as_if_it_had_been_applied() -> None:
    fields = [
        entry("kubectl", "Apply"),
        entry("kube-controller-manager", "Update"),
        entry("podium", "Update"),
    ]
    assert own_by_apply(fields, "podium") == [
        {"op": "test", "path": "/metadata/managedFields/2/manager", "value": "podium"},
        {"op": "test", "path": "/metadata/managedFields/2/operation", "value": "Update"},
        {"op": "replace", "path": "/metadata/managedFields/2/operation", "value": "Apply"},
    ]


def test_what_was_applied_meanwhile_gives_way() -> None:
    patch = own_by_apply([entry("podium", "Apply"), entry("podium", "Update")], "podium")
    assert patch[2:] == [
        {"op": "replace", "path": "/metadata/managedFields/1/operation", "value": "Apply"},
        {"op": "remove", "path": "/metadata/managedFields/0"},
    ]


def test_nothing_is_to_be_done_for_what_was_applied_or_is_of_others() -> None:
    status = entry("podium", "Update", subresource="status")
    assert own_by_apply([entry("podium", "Apply"), entry("kubectl", "Update"), status], "podium") == []
    assert own_by_apply([], "podium") == []
