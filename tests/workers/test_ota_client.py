"""The client against a device that does, byte for byte, what a test says; and the gateway that all share."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
from collections.abc import Awaitable, Callable

import pytest

from podium_workers.services.ota import (
    Failed,
    Gateway,
    GatewaySettings,
    Progress,
    Succeeded,
    Target,
    Timing,
    Unknown,
    Verdict,
)
from podium_workers.services.ota.words import compute_response

IMAGE = bytes(range(256)) * 160
QUICK = Timing(invite_every=0.2, invitations=5, proof=0.6, rounds=4, connect=0.6, stall=0.6, finish=0.6)
N32, N64 = "0f" * 16, "0f" * 32


class Script:
    """A device that a test plays by hand. All reads have a time limit."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((address, 0))
        self.udp.setblocking(False)
        self.port = self.udp.getsockname()[1]
        self.peer: tuple[str, int] = ("", 0)
        self.tcp: socket.socket | None = None

    async def hear(self) -> str:
        """The next packet."""
        async with asyncio.timeout(5):
            data, self.peer = await asyncio.get_running_loop().sock_recvfrom(self.udp, 2048)
        return data.decode()

    def say(self, text: str) -> None:
        self.udp.sendto(text.encode(), self.peer)

    async def connect(self, invitation: str, address: str | None = None) -> None:
        self.tcp = socket.socket()
        self.tcp.bind((address or self.address, 0))
        self.tcp.setblocking(False)
        await asyncio.get_running_loop().sock_connect(self.tcp, (self.peer[0], int(invitation.split()[1])))

    async def read(self, size: int) -> bytes:
        assert self.tcp is not None
        data = b""
        async with asyncio.timeout(5):
            while len(data) < size:
                piece = await asyncio.get_running_loop().sock_recv(self.tcp, min(1460, size - len(data)))
                if not piece:
                    break
                data += piece
        return data

    async def write(self, text: str) -> None:
        assert self.tcp is not None
        await asyncio.get_running_loop().sock_sendall(self.tcp, text.encode())

    def close(self) -> None:
        self.udp.close()
        if self.tcp is not None:
            self.tcp.close()


Act = Callable[[Script], Awaitable[None]]


async def play(act: Act, password: str | None = None, **more: object) -> Verdict:
    script = Script("127.79.0.1")
    try:
        async with Gateway(GatewaySettings("127.0.0.1", 0, timing=QUICK)) as gateway:
            acting = asyncio.create_task(act(script))
            verdict = await gateway.send(IMAGE, Target(script.address, script.port, password), **more)  # type: ignore[arg-type]
            await acting
            return verdict
    finally:
        script.close()


async def take_all(script: Script, invitation: str, last: str = "OK") -> None:
    await script.connect(invitation)
    taken = await script.read(len(IMAGE))
    assert taken == IMAGE
    await script.write("14601460")
    await script.write(last)


async def test_an_invitation_names_port_size_and_sum_and_the_image_arrives_whole():
    async def act(script: Script) -> None:
        invitation = await script.hear()
        command, port, size, md5 = invitation.split(" ")
        assert (command, size, md5) == ("0", str(len(IMAGE)), hashlib.md5(IMAGE).hexdigest() + "\n")
        assert 0 < int(port) < 65536
        script.say("OK")
        await take_all(script, invitation)

    verdict = await play(act)
    assert isinstance(verdict, Succeeded)
    assert (verdict.sent, verdict.auth) == (len(IMAGE), "None")


@pytest.mark.parametrize(
    ("nonce", "scheme"), [(N32, "Md5"), (N64, "Pbkdf2Sha256"), (N64, "Pbkdf2Sha256OfMd5")]
)
async def test_a_password_is_proved_in_the_way_that_the_device_wants(nonce, scheme):
    async def act(script: Script) -> None:
        while True:
            invitation = await script.hear()
            script.say(f"AUTH {nonce}")
            command, cnonce, response = (await script.hear()).split()
            assert command == "200"
            assert len(cnonce) == len(response) == len(nonce)
            if response == compute_response(scheme, "secret", nonce, cnonce):
                break
            script.say("Authentication Failed")
        script.say("OK")
        await take_all(script, invitation)

    verdict = await play(act, "secret")
    assert isinstance(verdict, Succeeded)
    assert verdict.auth == scheme


async def test_two_proofs_never_use_the_same_nonce():
    seen = []

    async def act(script: Script) -> None:
        for _ in range(2):
            await script.hear()
            script.say(f"AUTH {N64}")
            seen.append((await script.hear()).split()[1])
            script.say("Authentication Failed")

    verdict = await play(act, "secret")
    assert isinstance(verdict, Failed)
    assert verdict.reason == "PasswordWrong"
    assert len(set(seen)) == 2


