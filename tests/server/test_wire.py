"""Hostile bytes: the right status, the process alive, and others served."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .bundles import WIDTH, Fixture
from .conftest import MakeBundle
from .serving import Server, read_to_end, running

ROW = [1.0] * WIDTH
BODY = b'{"features": [[1,1,1,1,1,1,1,1]]}'
LIMIT = 100_000


@pytest.fixture(scope="module")
def server(serve_binary: Path, make_bundle: MakeBundle) -> Iterator[Server]:
    fixture = Fixture(serve={"max_body_bytes": LIMIT})
    quick = {"INFC__READ_TIMEOUT_S": "0.5", "INFC__IDLE_TIMEOUT_S": "0.5"}
    with running(serve_binary, make_bundle(fixture), env=quick) as server:
        yield server
        assert server.post("/infer", {"features": [ROW]}).status == 200
        assert server.process.poll() is None


def post(length: int, body: bytes, extra: str = "") -> bytes:
    head = (
        f"POST /infer HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{extra}\r\n"
    )
    return head.encode() + body


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def raw(server: Server, request: bytes) -> int:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as stream:
        stream.sendall(request)
        return status(read_to_end(stream))


def test_content_types(server: Server) -> None:
    for kind in ("application/json", "application/json; charset=utf-8", "APPLICATION/JSON"):
        assert server.post("/infer", BODY, {"content-type": kind}).status == 200
    assert server.request("POST", "/infer", BODY).status == 200
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"):
        answer = server.post("/infer", BODY, {"content-type": kind})
        assert answer.status == 415
        assert "expected application/json" in answer.json["error"]["message"]
    assert server.post("/infer", BODY, {"content-encoding": "gzip"}).status == 415
    head = f"POST /infer HTTP/1.1\r\nhost: x\r\ncontent-length: {len(BODY)}\r\nconnection: close\r\n"
    for lines, wanted in (
        ("content-type: application/json\r\n", 200),
        ("content-encoding: identity\r\ncontent-encoding: gzip\r\n", 415),
        ("content-type: application/json\r\ncontent-type: text/plain\r\n", 415),
        ("x-request-deadline-ms: 20000\r\nx-request-deadline-ms: 1\r\n", 400),
    ):
        assert raw(server, (head + lines + "\r\n").encode() + BODY) == wanted, lines
    chunks = head.replace(f"content-length: {len(BODY)}", "transfer-encoding: gzip, chunked").encode()
    assert raw(server, chunks + b"\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)) == 415


def test_paths_and_methods(server: Server) -> None:
    for path in ("/", "/infer/", "/v3", "/v1/chat/completions", "/../etc/passwd", "/%2e%2e/x", "/v2/models"):
        assert server.get(path).status == 404
    for method, path in (("GET", "/infer"), ("DELETE", "/infer"), ("POST", "/v2/health/live"), ("PUT", "/metrics")):
        answer = server.request(method, path)
        assert answer.status == 405
        assert "allow" in answer.headers
    assert server.get("/v2/models/%00").status == 404
    assert server.get("/v2/models/%ff/ready").status in (400, 404)
    assert list(server.get("/v2/x").json) == ["error"]
    assert "param" in server.get("/v1/x").json["error"]


def test_bodies_beyond_the_limit_are_413_announced_or_not(server: Server) -> None:
    large = b" " * (LIMIT + 1)
    assert server.post("/infer", large).status == 413
    assert status(server.raw(post(10**18, b""))) == 413
    assert server.post("/infer", b" " * (40 * LIMIT)).status == 413, "the client that is still sending gets the answer"
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    head = b"POST /infer HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    assert status(server.raw(head + chunk * 2 + b"0\r\n\r\n")) == 413
    exactly = BODY + b" " * (LIMIT - len(BODY))
    assert server.post("/infer", exactly).status == 200


@pytest.mark.parametrize(
    ("path", "lines", "wanted"),
    [("/nothing", "", 404), ("/infer", "content-type: text/plain\r\n", 415), ("/v2/health/live", "", 405)],
)
def test_who_is_refused_before_the_body_is_read_gets_the_answer(
    server: Server, path: str, lines: str, wanted: int
) -> None:
    def request(length: int, more: str = "") -> bytes:
        return f"POST {path} HTTP/1.1\r\nhost: x\r\n{lines}{more}content-length: {length}\r\n\r\n".encode()

    # The rest of a small body is read, and what comes behind it is answered.
    both = request(1000) + b" " * 1000 + post(len(BODY), BODY, "connection: close\r\n")
    answers = server.raw(both, half_close=False)
    assert [int(part.split(b" ", 1)[0]) for part in answers.split(b"HTTP/1.1 ")[1:]] == [wanted, 200]
    # Behind a large one nothing is: the answer says so, and the client that is still sending can read it.
    for body in (b" " * 200_000, b" " * 3_000_000):
        answer = server.raw(request(len(body)) + body + post(len(BODY), BODY))
        assert status(answer) == wanted
        assert b"connection: close" in answer
    # Nor is a body that the client asked about, and a slow one is not waited for.
    for begun in (request(5, "expect: 100-continue\r\n"), request(1000) + b" "):
        answer = server.raw(begun)
        assert status(answer) == wanted
        assert b"connection: close" in answer


def test_slow_senders_are_408_and_do_not_hold_others_up(server: Server) -> None:
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as body,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as head,
    ):
        body.sendall(post(len(BODY), BODY[:5]))
        head.sendall(b"POST /infer HTTP/1.1\r\nhost")
        assert server.post("/infer", BODY).status == 200
        assert status(read_to_end(body)) == 408
        assert status(read_to_end(head)) == 408


def test_deep_nesting_is_refused_without_harm(server: Server) -> None:
    for body in (b"[" * 90_000, b'{"a":' * 15_000, b'{"features": ' + b"[" * 90_000, b'{"x": ' + b'{"y":' * 10_000):
        assert server.post("/infer", body).status in (400, 422)


def test_huge_shapes_and_numbers(server: Server) -> None:
    digits = b'{"features": [[' + b"9" * 50_000 + b",1,1,1,1,1,1,1]]}"
    assert server.post("/infer", digits).status == 422
    exponent = b'{"features": [[1e' + b"9" * 50_000 + b",1,1,1,1,1,1,1]]}"
    assert server.post("/infer", exponent).status == 422
    tiny = b'{"features": [[1e-' + b"9" * 500 + b",1,1,1,1,1,1,1]]}"
    assert server.post("/infer", tiny).status == 200
    wide = b'{"features": [[' + b"1," * 40_000 + b"1]]}"
    answer = server.post("/infer", wide)
    assert answer.status == 422
    assert "expected shape [batch, 8], got [1, 40001]" in answer.json["error"]["message"]
    keys = b"{" + b",".join(b'"k%d":1' % i for i in range(8000)) + b"}"
    assert server.post("/infer", keys).status == 422


def test_names_from_outside_come_back_escaped_and_short(server: Server) -> None:
    answer = server.post("/infer", {"<script>\n\"'\\" + "x" * 10_000: 1})
    assert answer.status == 422
    assert len(answer.body) < 1000
    assert answer.json["error"]["field"].startswith("<script>")
    assert server.post("/infer", {"features": [ROW], "model": "y" * 50_000}).status == 404


def test_disconnects_at_every_offset_leave_the_server_whole(server: Server) -> None:
    whole = post(len(BODY), BODY)
    for offset in range(0, len(whole), 7):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as stream:
            stream.sendall(whole[:offset])
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as stream:
        stream.sendall(whole)  # leaves without reading the answer
    assert server.post("/infer", BODY).status == 200


def test_random_bytes_and_lying_lengths(server: Server) -> None:
    chooser = random.Random(9)
    for _ in range(60):
        server.raw(chooser.randbytes(chooser.randrange(1, 400)))
    whole = post(len(BODY), BODY)
    for _ in range(150):
        mutated = bytearray(whole)
        for _ in range(chooser.randrange(1, 4)):
            mutated[chooser.randrange(len(mutated))] = chooser.randrange(256)
        answer = server.raw(bytes(mutated))
        if answer:
            assert status(answer) in (200, 400, 404, 405, 408, 413, 414, 415, 422, 431, 501, 505), mutated
    assert status(server.raw(post(len(BODY) + 5, BODY))) == 400, "the body ended before its announced length"
    # Two lengths, or a length and chunks: never two readings of one stream.
    smuggled = post(len(BODY), BODY, "content-length: 3\r\n")
    assert status(server.raw(smuggled)) == 400
    both = post(5, b"0\r\n\r\nGET /v2 HTTP/1.1\r\nhost: x\r\n\r\n", "transfer-encoding: chunked\r\n")
    assert server.raw(both).count(b"HTTP/1.1") <= 1


def test_oversize_heads_are_refused(server: Server) -> None:
    assert status(server.raw(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n")) in (414, 431)
    headers = b"".join(b"x-%d: y\r\n" % i for i in range(500))
    assert status(server.raw(b"GET /v2 HTTP/1.1\r\nhost: x\r\n" + headers + b"\r\n")) == 431


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    last = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    answer = server.raw(post(len(BODY), BODY) + last, half_close=False)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.index(b"outputs") < answer.index(b"live")


def test_no_internal_name_or_path_leaks(server: Server) -> None:
    for body in (b"{", b"[]", b"{}", b'{"features": 1}', b"\x00"):
        text = server.post("/infer", body).body.decode()
        for word in (".rs", "panicked", "serde", "tokio", "model.so", "weights", "infc_", "/root", "/tmp", "/home"):
            assert word not in text


def test_an_attack_from_many_sides_leaves_innocent_requests_right(server: Server) -> None:
    chooser = random.Random(2)
    attacks = [b"[" * 50_000, post(10**9, b"x"), b"GET / HTTP/9.9\r\n\r\n", chooser.randbytes(1000), post(50, b"{")]

    def attack(number: int) -> None:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            try:
                server.raw(attacks[number % len(attacks)])
            except OSError:
                continue  # it hung up on us: as it may

    with ThreadPoolExecutor(6) as pool:
        running_attacks = [pool.submit(attack, n) for n in range(6)]
        for _ in range(40):
            assert server.post("/infer", BODY).status == 200
        for future in running_attacks:
            future.result()
