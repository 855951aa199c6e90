"""Sixty-four hostile connections from one address, and an honest client that gets every answer."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import threading
import time
from pathlib import Path

import pytest

from .bundles import Fixture
from .conftest import MakeBundle
from .serving import Server, running

HEAD = "POST /infer HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n"
HONEST = json.dumps({"text": "an honest text"})
HEAVY = json.dumps({"text": ["lorem ipsum dolor " * 2000] * 4}).encode()


def attack(server: Server, kind: int, over: threading.Event) -> None:
    rng = random.Random(kind)
    while not over.is_set():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=2) as stream:
            if kind % 5 == 0:  # slow
                for byte in HEAD.format(100).encode():
                    stream.sendall(bytes([byte]))
                    if over.wait(0.05):
                        return
            elif kind % 5 == 1:  # huge
                stream.sendall(HEAD.format(1 << 20).encode() + b" " * ((1 << 20) - 1))
                over.wait(0.2)
            elif kind % 5 == 2:  # announcing
                stream.sendall(HEAD.format(1 << 20).encode() + b"{")
                over.wait(0.5)
            elif kind % 5 == 3:  # heavy to tokenize
                stream.sendall(HEAD.format(len(HEAVY)).encode() + HEAVY)
                stream.recv(4096)
                over.wait(0.2)
            else:  # reset in the middle
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                stream.sendall((HEAD.format(len(HEAVY)).encode() + HEAVY)[: rng.randrange(1, 60_000)])
                over.wait(0.1)


def honest(server: Server, seconds: float) -> tuple[set[int], float]:
    """One request every 20 ms: the statuses, and the p99 of the time from the intended sending, in seconds."""
    statuses: set[int] = set()
    times: list[float] = []
    due = end = time.monotonic()
    end += seconds
    while due < end:
        time.sleep(max(0.0, due - time.monotonic()))
        statuses.add(server.post("/infer", HONEST.encode()).status)
        times.append(time.monotonic() - due)
        due += 0.02
    return statuses, sorted(times)[int(0.99 * (len(times) - 1))]


@pytest.mark.parametrize("seconds", [3.0, pytest.param(30.0, marks=pytest.mark.full)])
def test_an_honest_client_gets_every_answer_beside_64_hostile_connections(
    serve_binary: Path, make_bundle: MakeBundle, seconds: float
) -> None:
    with running(serve_binary, make_bundle(Fixture(kind="embed")), "--metrics-port", "0") as server:
        alone = honest(server, 1.0)
        over = threading.Event()
        threads = [threading.Thread(target=attack, args=(server, kind, over)) for kind in range(64)]
        for thread in threads:
            thread.start()
        slowest = 0.0
        health: set[int] = set()

        def watch() -> None:
            nonlocal slowest
            address = server.addresses["metrics"]
            assert address is not None
            while not over.wait(0.1):
                begin = time.monotonic()
                connection = http.client.HTTPConnection(address, timeout=10)
                connection.request("GET", "/health/ready")
                health.add(connection.getresponse().status)
                slowest = max(slowest, time.monotonic() - begin)
                connection.close()

        watching = threading.Thread(target=watch)
        watching.start()
        attacked = honest(server, seconds)
        over.set()
        for thread in (*threads, watching):
            thread.join(timeout=30)
        (peak,) = [
            line.split()[1]
            for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
            if line.startswith("VmHWM")
        ]
        print(f"p99 alone {alone[1] * 1e3:.1f} ms, attacked {attacked[1] * 1e3:.1f} ms, "
              f"health {slowest * 1e3:.1f} ms, peak {int(peak) / 1024:.0f} MiB")  # fmt: skip
        assert alone[0] == attacked[0] == {200}
        assert health == {200}, "saturation is never unreadiness"
        assert server.metric_at_side("infc_request_bytes") <= server.metric_at_side("infc_request_bytes_max")
        assert server.stop() == 0