async def test_a_refusal_after_repeated_invitations_does_not_judge_the_password():
    async def act(script: Script) -> None:
        await script.hear()
        await script.hear()  # too late for the first
        script.say(f"AUTH {N32}")
        await script.hear()
        script.say("Authentication Failed")  # to a nonce that a third invitation has replaced
        invitation = await script.hear()
        script.say(f"AUTH {N32}")
        await script.hear()
        script.say("OK")
        await take_all(script, invitation)

    assert isinstance(await play(act, "secret"), Succeeded)


async def test_a_device_that_swallows_an_invitation_is_asked_again():
    async def act(script: Script) -> None:
        await script.hear()
        invitation = await script.hear()
        script.say("OK")
        await take_all(script, invitation)

    assert isinstance(await play(act), Succeeded)


async def test_a_connection_is_consent_even_if_the_ok_was_lost():
    async def act(script: Script) -> None:
        await take_all(script, await script.hear())

    assert isinstance(await play(act), Succeeded)


async def test_the_first_bytes_are_there_at_once():
    async def act(script: Script) -> None:
        invitation = await script.hear()
        script.say("OK")
        await script.connect(invitation)
        began = asyncio.get_running_loop().time()
        await script.read(1)
        assert asyncio.get_running_loop().time() - began < 0.5
        assert len(await script.read(len(IMAGE) - 1)) == len(IMAGE) - 1
        await script.write("1460OK")

    assert isinstance(await play(act), Succeeded)


@pytest.mark.parametrize(
    ("last", "kind", "reason"),
    [
        ("1460MD5 Check Failed\r\n", Failed, "ChecksumMismatch"),
        ("Could Not Activate The Firmware\r\n", Failed, "ActivationRefused"),
        ("1460O", Unknown, "FinalAnswerCutOff"),
        ("1460", Unknown, "NoFinalAnswer"),
        ("1460MD5 Che", Failed, "DeviceError"),
    ],
)
async def test_the_last_words_decide(last, kind, reason):
    async def act(script: Script) -> None:
        invitation = await script.hear()
        script.say("OK")
        await take_all(script, invitation, last)
        script.close()

    verdict = await play(act)
    assert isinstance(verdict, kind)
    assert verdict.reason == reason


async def test_an_error_in_the_middle_is_heard_although_the_device_has_closed():
    async def act(script: Script) -> None:
        invitation = await script.hear()
        script.say("OK")
        await script.connect(invitation)
        await script.read(4096)
        await script.write("4096Wrong Magic Byte\r\n")
        script.close()

    verdict = await play(act)
    assert isinstance(verdict, Failed)
    assert verdict.reason == "WrongMagic"
    assert '"Wrong Magic Byte"' in verdict.message


async def test_silence_after_the_whole_image_is_unknown_and_before_it_a_failure():
    async def all_of_it(script: Script) -> None:
        invitation = await script.hear()
        script.say("OK")
        await script.connect(invitation)
        await script.read(len(IMAGE))

    async def a_part(script: Script) -> None:
        script.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        invitation = await script.hear()
        script.say("OK")
        script.tcp = socket.socket()
        script.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        script.tcp.bind((script.address, 0))
        script.tcp.setblocking(False)
        await asyncio.get_running_loop().sock_connect(
            script.tcp, (script.peer[0], int(invitation.split()[1]))
        )
        await script.read(2000)

    assert isinstance(await play(all_of_it), Unknown)
    verdict = await play(a_part)
    assert isinstance(verdict, Failed)
    assert verdict.reason == "Stalled"
    assert 0 < verdict.sent < len(IMAGE)


async def test_ok_before_the_end_is_not_believed():
    async def act(script: Script) -> None:
        invitation = await script.hear()
        script.say("OK")
        script.tcp = socket.socket()
        script.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        script.tcp.bind((script.address, 0))
        script.tcp.setblocking(False)
        await asyncio.get_running_loop().sock_connect(
            script.tcp, (script.peer[0], int(invitation.split()[1]))
        )
        await script.write("OK")

    verdict = await play(act)
    assert isinstance(verdict, Unknown)
    assert verdict.reason == "EarlyAnswer"


async def test_a_second_connection_of_the_same_device_is_turned_away():
    async def act(script: Script) -> None:
        invitation = await script.hear()
        script.say("OK")
        await script.connect(invitation)
        second = Script(script.address)
        second.peer = script.peer
        await second.connect(invitation)
        with contextlib.suppress(ConnectionResetError):
            assert await second.read(1) == b""
        second.close()
        assert await script.read(len(IMAGE)) == IMAGE
        await script.write("1460OK")

    assert isinstance(await play(act), Succeeded)


async def test_progress_goes_through_its_stages_up_to_the_last_byte():
    seen: list[Progress] = []

    async def act(script: Script) -> None:
        invitation = await script.hear()
        script.say("OK")
        await take_all(script, invitation)

    await play(act, on_progress=seen.append)
    assert seen[0] == Progress("Inviting", 0, len(IMAGE))
    assert "Sending" in {step.stage for step in seen}
    assert [step.sent for step in seen] == sorted(step.sent for step in seen)
    assert seen[-1] == Progress("Finishing", len(IMAGE), len(IMAGE))


