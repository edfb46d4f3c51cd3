"""Each fault of a device or of its firmware leads to a reason of its own, through the real protocol."""

import asyncio
from dataclasses import replace

import pytest

from podium_workers.firmware.device_update import check_device, look_at, send_image
from podium_workers.services.ota import Target, Timing
from podium_workers.simulator.faults import KINDS, FaultError, parse_fault
from podium_workers.simulator.firmware import build_image
from support.eventually import eventually
from support.fleets import COMMIT, OLD, build_fleet, new_image, open_bench

SMALL, LARGE = 16 * 1024, 160 * 1024

# fault, size of the image, other settings of the device, what came of it, whether the new firmware runs
EXPECTED = [
    ("invitation-lost:times=2", SMALL, {}, "Succeeded", True),
    ("invitation-lost:times=0", SMALL, {}, "Failed/NoAnswer", False),
    ("answer-lost:times=1", SMALL, {}, "Succeeded", True),
    ("answer-lost:times=1", SMALL, {"auth": "none"}, "Succeeded", True),
    ("answer-lost:times=1", SMALL, {"auth": "pbkdf2-md5"}, "Succeeded", True),
    ("busy-loop:seconds=0.4", SMALL, {}, "Succeeded", True),
    ("password-changed", SMALL, {}, "Failed/PasswordWrong", False),
    ("password-changed", SMALL, {"auth": "pbkdf2"}, "Failed/PasswordWrong", False),
    ("odd-nonce", SMALL, {}, "Failed/UnknownAuthentication", False),
    ("odd-answer", SMALL, {}, "Failed/UnexpectedAnswer", False),
    ("no-connection", SMALL, {}, "Failed/NoConnection", False),
    ("late-connection:seconds=0.7", SMALL, {}, "Succeeded", True),
    ("late-connection:seconds=2.5", SMALL, {}, "Failed/NoConnection", False),
    ("drop:how=close", LARGE, {}, "Failed/ConnectionClosed", False),
    ("drop:how=reset", LARGE, {}, "Failed/ConnectionReset", False),
    ("drop:how=silence", LARGE, {}, "Failed/Stalled", False),
    ("drop:at=99,how=close", SMALL, {}, "Failed/NotTaken", False),
    ("stall:seconds=1", LARGE, {}, "Succeeded", True),
    ("slow:rate=40000", SMALL, {}, "Succeeded", True),
    ("bit-flip", SMALL, {}, "Failed/ChecksumMismatch", False),
    ("flash-error", SMALL, {}, "Failed/FlashFailed", False),
    ("flash-error", LARGE, {}, "Failed/FlashFailed", False),
    ("power-loss", LARGE, {}, "Failed/Stalled", False),
    ("power-loss:at=99", SMALL, {}, "Failed/NotTaken", False),
    ("ok-lost", SMALL, {}, "Succeeded", True),
    ("ok-cut", SMALL, {}, "Succeeded", True),
    ("no-restart", SMALL, {}, "Failed/NotRestarted", False),
    ("stuck-old-version", SMALL, {}, "Failed/StuckOldVersion", False),
    ("power-loss-on-first-boot", SMALL, {}, "Failed/RolledBack", False),
    ("power-loss-on-first-boot", SMALL, {"confirm": "boot"}, "Succeeded", True),
    ("lost-after-update", SMALL, {}, "Unknown/NeverCameBack", False),
    ("other-device", SMALL, {}, "Failed/WrongDevice", False),
    ("offline", SMALL, {}, "Failed/NoAnswer", False),
    ("health-error", SMALL, {}, "Unknown/HealthError", True),
    ("health-garbage", SMALL, {}, "Unknown/HealthUnreadable", True),
    ("health-slow", SMALL, {}, "Unknown/HealthTooSlow", True),
    ("health-absent", SMALL, {}, "Unknown/NoHealthApi", True),
    ("uptime-wrap", SMALL, {}, "Succeeded", True),
    ("uptime-wrap", SMALL, {"faults": ["no-restart"]}, "Failed/NotRestarted", False),
    ("boot-loop", SMALL, {}, "Failed/RolledBack", False),
    ("boot-loop", SMALL, {"confirm": "boot"}, "Unknown/NeverCameBack", True),
    ("boot-loop", SMALL, {"rollback": False}, "Unknown/NeverCameBack", True),
    ("hang:after=4", SMALL, {}, "Failed/Hangs", True),
    ("low-heap", SMALL, {}, "Failed/LowHeap", True),
    ("heap-leak:rate=40000", SMALL, {}, "Failed/LowHeap", True),
    ("fragmented-heap", SMALL, {}, "Failed/FragmentedHeap", True),
    ("slow-frames:factor=3", SMALL, {}, "Succeeded", True),
    ("wrong-build", SMALL, {}, "Failed/WrongBuild", True),
    ("dirty-build", SMALL, {}, "Failed/DirtyBuild", True),
    ("failed-check", SMALL, {}, "Failed/ChecksFailed", True),
]


