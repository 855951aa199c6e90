"""Addresses, settings, readiness, and the end: SIGTERM answers what was accepted."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from .bundles import WIDTH, Fixture
from .conftest import MakeBundle
from .serving import Server, environment, read_to_end, run, running

ROW = [1.0] * WIDTH


def test_the_bundle_is_the_folder_of_the_binary(serve_binary: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(serve=serve_binary)
    with running(bundle / "serve", bundle) as server:
        assert server.post("/infer", {"features": [ROW]}).status == 200


def test_metrics_may_have_a_port_of_their_own(serve_binary: Path, make_bundle: MakeBundle) -> None:
    with running(serve_binary, make_bundle(), "--metrics-port", "0") as server:
        address = server.addresses["metrics"]
        assert address is not None
        assert server.get("/metrics").status == 404
        server.post("/infer", {"features": [ROW]})
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("GET", "/metrics", headers={"accept": "application/openmetrics-text"})
        response = connection.getresponse()
        assert response.getheader("content-type", "").startswith("application/openmetrics-text")
        text = response.read().decode()
        assert text.endswith("# EOF\n")
        assert 'infc_requests_total{model="fixture"' in text


def test_metrics_have_their_names_and_bucket_edges_at_the_targets(serve_binary: Path, make_bundle: MakeBundle) -> None:
    target = {"kind": "latency", "statistic": "p99", "op": "<=", "bound": 0.0375, "unit": "s"}
    with running(serve_binary, make_bundle(Fixture(manifest={"targets": [target]}))) as server:
        server.post("/infer", {"features": [ROW]})
        text = server.get("/metrics").body.decode()
        for name in ("request_duration_seconds", "queue_duration_seconds", "compute_duration_seconds"):
            assert f"# TYPE infc_{name} histogram" in text
        assert 'infc_request_duration_seconds_bucket{le="0.0375",model="fixture"' in text
        for name in ("infc_batch_size_count", "infc_accepted_total", "infc_outcomes_total"):
            assert server.metric(name) == 1
        assert server.metric("infc_ready") == 1
        assert server.metric("infc_queue_depth") == server.metric("infc_in_flight") == 0
        assert server.metric("infc_promise_valid") == 1


def test_on_less_hardware_than_asked_for_it_runs_and_says_so(serve_binary: Path, make_bundle: MakeBundle) -> None:
    with running(serve_binary, make_bundle(Fixture(serve={"threads": 4096}))) as server:
        assert server.post("/infer", {"features": [ROW]}).status == 200
        assert server.metric("infc_promise_valid") == 0
        server.stop()
        assert server.process.stderr is not None
        assert "4096 threads are asked for" in server.process.stderr.read()


def test_a_unix_socket_serves_alone_and_is_replaced_when_stale(
    serve_binary: Path, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    path = str(tmp_path / "s")
    for _ in range(2):  # the first is killed and leaves its socket
        with running(serve_binary, make_bundle(), "--uds", path, ready=False) as server:
            assert server.addresses == {"http": None, "uds": path, "grpc": None, "metrics": None}
            deadline = time.monotonic() + 20
            answer = b""
            while b"200 OK" not in answer and time.monotonic() < deadline:
                with socket.socket(socket.AF_UNIX) as stream:
                    stream.connect(path)
                    stream.sendall(b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                    answer = read_to_end(stream)
            assert b'{"ready":true}' in answer
            assert Path(path).exists()
    with running(serve_binary, make_bundle(), "--uds", path, ready=False) as server:
        assert server.stop() == 0
        assert not Path(path).exists()


def test_settings_come_in_order_and_are_printed_with_their_origin(
    serve_binary: Path, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    bundle = make_bundle(Fixture(serve={"queue": 5}))
    config = tmp_path / "serve.toml"
    config.write_text('queue = 6\nport = 1\nhost = "127.0.0.2"\n[batch]\nmax_rows = 9\n')
    env = {"INFC__PORT": "2", "INFC__BATCH__MAX_TOKENS": "77", "INFC_PORT": "tcp://10.0.0.1:80"}
    result = run(serve_binary, bundle, "--config", str(config), "--port", "3", "--print-config", env=env)
    settings = json.loads(result.stdout)
    assert settings["queue"] == {"value": 6, "origin": str(config)}
    assert settings["port"] == {"value": 3, "origin": "flags"}
    assert settings["host"]["value"] == "127.0.0.2"
    assert settings["batch.max_rows"]["value"] == 9
    assert settings["batch.max_tokens"]["origin"].startswith("environment")
    assert settings["max_body_bytes"]["origin"] == "manifest.json"
    assert settings["drain_delay_s"]["origin"] == "default"


@pytest.mark.parametrize(
    ("config", "env", "part"),
    [
        ("prot = 1", {}, "unknown setting"),
        ("port = 99999", {}, "expected a port, 0 to 65535"),
        ("port = [", {}, "serve.toml"),
        ("", {"INFC__QUEUE": "many"}, "1 to 2147483647"),
        (
            "",
            {"INFC__BATCH__MAX_ROWS": "4294967296"},
            "batch.max_rows = 4294967296: expected a whole number, 1 to 2147483647",
        ),
        ("", {"INFC__UDS": ""}, "expected a string that is not empty"),
        ("", {"INFC__HOST": "nowhere.invalid"}, "cannot listen at nowhere.invalid:0"),
        ("", {"INFC__PROTOCOLS": "soap"}, "unknown protocol"),
    ],
)
def test_wrong_settings_end_with_2_and_name_the_setting(
    serve_binary: Path, make_bundle: MakeBundle, tmp_path: Path, config: str, env: dict[str, str], part: str
) -> None:
    path = tmp_path / "serve.toml"
    path.write_text(config)
    result = run(serve_binary, make_bundle(), "--config", str(path), "--port", "0", env=env)
    assert (result.returncode, result.stdout) == (2, "")
    assert part in result.stderr


def test_a_config_that_is_no_file_of_settings_is_refused_at_once(
    serve_binary: Path, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    fifo, large = tmp_path / "fifo", tmp_path / "large"
    os.mkfifo(fifo)
    large.write_text("#" * (2 << 20))
    for path, part in (
        (fifo, "regular"), (Path("/dev/zero"), "regular"), (tmp_path, "regular"), (large, "more than 1048576 bytes"),
        (tmp_path / "gone", "No such file"),
    ):  # fmt: skip
        result = run(serve_binary, make_bundle(), "--config", str(path), "--print-config")
        assert (result.returncode, result.stdout) == (2, ""), path
        assert part in result.stderr, path


def test_a_port_in_use_is_said(serve_binary: Path, make_bundle: MakeBundle) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run(serve_binary, make_bundle(), "--port", str(port))
    assert result.returncode == 2
    assert f"cannot listen at 127.0.0.1:{port}" in result.stderr


def test_sigterm_answers_everything_accepted_while_readiness_falls_first(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    fixture = Fixture(defines=("DELAY_MS=20",), serve={"batch": {"max_requests": 1, "max_rows": 1}})
    env = {"INFC__DRAIN_DELAY_S": "0.5"}
    with running(serve_binary, make_bundle(fixture), env=env) as server:
        statuses: list[int] = []
        refused = threading.Event()

        def client() -> None:
            connection = server.connect()
            body, headers = json.dumps({"features": [ROW]}), {"content-type": "application/json"}
            while True:
                try:
                    connection.request("POST", "/infer", body, headers)
                except ConnectionRefusedError:
                    refused.set()
                    return
                # Whatever was sent on an open connection must be answered in full, as long as the listener was open.
                response = connection.getresponse()
                response.read()
                statuses.append(response.status)
                if response.getheader("connection") == "close":
                    connection.close()

        threads = [threading.Thread(target=client) for _ in range(8)]
        for thread in threads:
            thread.start()
        while len(statuses) < 20:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        seen = None
        while seen != 503:
            seen = server.get("/v2/health/ready").status
        before = len(statuses)
        for thread in threads:
            thread.join(timeout=20)
        assert len(statuses) > before, "during drain_delay new requests are still answered"
        assert set(statuses) == {200}
        assert server.process.wait(timeout=20) == 0


def test_idle_connections_do_not_hold_up_the_end(serve_binary: Path, make_bundle: MakeBundle) -> None:
    with running(serve_binary, make_bundle()) as server:
        used, silent = server.connect(), socket.create_connection(("127.0.0.1", server.port))
        used.request("GET", "/v2/health/live")
        used.getresponse().read()
        begin = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begin < 10
        used.close()
        silent.close()


def test_sigint_ends_well_too(serve_binary: Path, make_bundle: MakeBundle) -> None:
    with running(serve_binary, make_bundle()) as server:
        assert server.stop(signal.SIGINT) == 0


def test_nothing_grows_over_many_connections(serve_binary: Path, make_bundle: MakeBundle) -> None:
    def descriptors(server: Server) -> int:
        return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))

    with running(serve_binary, make_bundle()) as server:
        server.post("/infer", {"features": [ROW]})
        baseline = descriptors(server)
        for _ in range(200):
            assert server.post("/infer", {"features": [ROW]}).status == 200
        end = time.monotonic() + 5
        while descriptors(server) > baseline and time.monotonic() < end:
            time.sleep(0.02)
        assert descriptors(server) <= baseline
        assert "INFC__PORT" not in environment()
