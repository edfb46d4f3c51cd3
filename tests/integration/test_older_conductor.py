"""On an older Conductor runs and Workflows work the same, only slower; and the status says what it lacks."""

import pytest

from integration.test_connections import connection, until_connected
from support.bed import Bed, workflow, workflow_run
from support.eventually import eventually
from support.older_proxy import NO_BULK, NO_NAMES, NO_SEARCH, NO_VERSION, NO_VERSIONS, OlderProxy

pytestmark = pytest.mark.slow

OLDER = (NO_VERSION, NO_VERSIONS, NO_NAMES, NO_BULK, NO_SEARCH)


async def test_runs_end_and_drift_is_mended_on_a_server_that_lacks_all_it_can(bed: Bed) -> None:
    async with OlderProxy(bed.server.url, *OLDER, address=True) as older:
        # No notice arrives either.
        await bed.start_operator(conductor_url=older.url, listen="127.0.0.1:0")
        await bed.start_worker("a", "b")
        await bed.apply(
            workflow("old", "a", "b"),
            *(workflow_run(f"r{number}", "old") for number in range(5)),
        )
        for number in range(5):
            await bed.until_phase(f"r{number}", "Succeeded")
        [stored] = await bed.conductor.get_definitions(f"{bed.namespace}.old")
        await bed.conductor.put_definition({**stored, "timeoutSeconds": 7, "timeoutPolicy": "TIME_OUT_WF"})
        await eventually(
            lambda: bed.kubectl("get", "events.events.k8s.io", "-n", bed.namespace),
            lambda text: "Restored" in text,
        )
        [restored] = await bed.conductor.get_definitions(f"{bed.namespace}.old")
        assert restored["timeoutSeconds"] == stored["timeoutSeconds"]
        assert older.asked["POST /api/workflow/bulk/search"] == 0
        await bed.stop_operator()


async def test_the_status_of_a_connection_says_what_its_server_lacks(bed: Bed) -> None:
    async with OlderProxy(bed.server.url, NO_BULK, NO_VERSION) as older:
        await bed.start_operator()
        await bed.apply(connection("old", older.url), connection("new", bed.server.url))
        old = (await until_connected(bed, "old"))["status"]
        new = (await until_connected(bed, "new"))["status"]
        assert (old["version"], old["store"]) == (new["version"], new["store"])
        assert [words.partition(":")[0] for words in old["missing"]] == ["reading many runs in one request"]
        assert "missing" not in new
        assert set(new["features"]) - set(old["features"]) == {"bulk-read"}
        await bed.stop_operator()
