"""Sixty-four hostile connections from one address, and an honest client that gets every answer.

The hostile clients are processes of their own, which give way to others: what is measured here is what the server lets
them take, not what this process takes from itself.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .bundles import ROOT, Fixture
from .conftest import MakeBundle
from .serving import Server, environment, running

HEAD = "POST /infer HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n"
HONEST = json.dumps({"text": "an honest text"}).encode()
LONGER = json.dumps({"text": ["an honest text of some length " * 8] * 40}).encode()
HEAVY = json.dumps({"text": ["lorem ipsum dolor " * 2000] * 4}).encode()
REPEATED = json.dumps({"model": "fixture", "prompt": "." * 1020, "input": [""] * 700, "truncate": True}).encode()
PROCESSES = 4
CONNECTIONS = 64


def attack(port: int, kind: int) -> None:
    """One hostile connection after another, for ever."""
    rng = random.Random(kind)
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as stream:
            if kind % 6 == 0:  # slow
                for byte in HEAD.format(100).encode():
                    stream.sendall(bytes([byte]))
                    time.sleep(0.05)
            elif kind % 6 == 1:  # huge
                stream.sendall(HEAD.format(1 << 20).encode() + b" " * ((1 << 20) - 1))
                time.sleep(0.2)
            elif kind % 6 == 2:  # announcing
                stream.sendall(HEAD.format(1 << 20).encode() + b"{")
                time.sleep(0.5)
            elif kind % 6 == 3:  # heavy to tokenize
                stream.sendall(HEAD.format(len(HEAVY)).encode() + HEAVY)
                stream.recv(4096)
                time.sleep(0.2)
            elif kind % 6 == 4:  # small, and heavy to tokenize
                stream.sendall(HEAD.replace("/infer", "/v1/embeddings").format(len(REPEATED)).encode() + REPEATED)
                stream.recv(4096)
                time.sleep(0.2)
            else:  # reset in the middle
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                stream.sendall((HEAD.format(len(HEAVY)).encode() + HEAVY)[: rng.randrange(1, 60_000)])
                time.sleep(0.1)


def attack_with(port: int, kinds: range) -> None:
    """What an attacking process runs."""
    os.nice(19)
    threads = [threading.Thread(target=attack, args=(port, kind), daemon=True) for kind in kinds]
    for thread in threads:
        thread.start()
    sys.stdin.read()  # to the end of the pipe: the test is over, or gone


class Attack:
    """Processes that attack, unless they are held."""

    def __init__(self, processes: list[subprocess.Popen[bytes]]) -> None:
        self.processes = processes

    @contextlib.contextmanager
    def held(self) -> Generator[None, None, None]:
        """Their connections stay open and say nothing."""
        for process in self.processes:
            process.send_signal(signal.SIGSTOP)
        yield
        for process in self.processes:
            process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def attacked(server: Server) -> Generator[Attack, None, None]:
    code = "import sys; from tests.server.test_hostile import attack_with as run; run(int(sys.argv[1]), range(*map(int, sys.argv[2:])))"
    each = CONNECTIONS // PROCESSES
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(server.port), str(n * each), str((n + 1) * each)],
            stdin=subprocess.PIPE,
            cwd=ROOT,
            env=environment(),
        )
        for n in range(PROCESSES)
    ]
    try:
        end = time.monotonic() + 60
        while server.metric_at_side("infc_connections") < CONNECTIONS // 2:
            assert all(p.poll() is None for p in processes), "an attacking process ended"
            assert time.monotonic() < end, "the attack did not begin"
            time.sleep(0.05)
        yield Attack(processes)
        assert all(p.poll() is None for p in processes), "an attacking process ended"
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@dataclass(frozen=True)
class Seen:
    statuses: set[int]
    times: list[float]

    def add(self, other: Seen) -> None:
        self.statuses.update(other.statuses)
        self.times.extend(other.times)

    @property
    def p99_ms(self) -> float:
        return sorted(self.times)[int(0.99 * (len(self.times) - 1))] * 1e3


def honest(server: Server, seconds: float, body: bytes = HONEST) -> Seen:
    """One request every 20 ms, each on a connection of its own: times from the intended sending, in seconds."""
    seen = Seen(set(), [])
    due = time.monotonic()
    end = due + seconds
    while due < end and time.monotonic() < end + seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        seen.statuses.add(server.post("/infer", body).status)
        seen.times.append(time.monotonic() - due)
        due += 0.02
    return seen


class Health:
    """Asks for readiness on the other port every 100 ms while it is entered."""

    def __init__(self, server: Server) -> None:
        self.server, self.seen, self.over = server, Seen(set(), []), threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self) -> None:
        address = self.server.addresses["metrics"]
        assert address is not None
        while not self.over.wait(0.1):
            begin = time.monotonic()
            connection = http.client.HTTPConnection(address, timeout=10)
            connection.request("GET", "/health/ready")
            self.seen.statuses.add(connection.getresponse().status)
            self.seen.times.append(time.monotonic() - begin)
            connection.close()

    def __enter__(self) -> Seen:
        self.thread.start()
        return self.seen

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join(timeout=30)


def ceiling_mib(server: Server) -> int:
    """The ceiling that the server printed; it must have ended."""
    assert server.process.stderr is not None
    found = re.search(r"memory ceiling (\d+) MiB", server.process.stderr.read())
    assert found is not None
    return int(found[1])


def peak_mib(server: Server) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (peak,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(peak) / 1024


@contextlib.contextmanager
def busy(processes: int = 2) -> Generator[None, None, None]:
    """Processes of others that take what the machine has left, and give way as the server's threads for large bodies do."""
    code = "import os\nos.nice(10)\nwhile True: pass"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def stolen_ms() -> float:
    """What the machine under this one has taken from all processors since the start."""
    return int(Path("/proc/stat").read_text().split()[8]) / os.sysconf("SC_CLK_TCK") * 1e3


