"""The suite `start`: a server is timed to its first correct answer, and one that does not start says why."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from bench import start
from bench.start import NotStarted, Started, start_once

SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
refusals = [1, 1]
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(503 if refusals and refusals.pop() else 200)
        self.end_headers()
        self.wfile.write(json.dumps({"data": [{"index": 0, "embedding": [float(len(asked["input"][0])), 0.0]}]}).encode())
    def log_message(self, *_): pass
server = HTTPServer(("127.0.0.1", 0), Handler)
print(json.dumps({"http": f"127.0.0.1:{server.server_port}"}), flush=True)
server.serve_forever()
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setattr(start, "FOLDER", tmp_path)


def test_a_server_is_asked_until_it_answers_and_its_answer_is_compared() -> None:
    row = Started("other", "float32")
    start_once(row, [sys.executable, "-c", SERVER], "four", np.array([[1.0, 0.0]], np.float32))
    assert len(row.seconds) == 1
    assert row.least == row.median > 0
    assert row.resident > 1 << 20
    assert row.exact == pytest.approx(1.0)


def test_infc_with_a_wrong_answer_has_not_started() -> None:
    wrong = np.array([[0.0, 1.0]], np.float32)
    with pytest.raises(NotStarted, match="cosine is 0.0000"):
        start_once(Started("infc", "float32"), [sys.executable, "-c", SERVER], "four", wrong)


def test_a_program_that_ends_before_it_listens_says_so() -> None:
    with pytest.raises(NotStarted, match="ended with 3 before it listened"):
        start_once(Started("infc", "float32"), [sys.executable, "-c", "raise SystemExit(3)"], "four", np.ones((1, 2)))