async def test_a_stop_before_the_device_answers_sends_nothing():
    stop = asyncio.Event()

    async def act(script: Script) -> None:
        await script.hear()
        stop.set()

    verdict = await play(act, cancel=stop)
    assert isinstance(verdict, Failed)
    assert (verdict.reason, verdict.sent) == ("Cancelled", 0)


async def test_a_stop_takes_effect_at_the_next_chunk():
    stop = asyncio.Event()

    async def act(script: Script) -> None:
        invitation = await script.hear()
        script.say("OK")
        script.tcp = socket.socket()
        script.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        script.tcp.bind((script.address, 0))
        script.tcp.setblocking(False)
        await asyncio.get_running_loop().sock_connect(
            script.tcp, (script.peer[0], int(invitation.split()[1]))
        )
        await script.read(4000)
        stop.set()

    verdict = await play(act, cancel=stop)
    assert isinstance(verdict, Failed)
    assert verdict.reason == "Cancelled"
    assert 0 < verdict.sent < len(IMAGE)


async def test_a_stop_after_the_last_byte_changes_nothing():
    stop = asyncio.Event()

    async def act(script: Script) -> None:
        invitation = await script.hear()
        script.say("OK")
        await script.connect(invitation)
        await script.read(len(IMAGE))
        stop.set()
        await asyncio.sleep(0.1)
        await script.write("1460OK")

    assert isinstance(await play(act, cancel=stop), Succeeded)


async def test_a_transfer_that_waits_for_its_turn_can_be_stopped_at_once():
    async def silent(script: Script) -> None:
        await script.hear()

    script, other = Script("127.79.0.2"), Script("127.79.0.3")
    stop = asyncio.Event()
    async with Gateway(GatewaySettings("127.0.0.1", 0, most_transfers=1, timing=QUICK)) as gateway:
        first = asyncio.create_task(gateway.send(IMAGE, Target(script.address, script.port)))
        await silent(script)
        second = asyncio.create_task(gateway.send(IMAGE, Target(other.address, other.port), cancel=stop))
        await asyncio.sleep(0)
        stop.set()
        verdict = await second
        assert not first.done()
        assert isinstance(verdict, Failed)
        assert verdict.reason == "Cancelled"
        assert isinstance(await first, Failed)
    script.close()
    other.close()


async def test_a_cancelled_task_leaves_nothing_behind():
    script = Script("127.79.0.4")
    async with Gateway(GatewaySettings("127.0.0.1", 0, timing=QUICK)) as gateway:
        task = asyncio.create_task(gateway.send(IMAGE, Target(script.address, script.port)))
        await script.hear()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        again = asyncio.create_task(gateway.send(IMAGE, Target(script.address, script.port)))
        invitation = await script.hear()
        script.say("OK")
        await take_all(script, invitation)
        assert isinstance(await again, Succeeded)
    script.close()


def test_a_password_is_in_no_representation():
    assert "secret" not in repr(Target("192.0.2.1", password="secret"))


async def test_a_device_that_connects_too_late_is_not_taken_for_another_ones_nat():
    late, waiting = Script("127.79.0.5"), Script("127.79.0.6")
    async with Gateway(GatewaySettings("127.0.0.1", 0, timing=QUICK)) as gateway:
        first = asyncio.create_task(gateway.send(IMAGE, Target(late.address, late.port)))
        invitation = await late.hear()
        assert isinstance(await first, Failed)
        second = asyncio.create_task(gateway.send(IMAGE, Target(waiting.address, waiting.port)))
        await waiting.hear()
        waiting.say("OK")
        await asyncio.sleep(0.1)
        await late.connect(invitation)
        verdict = await second
    assert isinstance(verdict, Failed)
    assert verdict.reason == "NoConnection"
    late.close()
    waiting.close()


async def test_last_words_are_heard_even_if_writing_fails_before_they_were_read():
    script = Script("127.79.0.7")
    async with Gateway(GatewaySettings("127.0.0.1", 0, timing=QUICK)) as gateway:
        sending = asyncio.create_task(gateway.send(IMAGE, Target(script.address, script.port)))
        invitation = await script.hear()
        script.say("OK")
        script.tcp = socket.socket()
        script.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        script.tcp.bind((script.address, 0))
        script.tcp.setblocking(False)
        await asyncio.get_running_loop().sock_connect(
            script.tcp, (script.peer[0], int(invitation.split()[1]))
        )
        await script.read(1000)
        link = gateway._transfers[script.address]._link
        assert link is not None
        # From here on the loop has no turn: the words, the reset and the failing write all come before it.
        script.tcp.send(b"1000Wrong Magic Byte\r\n")
        script.tcp.close()
        link._transport._fatal_error(ConnectionResetError(), "as a write that fails")  # type: ignore[attr-defined]
        verdict = await sending
    assert isinstance(verdict, Failed)
    assert verdict.reason == "WrongMagic"
    script.close()
