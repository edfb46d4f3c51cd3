"""Hundreds of updates with faults by chance: no verdict says what is not so."""

from support.campaign import find_lies, run_campaign, tally


async def test_of_500_updates_with_faults_no_verdict_is_false():
    records = await run_campaign(500, seed=20261, at_once=120)
    lies = find_lies(records)
    assert not any(lies.values()), lies
    seen = tally(records)
    assert seen["Succeeded"] >= 200
    assert len(seen) >= 20, f"the faults are not what they were: {seen}"
