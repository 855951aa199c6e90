"""What ends a build early leaves nothing behind, neither files nor processes; what kill -9 leaves, the next build removes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from infc.compiler.temporary import sweep, temporary_folder

ROOT = Path(__file__).parents[2]
MOMENTS = 50
BUILD_S = 12.0
"""About as long as the build takes on two cores: random moments are drawn from it."""
DONE = (0, 4)
"""Exit codes of a build that ended well: its target is met, or not proved."""
MAKE = """import sys, torch

class M(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Linear(16, 32)

    def forward(self, x):
        return torch.relu(self.a(x))

batch = torch.export.Dim("batch", min=2, max=64)
torch.export.save(torch.export.export(M(), (torch.ones(4, 16),), dynamic_shapes=({0: batch},)), sys.argv[1])
"""
SPEC = """infer 1
model m {
  source export("m.pt2")
  input x: float32[batch, 16]
  dim batch in 2..64
}
traffic {
  rate 20 req/s
}
targets {
  latency p50 <= 10 s
}
search {
  budget 10 s
}
"""


@dataclass(frozen=True)
class Running:
    """A build in a session of its own; `mark` is in the environment of every process that it starts."""

    process: subprocess.Popen[str]
    folder: Path
    mark: str

    def processes(self) -> list[str]:
        """Command lines of what runs with its mark."""
        found: list[str] = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (place / "environ").read_bytes():
                    found.append((place / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue  # it has ended, or is another user's
        return found

    def left(self) -> list[str]:
        """Names that a build leaves only while it runs."""
        return [p.name for p in [*self.folder.glob(".m.bundle*"), *(self.folder / "tmp").iterdir()]]

    def wait_for(self, seen: Callable[[Running], bool]) -> None:
        """Until the build is so far."""
        end = time.monotonic() + 120
        while not seen(self):
            assert self.process.poll() is None, "the build ended before that moment"
            assert time.monotonic() < end, "the build never came to that moment"
            time.sleep(0.005)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "m.pt2"
    subprocess.run([sys.executable, "-c", MAKE, str(path)], check=True, capture_output=True)
    return path


@contextmanager
def default_signals() -> Generator[None]:
    """Under nohup, or in the background of a script, signals are ignored, and so they would be by what is started here."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start(folder: Path, exported: Path) -> Running:
    """A build of a program that a locked-in worker imports, zig compiles and the server measures."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    shutil.copy(exported, folder / "m.pt2")
    (folder / "m.infer").write_text(SPEC, encoding="utf-8")
    mark = f"mark-{uuid.uuid4().hex}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp"), "LC_INFC_TEST": mark}
    with default_signals():
        process = subprocess.Popen(
            [sys.executable, "-m", "infc", "build", "-q", "m.infer", "--cache-dir", str(folder / "cache")],
            cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env=environment,
        )  # fmt: skip
    return Running(process, folder, mark)


def has(pattern: str) -> Callable[[Running], bool]:
    return lambda running: any(running.folder.glob(pattern))


def runs(text: str) -> Callable[[Running], bool]:
    return lambda running: any(text in command for command in running.processes())


def send(running: Running, number: signal.Signals) -> None:
    """Ctrl-C as a terminal sends it, to the whole group; other signals to the build alone."""
    if number == signal.SIGINT:
        os.killpg(running.process.pid, number)
    else:
        running.process.send_signal(number)


def gone(running: Running) -> list[str]:
    """What still runs 5 s after the build's end: a killed process needs a moment."""
    end = time.monotonic() + 5
    while (found := running.processes()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def check_ended(running: Running) -> None:
    _, said = running.process.communicate(timeout=60)
    assert (running.process.returncode, said) == (130, "error: interrupted\n")
    assert running.left() == []
    assert gone(running) == []
    assert not (running.folder / "m.bundle").exists()


@pytest.mark.parametrize(
    ("number", "seen"),
    [
        pytest.param(signal.SIGINT, has("tmp/infc-work-*/import/*"), id="ctrl-c-importing"),
        pytest.param(signal.SIGINT, runs("/zig cc"), id="ctrl-c-compiling"),
        pytest.param(signal.SIGTERM, runs("serve prove"), id="term-measuring"),
        pytest.param(signal.SIGHUP, has("tmp/infc-work-*"), id="hangup-beginning"),
    ],
)
def test_a_signal_ends_a_build_with_one_line(
    tmp_path: Path, exported: Path, number: signal.Signals, seen: Callable[[Running], bool]
) -> None:
    running = start(tmp_path, exported)
    running.wait_for(seen)
    send(running, number)
    check_ended(running)


@pytest.mark.parametrize("where", ["exec('signal.raise_signal(2)')", "swallowed()", "destructor()"])
def test_an_interrupt_in_a_library_is_still_one(where: str) -> None:
    code = f"""
import signal, sys
from infc.compiler.processes import check_interrupted, interruptible
def swallowed():
    try:
        signal.raise_signal(2)
    except KeyboardInterrupt:
        raise ImportError("numpy cannot be imported")
class Last:
    def __del__(self):
        signal.raise_signal(2)
def destructor():
    Last()
    check_interrupted()
try:
    with interruptible():
        {where}
except KeyboardInterrupt:
    sys.exit(130)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with default_signals():
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
        )
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.full
def test_a_signal_at_any_moment(tmp_path: Path, exported: Path) -> None:
    chance, ended = random.Random(0), 0
    for turn in range(MOMENTS):
        running = start(tmp_path / str(turn), exported)
        running.wait_for(runs("infc build"))
        time.sleep(0.3 + chance.uniform(0, BUILD_S))  # before that the interpreter itself has the signals
        number = chance.choice([signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
        if running.process.poll() is None:
            send(running, number)
        _, said = running.process.communicate(timeout=60)
        what = f"turn {turn}, {number.name}, {running.process.returncode}: {said}"
        if running.process.returncode in DONE:
            assert (running.folder / "m.bundle").exists(), what
            assert said == "", what
        else:
            ended += 1
            assert (running.process.returncode, said) == (130, "error: interrupted\n"), what
        assert (running.left(), gone(running)) == ([], []), what
    assert ended > MOMENTS // 4


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(runs("serve prove"), id="measuring"),
        pytest.param(has("tmp/infc-work-*/import/*"), id="importing", marks=pytest.mark.full),
        pytest.param(runs("/zig cc"), id="compiling", marks=pytest.mark.full),
    ],
)
def test_what_kill_leaves_ends_and_the_next_build_removes(
    tmp_path: Path, exported: Path, seen: Callable[[Running], bool]
) -> None:
    running = start(tmp_path, exported)
    running.wait_for(seen)
    running.process.kill()
    running.process.communicate(timeout=60)
    assert gone(running) == []
    assert running.left()
    again = start(tmp_path, exported)
    _, said = again.process.communicate(timeout=240)
    assert again.process.returncode in DONE, said
    assert said == ""
    assert again.left() == []
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []


def test_a_held_folder_and_a_link_are_not_swept(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "p-aaaaaaaa").symlink_to("elsewhere")
    (tmp_path / "p-bbbbbbbb").mkdir()
    (tmp_path / "p-notes").mkdir()
    with temporary_folder(tmp_path, "p-") as held:
        sweep(tmp_path, "p-")
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["elsewhere", "p-aaaaaaaa", "p-notes", held.name])