@pytest.fixture(scope="module")
async def outcomes():
    """All of EXPECTED, carried out at the same time: most of it is waiting."""
    specs = []
    for number, (fault, _, settings, _, _) in enumerate(EXPECTED, start=1):
        given = {"faults": [], **settings}
        (spec,) = build_fleet(fault, *given.pop("faults"), name=f"d{number}", **given)
        specs.append(replace(spec, address=f"127.77.1.{number}"))
    async with open_bench(specs) as bench:
        updates = zip(bench.fleet.devices, EXPECTED, strict=True)
        return await asyncio.gather(
            *(bench.update(device, new_image(size=row[1])) for device, row in updates)
        )


@pytest.mark.parametrize("number", range(len(EXPECTED)), ids=[f"{row[0]}-{row[3]}" for row in EXPECTED])
def test_a_fault_has_its_reason(number, outcomes):
    _, _, _, outcome, runs_new = EXPECTED[number]
    seen = outcomes[number]
    assert str(seen) == outcome, seen.message
    assert seen.runs_new is runs_new
    assert (outcome == "Succeeded") <= seen.well


async def test_a_connection_from_another_address_is_noticed_and_refused():
    async with open_bench(build_fleet("connection-from-elsewhere")) as bench:
        seen = await bench.update(bench.fleet.devices[0], new_image())
    assert str(seen) == "Failed/ConnectionFromElsewhere"
    assert "127.0.0.99 connected" in seen.message


async def test_a_device_that_comes_and_goes_is_not_called_well():
    async with open_bench(build_fleet("flapping:up=12,down=6", confirm="boot")) as bench:
        seen = await bench.update(bench.fleet.devices[0], new_image(), consecutive=12, within=5.0)
    assert str(seen) == "Unknown/Unsteady", seen.message


def test_each_fault_is_tried():
    assert set(KINDS) - {parse_fault(row[0]).name for row in EXPECTED} == {
        "accepts-unsigned",
        "connection-from-elsewhere",
        "flapping",
    }


@pytest.mark.parametrize(
    ("auth", "scheme"),
    [
        ("none", "None"),
        ("md5", "Md5"),
        ("pbkdf2", "Pbkdf2Sha256"),
        ("pbkdf2-md5", "Pbkdf2Sha256OfMd5"),
    ],
)
async def test_each_way_to_prove_the_password_is_found_out(auth, scheme):
    async with open_bench(build_fleet(auth=auth)) as bench:
        seen = await bench.update(bench.fleet.devices[0], new_image())
    assert str(seen) == "Succeeded"
    assert seen.deployment.verdict.auth == scheme


async def test_a_device_that_wants_a_password_gets_none():
    async with open_bench(build_fleet()) as bench:
        device = bench.fleet.devices[0]
        seen = await bench.update(device, new_image(), subject=bench.subject(device, password=None))
    assert str(seen) == "Failed/PasswordMissing"


