"""A few clients keep nobody else from being served: memory, slots, and who is closed when there are none."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import time
from pathlib import Path

import pytest

from .bundles import WIDTH, Fixture
from .conftest import MakeBundle
from .serving import Server, environment, read_to_end, run, running

ROW = [1.0] * WIDTH
BODY = json.dumps({"features": [ROW]}).encode()
JSON = "content-type: application/json\r\n"


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def head(extra: str) -> bytes:
    return f"POST /infer HTTP/1.1\r\nhost: x\r\n{JSON}{extra}\r\n\r\n".encode()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "begun",
    [head(f"content-length: {1 << 20}") + b"{", head("transfer-encoding: chunked") + b"1\r\n{\r\n"],
    ids=["announced", "chunked"],
)
def test_what_is_announced_takes_no_memory(serve_binary: Path, make_bundle: MakeBundle, begun: bytes) -> None:
    with running(serve_binary, make_bundle()) as server:
        held = [connect(server) for _ in range(40)]
        for stream in held:
            stream.sendall(begun)
        time.sleep(0.1)
        assert {server.post("/infer", BODY).status for _ in range(20)} == {200}
        assert server.metric("infc_request_bytes") < 40 * 1000
        for stream in held:
            stream.close()


def test_large_bodies_that_fill_the_memory_leave_small_ones_theirs_and_the_slowest_goes(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    most = 1 << 20
    with running(serve_binary, make_bundle()) as server:
        held = [connect(server) for _ in range(12)]
        for stream in held:  # each all but complete; eight have room
            stream.settimeout(2)
            with contextlib.suppress(OSError):
                stream.sendall(head(f"content-length: {most}") + b" " * (most - 1))
        assert {server.post("/infer", BODY).status for _ in range(20)} == {200}
        assert server.metric("infc_request_bytes") <= server.metric("infc_request_bytes_max")
        end = time.monotonic() + 20
        while server.metric("infc_evicted_connections_total") < 3 and time.monotonic() < end:
            time.sleep(0.02)  # one leaves at a time
        assert server.metric("infc_evicted_connections_total") >= 3
        gone = 0
        for stream in held:
            stream.setblocking(False)
            with contextlib.suppress(OSError):
                gone += stream.recv(4096).startswith(b"HTTP/1.1 408 ")
            stream.close()
        assert gone >= 2, "who is closed is told so"  # the third may just be on its way
        while server.metric("infc_request_bytes") > most and time.monotonic() < end:
            time.sleep(0.02)
        large = b" " * (most - len(BODY)) + BODY
        assert server.post("/infer", large).status == 200


def test_with_all_slots_taken_the_slowest_makes_room_then_the_oldest_idle_one(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    with running(serve_binary, make_bundle(), env={"INFC__MAX_CONNECTIONS": "6"}) as server:
        idle = [connect(server) for _ in range(3)]
        time.sleep(0.05)
        slow = [connect(server) for _ in range(3)]
        slow[0].sendall(b"POST /infer HTTP/1.1\r\nhost")
        slow[1].sendall(head(f"content-length: {len(BODY)}") + BODY[:-1])
        slow[2].sendall(head("content-length: 100000") + b" " * 50_000)
        time.sleep(0.3)
        answers: list[int] = []
        for _ in range(5):
            connection = server.connect()
            connection.request("POST", "/infer", BODY, {"content-type": "application/json"})
            response = connection.getresponse()
            response.read()
            answers.append(response.status)
            idle.append(connection.sock)  # kept open: it needs a slot of its own
        assert answers == [200] * 5
        for stream in slow:
            assert status(read_to_end(stream)) == 408
        for stream in idle[:2]:
            assert read_to_end(stream) == b"", "the oldest idle ones end cleanly"
        for stream in idle:
            stream.close()


def test_who_was_closed_to_make_room_connects_again_from_the_same_port(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    """The server's end of a connection must not go on taking packets away once the connection is over."""
    with running(serve_binary, make_bundle(), env={"INFC__MAX_CONNECTIONS": "1"}) as server:
        address = ("127.0.0.1", server.port)  # and from an address that no other test takes a port of
        idle = socket.create_connection(address, timeout=20, source_address=("127.0.0.77", 0))
        source = idle.getsockname()
        with connect(server) as other:
            assert read_to_end(idle) == b""
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            idle.close()  # with a reset: the port is free at once
            other.sendall(head(f"content-length: {len(BODY)}") + BODY)
            assert status(other.recv(4096)) == 200
        with socket.create_connection(address, timeout=10, source_address=source) as again:
            again.sendall(head(f"content-length: {len(BODY)}") + BODY)
            assert status(again.recv(4096)) == 200


