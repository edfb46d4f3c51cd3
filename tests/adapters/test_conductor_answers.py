"""What an answer says of the server that gave it."""

import json

import pytest

from podium.adapters.conductor_answers import Answer, NoEndpoint, raise_for

NO_INNER = "The Task studio.inner defined as a sub-workflow has no workflow definition available"
NO_GET = "Request method 'GET' is not supported"


@pytest.mark.parametrize(
    ("status", "message", "missing"),
    [
        (404, "No static resource api/version.", True),
        (404, "No such workflow found by id: x", False),
        (405, NO_GET, True),
        (500, NO_GET, True),
        (500, f"Task x failed: {NO_GET}", False),
        (501, "later", True),
        (503, "No static resource", False),
        (400, NO_GET, False),
    ],
)
def test_an_older_server_is_told_from_an_ill_one_and_from_what_is_absent(
    status: int, message: str, missing: bool
) -> None:
    answer = Answer(status, json.dumps({"message": message}), "application/json")
    assert answer.is_no_endpoint is missing
    if missing:
        assert answer.outcome(wants_json=True)[0] == "fine"
        with pytest.raises(NoEndpoint):
            raise_for(answer)


@pytest.mark.parametrize(("message", "outcome"), [(NO_INNER, "fine"), ("out of order", "broken")])
def test_one_tenants_missing_sub_workflow_is_no_outage_for_all(message: str, outcome: str) -> None:
    answer = Answer(500, json.dumps({"message": message}), "application/json")
    assert answer.outcome(wants_json=False)[0] == outcome
    assert answer.lacks_sub_workflow is (outcome == "fine")


def test_the_404_of_something_else_is_no_older_server() -> None:
    assert not Answer(404, "<html>No static resource", "text/html").is_no_endpoint
    assert not Answer(405, "no", "text/plain").is_no_endpoint