@pytest.mark.parametrize(
    ("image", "settings", "reason"),
    [
        (new_image(chip="ESP32C3"), {}, "WrongChip"),
        (new_image(size=64 * 1024), {"slot_size": 32 * 1024}, "ImageTooLarge"),
        (new_image(), {"secure_version": 4}, "OlderSecureVersion"),
        (b"\x7fELF" + bytes(5000), {}, "NotAnImage"),
        (new_image()[:-40], {}, "NotAnImage"),
        (new_image()[:-1] + b"?", {}, "ImageBroken"),
        (b"", {}, "NotAnImage"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_a_device_would_not_take_is_not_sent(image, settings, reason):
    async with open_bench(build_fleet(**settings)) as bench:
        seen = await bench.update(bench.fleet.devices[0], image)
    assert str(seen) == f"Failed/{reason}", seen.message
    assert bench.fleet.devices[0].updates == 0


@pytest.mark.parametrize(
    ("image", "settings", "reason"),
    [
        (new_image(chip="ESP32C3"), {}, "ActivationRefused"),
        (new_image(size=64 * 1024), {"slot_size": 32 * 1024}, "NoConnection"),
        (new_image(), {"secure_version": 4}, "ActivationRefused"),
        (b"\x7fELF" + bytes(5000), {}, "WrongMagic"),
        (b"\x7fELF" + bytes(500), {}, "WrongMagic"),
        (new_image()[:-1] + b"?", {}, "ActivationRefused"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_sent_all_the_same_the_device_refuses(image, settings, reason):
    async with open_bench(build_fleet(**settings)) as bench:
        device = bench.fleet.devices[0]
        verdict = await bench.gateway.send(image, bench.subject(device).target)
        assert (type(verdict).__name__, verdict.reason) == ("Failed", reason), verdict
        assert device.board.firmware is device.board.factory


async def test_a_leak_that_passes_the_check_is_found_in_the_soak():
    async with open_bench(build_fleet("heap-leak:rate=8000")) as bench:
        device = bench.fleet.devices[0]
        seen = await bench.update(device, new_image())
        assert str(seen) == "Succeeded"
        wanted = replace(seen.deployment.expectation(COMMIT), within=6.0, consecutive=10)
        decided = await check_device(bench.api, bench.subject(device).page, wanted, interval=0.2)
    assert decided.reason == "LowHeap"


async def test_a_device_that_nothing_listens_at_is_told_from_one_that_is_silent():
    async with open_bench(build_fleet()) as bench:
        nobody = await bench.gateway.send(new_image(), Target("127.77.0.1", 9))
        nowhere = await bench.gateway.send(new_image(), Target("no-such-device.invalid"))
    assert (nobody.reason, nowhere.reason) == ("NothingListens", "AddressUnknown")


async def test_one_address_is_not_updated_twice_at_once():
    async with open_bench(build_fleet()) as bench:
        target = bench.subject(bench.fleet.devices[0]).target
        verdicts = await asyncio.gather(*(bench.gateway.send(new_image(), target) for _ in range(2)))
    assert sorted(type(verdict).__name__ for verdict in verdicts) == ["Failed", "Succeeded"]
    assert "AddressBusy" in [getattr(verdict, "reason", "") for verdict in verdicts]
    assert bench.fleet.devices[0].updates == 1


async def test_a_fault_in_the_image_hits_only_some_devices_and_always_the_same():
    image = new_image(faults=["low-heap:percent=30"])
    seen = []
    for _ in range(2):
        async with open_bench(build_fleet(count=20)) as bench:
            outcomes = await asyncio.gather(*(bench.update(each, image) for each in bench.fleet.devices))
        seen.append([outcome.device for outcome in outcomes if str(outcome) == "Failed/LowHeap"])
        assert {str(outcome) for outcome in outcomes} == {"Succeeded", "Failed/LowHeap"}
    assert seen[0] == seen[1]
    assert 2 <= len(seen[0]) <= 12


async def test_a_device_says_what_it_runs_already():
    async with open_bench(build_fleet()) as bench:
        page = bench.subject(bench.fleet.devices[0]).page
        seen = await look_at(bench.api, page)
        assert seen.runs(OLD)
        assert not seen.runs(COMMIT)
        nobody = await look_at(bench.api, replace(page, host="127.77.9.99"))
    assert not nobody.runs(OLD)


async def test_a_device_that_has_not_confirmed_its_firmware_gets_no_other():
    async with open_bench(build_fleet(confirm="api")) as bench:
        device = bench.fleet.devices[0]
        subject = bench.subject(device)
        await send_image(bench.gateway, new_image(), subject, await look_at(bench.api, subject.page))

        async def state() -> str:
            return device.board.slot.state if device.power == "on" else ""

        await eventually(state, lambda seen: seen == "pending_verify")
        seen = await bench.update(device, build_image("abcdef1", size=4096))
    assert str(seen) == "Failed/Unconfirmed"
    assert device.updates == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("low-haep", "there is no fault 'low-haep'; did you mean 'low-heap'?"),
        ("zzz", "there is no fault 'zzz'; `podium simulate faults` lists them"),
        ("drop:at=half", "drop: at=half is not a number"),
        ("drop:at=150", "drop: at=150 is more than 100 percent"),
        ("drop:how=gently", "drop: how=gently is not one of close, reset, silence"),
        ("drop:when=5", "drop has no parameter 'when'; it has at, how, percent, times, where"),
        ("slow:rate=-1", "slow: rate=-1 is out of range"),
        ("slow:rate", "slow has no parameter 'rate'"),
    ],
)
def test_a_fault_that_is_misspelt_is_explained(text, words):
    with pytest.raises(FaultError) as caught:
        parse_fault(text)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", KINDS)
def test_a_fault_reads_as_it_is_written(name):
    assert str(parse_fault(name)) == name
    assert parse_fault(str(parse_fault(f"{name}:percent=5"))).number("percent") == 5


def test_a_device_has_patience_of_its_own():
    assert Timing().connect > 3
    assert Timing().stall > 4