def test_a_connection_that_is_being_answered_is_never_closed_for_another(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    fixture = Fixture(defines=("DELAY_MS=200",), serve={"batch": {"max_requests": 8, "max_rows": 16}})
    with running(serve_binary, make_bundle(fixture), env={"INFC__MAX_CONNECTIONS": "3"}) as server:
        connections = [server.connect() for _ in range(9)]
        for connection in connections:
            connection.request("POST", "/infer", BODY, {"content-type": "application/json"})
        assert [c.getresponse().status for c in connections] == [200] * 9
        for connection in connections:
            connection.close()


def test_health_and_metrics_answer_on_their_own_port_while_every_slot_is_taken(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    fixture = Fixture(defines=("DELAY_MS=300",), serve={"batch": {"max_requests": 1, "max_rows": 1}})
    env = {"INFC__MAX_CONNECTIONS": "4"}
    with running(serve_binary, make_bundle(fixture), "--metrics-port", "0", env=env) as server:
        connections = [server.connect() for _ in range(8)]
        for connection in connections:
            connection.request("POST", "/infer", BODY, {"content-type": "application/json"})
        address = server.addresses["metrics"]
        assert address is not None
        for path in ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/metrics"):
            side = http.client.HTTPConnection(address, timeout=10)
            side.request("GET", path)
            assert side.getresponse().status == 200, "saturation is never unreadiness"
            side.close()
        assert [c.getresponse().status for c in connections] == [200] * 8
        for connection in connections:
            connection.close()


def test_a_prompt_before_many_texts_takes_memory_and_a_turn_of_its_own(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    words = "green apples " * 28
    with running(serve_binary, make_bundle(Fixture(kind="embed", task={"overflow": "truncate"}))) as server:

        def embeddings(**body: object) -> tuple[int, str]:
            answer = server.post("/v1/embeddings", {"model": "fixture", **body})
            error = "" if answer.status == 200 else answer.json["error"]["message"]
            return answer.status, error or json.dumps([item["embedding"] for item in answer.json["data"]])

        texts = [f"text {n}" for n in range(20)]
        together = embeddings(prompt=words, input=texts)
        each = [json.loads(embeddings(prompt=words, input=[text])[1])[0] for text in texts]
        assert (together[0], json.loads(together[1])) == (200, each)
        # 64 tokens of 16 bytes before each text.
        assert embeddings(prompt=words, input=[""] * 2048)[0] == 200
        assert server.metric("infc_request_bytes") < 1000
    small = Fixture(kind="embed", task={"overflow": "truncate"}, serve={"max_body_bytes": 1 << 16})
    with running(serve_binary, make_bundle(small)) as server:
        answer = server.post("/v1/embeddings", {"model": "fixture", "prompt": words, "input": [""] * 2048})
        assert (answer.status, answer.json["error"]["param"]) == (422, "prompt")
        assert "too much memory" in answer.json["error"]["message"]


def test_the_number_of_connections_is_bounded_by_its_setting_and_by_open_files(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    bundle = make_bundle()
    result = run(serve_binary, bundle, "--port", "0", env={"INFC__MAX_CONNECTIONS": "65537"})
    assert result.returncode == 2
    assert "1 to 65536" in result.stderr
    limits = {"soft": "ulimit -Sn 256", "hard": "ulimit -n 400"}
    for kind, limit in limits.items():
        command = ["sh", "-c", f'{limit} && exec "$0" "$@"', str(serve_binary), "--bundle", str(bundle), "--port", "0"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        )
        try:
            assert process.stdout is not None
            address = json.loads(process.stdout.readline())["http"]
            server = Server(process, {"http": address})
            server.ready()
            limits_now = Path(f"/proc/{process.pid}/limits").read_text()
            (files,) = [line.split() for line in limits_now.splitlines() if line.startswith("Max open files")]
            held = [connect(server) for _ in range(500)]
            assert server.post("/infer", BODY).status == 200
            for stream in held:
                stream.close()
            assert server.stop() == 0
            said = process.stderr.read() if process.stderr is not None else ""
            assert ("RLIMIT_NOFILE" in said) == (kind == "hard")
            assert int(files[3]) >= (4096 if kind == "soft" else 400)
            assert "accepting a connection" not in said
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()
