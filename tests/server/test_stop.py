"""Stopping: what was sent is answered, what is incomplete gets a second, and the end is soon and well."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from .bundles import WIDTH, Fixture
from .conftest import MakeBundle
from .serving import Server, read_to_end, running

ROW = [1.0] * WIDTH
BODY = json.dumps({"features": [ROW]}).encode()
HEAD = (
    f"POST /infer HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n".encode()
)
WHOLE = HEAD + BODY


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def statuses(answer: bytes) -> list[int]:
    return [int(part.split(b" ", 1)[0]) for part in answer.split(b"HTTP/1.1 ")[1:]]


def test_incomplete_heads_and_bodies_get_a_second_then_an_answer_and_the_exit_is_0(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    with running(serve_binary, make_bundle()) as server:
        parts = [WHOLE[:1], HEAD[:30], HEAD[:-2], HEAD, WHOLE[:-1]]
        streams = [connect(server) for _ in parts]
        for stream, part in zip(streams, parts, strict=True):
            stream.sendall(part)
        late = connect(server)
        late.sendall(WHOLE[:-5])
        time.sleep(0.1)
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.6)  # the listener is closed by now, and the second not over
        late.sendall(WHOLE[-5:])
        assert statuses(read_to_end(late)) == [200]
        for stream in streams:
            assert statuses(read_to_end(stream)) in ([408], [503])
            stream.close()
        assert server.process.wait(timeout=20) == 0
        assert time.monotonic() - begin < 10, "it took the whole time to drain"


def test_idle_connections_stay_readable_until_the_drain_delay_is_over(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    with running(serve_binary, make_bundle(), env={"INFC__DRAIN_DELAY_S": "0.6"}) as server:
        used, fresh, silent = connect(server), connect(server), connect(server)
        used.sendall(WHOLE)
        assert used.recv(65536).startswith(b"HTTP/1.1 200")
        server.process.send_signal(signal.SIGTERM)
        while server.get("/v2/health/ready").status != 503:
            time.sleep(0.01)
        for stream in (used, fresh):
            stream.sendall(WHOLE)
            assert statuses(read_to_end(stream)) == [200]
        assert read_to_end(silent) == b""
        assert server.process.wait(timeout=20) == 0


def test_what_lies_in_the_backlog_or_in_a_socket_is_answered(serve_binary: Path, make_bundle: MakeBundle) -> None:
    """Stopped by SIGSTOP the server can take nothing: all of this waits in the kernel when the listener closes."""
    env = {"INFC__DRAIN_DELAY_S": "0"}
    with running(serve_binary, make_bundle(), env=env) as server:
        kept = [connect(server) for _ in range(20)]
        for stream in kept:
            stream.sendall(WHOLE)
            assert stream.recv(65536).startswith(b"HTTP/1.1 200")
        server.process.send_signal(signal.SIGSTOP)
        backlog = [connect(server) for _ in range(40)]
        server.process.send_signal(signal.SIGTERM)
        for stream in (*kept, *backlog):
            stream.sendall(WHOLE)
        server.process.send_signal(signal.SIGCONT)
        for stream in (*kept, *backlog):
            assert statuses(read_to_end(stream)) == [200]
            stream.close()
        assert server.process.wait(timeout=20) == 0


@pytest.mark.parametrize("delay", ["0", "0.5"], ids=["at once", "in the delay"])
def test_what_is_pipelined_behind_a_request_is_answered_before_the_end(
    serve_binary: Path, make_bundle: MakeBundle, delay: str
) -> None:
    """What lies in the sockets when the server is told to stop: whole, behind a part, and behind what is being answered."""
    fixture = Fixture(defines=("DELAY_MS=100",))
    with running(serve_binary, make_bundle(fixture), env={"INFC__DRAIN_DELAY_S": delay}) as server:
        together, parted, later = connect(server), connect(server), connect(server)
        parted.sendall(WHOLE[:-1])
        later.sendall(WHOLE)
        time.sleep(0.02)  # most likely the first is being answered now: then its answer may say close, and yet
        server.process.send_signal(signal.SIGSTOP)
        together.sendall(WHOLE * 5)
        parted.sendall(WHOLE[-1:] + WHOLE * 2)
        later.sendall(WHOLE * 2)
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGCONT)
        assert statuses(read_to_end(together)) == [200] * 5
        assert statuses(read_to_end(parted)) == [200] * 3
        assert statuses(read_to_end(later)) == [200] * 3
        assert server.process.wait(timeout=20) == 0


def test_a_lone_answer_while_draining_says_that_the_connection_ends(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    with running(serve_binary, make_bundle(), env={"INFC__DRAIN_DELAY_S": "1"}) as server:
        server.process.send_signal(signal.SIGTERM)
        while server.get("/v2/health/ready").status != 503:
            time.sleep(0.01)
        with connect(server) as stream:
            stream.sendall(WHOLE)
            answer = read_to_end(stream)
        assert statuses(answer) == [200]
        assert b"connection: close" in answer
        assert server.process.wait(timeout=20) == 0


def test_a_second_signal_stops_at_once(serve_binary: Path, make_bundle: MakeBundle) -> None:
    with running(serve_binary, make_bundle(), env={"INFC__DRAIN_DELAY_S": "30"}) as server:
        server.process.send_signal(signal.SIGTERM)
        while server.get("/v2/health/ready").status != 503:
            time.sleep(0.01)
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(timeout=20)
        assert time.monotonic() - begin < 10


def test_sigterm_before_readiness_ends_with_0(serve_binary: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(Fixture(kind="embed"))
    for step in range(8):
        with running(serve_binary, bundle, ready=False) as server:
            time.sleep(step * 0.01)
            assert server.stop() == 0


def test_a_client_that_does_not_read_its_answer_does_not_hold_up_the_end(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    with running(serve_binary, make_bundle()) as server:
        stream = socket.socket()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream.connect(("127.0.0.1", server.port))
        stream.settimeout(1)
        with contextlib.suppress(TimeoutError):  # megabytes of answers, none of them read
            stream.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n" * 2000)
        assert server.stop() == 0
        stream.close()


def stop_under_load(serve_binary: Path, bundle: Path, chooser: random.Random) -> tuple[int, list[str], float]:
    """One stop at a random moment. The exit code, what each request's client saw go against the rule, and the seconds
    from the signal to the end."""
    env = {"INFC__DRAIN_DELAY_S": str(chooser.choice([0, 0.05, 0.2]))}
    wrong: list[str] = []
    with running(serve_binary, bundle, env=env) as server:
        stopped = threading.Event()

        def client(seed: int) -> None:
            rng = random.Random(seed)
            while not stopped.is_set():
                try:
                    stream = connect(server)
                except OSError:
                    return
                with stream:
                    for _ in range(rng.randrange(1, 6)):
                        try:
                            stream.sendall(WHOLE[: (cut := rng.randrange(1, len(WHOLE)))])
                            time.sleep(rng.choice([0, 0, 0.002]))
                            stream.sendall(WHOLE[cut:])
                        except OSError:
                            break
                        got = b""
                        try:
                            while b"\r\n\r\n" not in got or not got.endswith(b"}"):
                                part = stream.recv(65536)
                                if not part:
                                    break
                                got += part
                        except OSError:
                            if got:
                                wrong.append(f"reset within an answer: {got!r}")
                            break
                        # A clean end before any byte: it was sent after the close, which only the stop may cause.
                        if not got and server.process.poll() is None and not sent.is_set():
                            wrong.append("an end without an answer before the stop")
                        if got and (statuses(got) != [200] or not got.endswith(b"}")):
                            wrong.append(f"an answer that is none: {got!r}")
                        if not got or b"connection: close" in got:
                            break

        sent = threading.Event()
        threads = [threading.Thread(target=client, args=(chooser.random(),)) for _ in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(chooser.random() * 0.15)
        sent.set()
        begin = time.monotonic()
        code = server.stop()
        took = time.monotonic() - begin
        stopped.set()
        for thread in threads:
            thread.join(timeout=30)
    return code, wrong, took


@pytest.mark.parametrize("stops", [20, pytest.param(200, marks=pytest.mark.full)])
def test_stops_at_random_moments_under_load_end_well_and_the_clients_ledger_agrees(
    serve_binary: Path, make_bundle: MakeBundle, stops: int
) -> None:
    bundle, chooser = make_bundle(Fixture(defines=("DELAY_MS=3",))), random.Random(stops)
    times: list[float] = []
    for _ in range(stops):
        code, wrong, took = stop_under_load(serve_binary, bundle, chooser)
        assert (code, wrong) == (0, [])
        times.append(took)
    print(f"{stops} stops: {sorted(times)[stops // 2]:.2f} s at the median, {max(times):.2f} s at worst")
