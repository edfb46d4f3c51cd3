"""The inside of a simulated device: what a bootloader does with two slots."""

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from podium_workers.simulator.board import SIGNATURE_BYTES, Board
from podium_workers.simulator.faults import FaultSet, parse_fault
from podium_workers.simulator.firmware import build_image
from podium_workers.simulator.spec import DeviceSpec

SMALL = {"size": 2048}


def board(*faults, **spec):
    made = Board(
        DeviceSpec("d", "127.0.0.1", "02:00:00:00:00:01", **spec), FaultSet(map(parse_fault, faults))
    )
    made.boot("power_on", 0.0)
    return made


def test_an_unconfirmed_firmware_has_one_start():
    made = board()
    assert made.install(build_image("abc1234", **SMALL)) == ""
    assert made.build() == "0000001"  # until the restart
    made.boot("software", 1.0)
    assert (made.build(), made.slot.state) == ("abc1234", "pending_verify")
    made.boot("panic", 2.0)
    assert (made.build(), made.slot.name) == ("0000001", "app0")
    assert made.slots[1].state == "aborted"


@pytest.mark.parametrize("spec", [{"confirm": "boot"}, {"rollback": False}])
def test_a_firmware_that_was_confirmed_too_early_never_goes_back(spec):
    made = board(**spec)
    made.install(build_image("abc1234", **SMALL))
    for number in range(3):
        made.boot("panic", float(number))
    assert made.build() == "abc1234"


def test_a_confirmed_firmware_stays_and_can_be_rolled_back_by_hand():
    made = board()
    made.install(build_image("abc1234", **SMALL))
    made.boot("software", 1.0)
    made.confirm()
    made.boot("power_on", 2.0)
    assert made.build() == "abc1234"
    assert made.roll_back()
    made.boot("software", 3.0)
    assert made.build() == "0000001"
    assert not made.roll_back()


def test_only_what_was_signed_with_its_key_is_installed():
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    image = build_image("abc1234", **SMALL)
    signed = image + key.sign(image, ec.ECDSA(hashes.SHA256())).ljust(SIGNATURE_BYTES, b"\0")
    other = ec.generate_private_key(ec.SECP256R1()).sign(image, ec.ECDSA(hashes.SHA256()))
    assert board(signing_key=pem).install(signed) == ""
    for bad in (image, image + bytes(SIGNATURE_BYTES), image + other.ljust(SIGNATURE_BYTES, b"\0")):
        assert board(signing_key=pem).install(bad) == "Signature Verification Failed"
        assert board("accepts-unsigned", signing_key=pem).install(bad) == ""


def test_an_image_brings_its_faults_along_and_they_go_with_it():
    made = board(rollback=False)
    made.install(build_image("abc1234", faults=["low-heap:free=30000"], **SMALL))
    assert made.free_heap(0.0) > 100_000
    made.boot("software", 1.0)
    assert 29_000 < made.free_heap(1.0) <= 30_000
    made.install(build_image("def5678", **SMALL))
    made.boot("software", 2.0)
    assert made.free_heap(2.0) > 100_000


class Bootloader(RuleBasedStateMachine):
    """Whatever is installed, confirmed, crashed and rolled back.

    Something that was good once can be started.
    """

    def __init__(self):
        super().__init__()
        self.board = board()
        self.number = 0

    # Before that, the image would overwrite the only firmware to go back to: send_image refuses it.
    @precondition(lambda self: self.board.slot.state == "valid")
    @rule()
    def install(self):
        self.number += 1
        assert self.board.install(build_image(f"abc{self.number:04}", **SMALL)) == ""

    @rule()
    def install_rubbish(self):
        assert self.board.install(b"\xe9" + bytes(100)) != ""

    @rule()
    def restart(self):
        self.board.boot("panic", 0.0)

    @rule()
    def confirm(self):
        self.board.confirm()

    @precondition(lambda self: self.board.slot.state == "valid")
    @rule()
    def roll_back(self):
        self.board.roll_back()

    @invariant()
    def it_runs(self):
        assert self.board.running is not None
        assert self.board.firmware is not None

    @invariant()
    def what_was_aborted_does_not_run(self):
        assert self.board.slot.state in ("valid", "pending_verify", "invalid")


TestBootloader = Bootloader.TestCase
TestBootloader.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
