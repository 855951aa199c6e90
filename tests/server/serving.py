"""Starting the server and talking to it, bytes included."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """A running server; `port` is HTTP's."""

    process: subprocess.Popen[str]
    addresses: dict[str, str | None]

    @property
    def port(self) -> int:
        address = self.addresses["http"]
        assert address is not None
        return int(address.rsplit(":", 1)[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def request(
        self, method: str, path: str, body: bytes | str | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        return self.request("GET", path, None, headers)

    def post(self, path: str, value: Any, headers: dict[str, str] | None = None) -> Answer:
        """POST of a JSON value, or of bytes as they are."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return self.request("POST", path, body, {"content-type": "application/json"} | (headers or {}))

    def raw(self, data: bytes, half_close: bool = True) -> bytes:
        """Sends bytes on a connection of their own and reads to its end. The server takes a half-closed connection for
        a client that leaves: bytes that ask for a model's answer should not half-close."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as stream:
            stream.sendall(data)
            if half_close:
                stream.shutdown(socket.SHUT_WR)
            return read_to_end(stream)

    def ready(self, timeout: float = 30) -> Server:
        """Waits until it is ready."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.get("/v2/health/ready").status == 200:
                return self
            assert self.process.poll() is None, f"the server ended with {self.process.returncode}"
            time.sleep(0.005)
        raise AssertionError("the server did not become ready")

    def metric(self, name: str) -> float:
        """The sum of a metric's samples over all labels."""
        lines = self.get("/metrics").body.decode().splitlines()
        found = [float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name]
        return sum(found)

    def metric_at_side(self, name: str) -> float:
        """Like `metric`, from the listener of `--metrics-port`."""
        address = self.addresses["metrics"]
        assert address is not None
        connection = http.client.HTTPConnection(address, timeout=10)
        try:
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
        finally:
            connection.close()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(with_signal)
        return self.process.wait(timeout=30)


def read_to_end(stream: socket.socket) -> bytes:
    parts: list[bytes] = []
    while part := stream.recv(65536):
        parts.append(part)
    return b"".join(parts)


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("INFC__")}
    return kept | (extra or {})


@contextmanager
def running(
    binary: Path, bundle: Path, *arguments: str, env: dict[str, str] | None = None, ready: bool = True
) -> Generator[Server, None, None]:
    """The server on a free port; killed at the end if it still runs."""
    command = [str(binary), "--bundle", str(bundle), *(("--port", "0") if "--uds" not in arguments else ()), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(env))
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise AssertionError(f"the server ended at its start: {process.communicate()[1]}")
        server = Server(process, json.loads(line))
        yield server.ready() if ready else server
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def run(
    binary: Path, bundle: Path, *arguments: str, stdin: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """One of the server's other commands, to its end."""
    command = [str(binary), *arguments, "--bundle", str(bundle)]
    return subprocess.run(
        command, check=False, input=stdin, capture_output=True, text=True, timeout=60, env=environment(env)
    )
