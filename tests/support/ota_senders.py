"""Ways to send one image to many devices, in a process of its own, so that its memory can be measured.

    python -m support.ota_senders gateway|stock|threads IMAGE PORT PASSWORD ADDRESS…

Prints one line of JSON: devices that took it, seconds, the most memory in KiB. `stock` does what the
protocol's usual client does, one device after the other: it sends 1,024 bytes, waits for the device's
count, and sends the next. `threads` does the same for 50 devices at once.
"""

import asyncio
import hashlib
import json
import os
import re
import resource
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from podium_workers.services.ota import Gateway, GatewaySettings, Succeeded, Target
from podium_workers.services.ota.words import compute_response

AT_ONCE = 50


def send_in_lock_step(image: bytes, address: str, port: int, password: str) -> bool:
    """Whether the device took it."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.settimeout(10)
    try:
        offered = listener.getsockname()[1]
        line = f"0 {offered} {len(image)} {hashlib.md5(image).hexdigest()}\n"
        udp.sendto(line.encode(), (address, port))
        answer = udp.recv(128).decode()
        if answer.startswith("AUTH"):
            nonce = answer.split()[1]
            cnonce = os.urandom(len(nonce) // 2).hex()
            response = compute_response("Md5", password, nonce, cnonce)
            udp.sendto(f"200 {cnonce} {response}\n".encode(), (address, port))
            answer = udp.recv(128).decode()
        if answer != "OK":
            return False
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10)
            heard = b""
            for start in range(0, len(image), 1024):
                connection.sendall(image[start : start + 1024])
                heard = connection.recv(64)
            while b"OK" not in heard:
                piece = connection.recv(64)
                if not piece:
                    return False
                heard += piece
        return True
    finally:
        listener.close()
        udp.close()


async def send_by_gateway(image: bytes, addresses: list[str], port: int, password: str) -> int:
    """How many took it."""
    async with Gateway(GatewaySettings("127.0.0.1", 0, most_transfers=AT_ONCE)) as gateway:
        verdicts = await asyncio.gather(
            *(gateway.send(image, Target(address, port, password)) for address in addresses)
        )
    return sum(isinstance(verdict, Succeeded) for verdict in verdicts)


def main() -> None:
    way, path, port, password, *addresses = sys.argv[1:]
    image = Path(path).read_bytes()
    began = time.perf_counter()

    def one(address: str) -> bool:
        return send_in_lock_step(image, address, int(port), password)

    if way == "gateway":
        took = asyncio.run(send_by_gateway(image, addresses, int(port), password))
    elif way == "threads":
        threading.stack_size(256 * 1024)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            took = sum(pool.map(one, addresses))
    else:
        took = sum(map(one, addresses))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = time.perf_counter() - began
    cpu = usage.ru_utime + usage.ru_stime
    print(json.dumps({"took": took, "seconds": seconds, "kib": most_memory(), "cpu": cpu}))


def most_memory() -> int:
    """In KiB, of this program only: what getrusage says includes the process that it was forked from."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]


if __name__ == "__main__":
    main()