def batch_ms(server: Server) -> float:
    """The mean time of a batch."""
    total, count = (server.metric_at_side(f"infc_compute_duration_seconds_{part}") for part in ("sum", "count"))
    return total / max(count, 1) * 1e3


@pytest.mark.parametrize("seconds", [3.0, pytest.param(20.0, marks=pytest.mark.full)])
def test_an_honest_client_gets_every_answer_beside_64_hostile_connections(
    serve_binary: Path, make_bundle: MakeBundle, seconds: float
) -> None:
    alone, beside, taken_alone, taken_beside = Seen(set(), []), Seen(set(), []), 0.0, 0.0
    with running(serve_binary, make_bundle(Fixture(kind="embed")), "--metrics-port", "0") as server:
        honest(server, 0.5)
        before = server.metric_at_side("infc_requests_total")
        with attacked(server) as attack, Health(server) as health:
            # Turn by turn, since what the machine under this one takes changes from second to second.
            for _ in range(round(seconds)):
                with attack.held():
                    time.sleep(0.2)
                    stolen = stolen_ms()
                    alone.add(honest(server, 1.0))
                    taken_alone += stolen_ms() - stolen
                stolen = stolen_ms()
                beside.add(honest(server, 1.0))
                taken_beside += stolen_ms() - stolen
            longer = honest(server, seconds / 2, LONGER)
        answered = server.metric_at_side("infc_requests_total") - before
        with busy():
            in_company = honest(server, seconds / 2)
        peak, batch = peak_mib(server), batch_ms(server)
        assert server.metric_at_side("infc_request_bytes") <= server.metric_at_side("infc_request_bytes_max")
        assert server.stop() == 0
        ceiling = ceiling_mib(server)
        print(
            f"honest statuses {sorted(beside.statuses | longer.statuses)}; {answered:.0f} hostile and honest requests ended; "
            f"p99 alone {alone.p99_ms:.1f} ms ({taken_alone:.0f} ms of processors stolen meanwhile), "
            f"attacked {beside.p99_ms:.1f} ms ({taken_beside:.0f} ms), ratio {beside.p99_ms / alone.p99_ms:.2f}; "
            f"alone on a busy machine {in_company.p99_ms:.1f} ms; attacked, of {len(LONGER)} bytes {longer.p99_ms:.1f} ms; "
            f"a batch {batch:.2f} ms; health at worst {max(health.times) * 1e3:.1f} ms; peak {peak:.0f} MiB of {ceiling} MiB"
        )
        assert alone.statuses == beside.statuses == longer.statuses == {200}
        assert health.statuses == {200}, "saturation is never unreadiness"
        assert peak <= ceiling


def test_large_requests_are_read_by_threads_of_their_own(serve_binary: Path, make_bundle: MakeBundle) -> None:
    with running(serve_binary, make_bundle(Fixture(kind="embed"))) as server:

        def ran_ns(name: str) -> int:
            """What the threads of this name have run so far."""
            tasks = Path(f"/proc/{server.process.pid}/task").iterdir()
            (task,) = [task for task in tasks if (task / "comm").read_text().strip() == name]
            return int((task / "schedstat").read_text().split()[0])

        connection = server.connect()

        def post(body: bytes) -> int:
            connection.request("POST", "/infer", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            assert (answer.status, answer.read()[:1]) == (200, b"{")
            return ran_ns("http-large")

        begin = ran_ns("http-large")
        assert post(HONEST) == post(HONEST) == begin
        large = HONEST[:-1] + b" " * (1 << 19) + b"}"
        first = post(large)
        assert first > begin
        # On the same connection: what is small comes back, once the thread has given it away.
        last = post(HONEST)
        while (now := post(HONEST)) != last:
            last = now
            time.sleep(0.05)
        assert post(HONEST) == post(HONEST) == last
        assert post(large) > last


def test_health_answers_on_its_own_port_while_the_threads_of_http_read_large_bodies(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    with running(serve_binary, make_bundle(), "--metrics-port", "0", env={"INFC__HTTP_THREADS": "1"}) as server:
        names = [path.read_text().strip() for path in Path(f"/proc/{server.process.pid}/task").glob("*/comm")]
        assert "side" in names
        over = threading.Event()
        body = HEAD.format(1 << 20).encode() + b" " * (1 << 20)

        def flood() -> None:
            while not over.is_set():
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=5) as s:
                    s.sendall(body)
                    s.recv(4096)

        threads = [threading.Thread(target=flood) for _ in range(8)]
        for thread in threads:
            thread.start()
        with Health(server) as health:
            time.sleep(1.0)
        over.set()
        for thread in threads:
            thread.join(timeout=30)
        print(f"health at worst {max(health.times) * 1e3:.1f} ms")
        assert health.statuses == {200}
        assert server.stop() == 0
