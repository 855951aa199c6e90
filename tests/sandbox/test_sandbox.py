"""What a locked-in worker can do: its work, and nothing else."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infc.compiler.errors import Exit, InfcError
from infc.compiler.frontends import FrontendError
from infc.compiler.sandbox import landlock
from infc.compiler.sandbox.process import Bounds, Confined, Worker, printable
from infc.compiler.sandbox.syscalls import ALLOWED, MACHINES, filter_program, refusing

HERE = Path(__file__).resolve().parent
PREFIX = "import sys; sys.path.insert(0, {here!r}); "


def started(folder: Path, read: tuple[Path, ...] = (), **bounds: Any) -> Worker:
    """A locked-in worker with the session of attempts.py."""
    confined = Confined(read=(*map(str, read), str(HERE)), bounds=Bounds(**bounds))
    return Worker("attempts", "'a test'", folder=folder, confined=confined)


@pytest.fixture(autouse=True)
def session_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's interpreter ignores PYTHONPATH; a session of ours is imported by a start of ours."""
    from infc.compiler.sandbox import process

    monkeypatch.setattr(process, "START", PREFIX.format(here=str(HERE)) + process.START)


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the user's that has nothing to do with the model."""
    file = tmp_path_factory.mktemp("home") / "secret"
    file.write_text("key")
    return file


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.bin").write_bytes(b"weights")
    found = started(tmp_path / "own", (source,))
    yield found
    found.close()


REFUSED = [
    "truncate", "chmod", "chown", "utime", "symlink", "hard link", "fifo", "exec", "run", "fork", "socket",
    "unix socket", "socket pair", "kill parent", "kill group", "memfd", "ptrace", "io_uring", "process_vm_readv",
    "pidfd_open", "bpf", "keyctl", "mount", "unshare", "shmget", "userfaultfd", "perf", "unlimited files",
    "own terminal", "read parent", "unknown number", "read", "write", "remove",
]  # fmt: skip


def test_what_a_worker_has_no_business_with_is_refused(worker: Worker, secret: Path) -> None:
    came = {do: worker.ask({"do": do, "path": str(secret)}) for do in REFUSED}
    assert {do: said for do, said in came.items() if "refused" not in said} == {}
    assert secret.read_text() == "key"
    assert worker.ask({"do": "list", "path": str(secret.parent)})["refused"] == "PermissionError"
    assert worker.ask({"do": "read", "path": "/etc/passwd"})["refused"] == "PermissionError"


def test_a_worker_reads_its_source_and_writes_its_own_folder(worker: Worker, tmp_path: Path) -> None:
    source, own = tmp_path / "source" / "model.bin", tmp_path / "own" / "out"
    assert worker.ask({"do": "read", "path": str(source)}) == {"came": "7"}
    for do in ("write", "truncate", "remove"):
        assert worker.ask({"do": do, "path": str(source)})["refused"] == "PermissionError"
    assert worker.ask({"do": "write", "path": str(own)}) == {"came": "1"}
    assert worker.ask({"do": "read", "path": str(own)}) == {"came": "1"}
    for do in ("thread", "sleep a little", "kill self", "read itself", "numpy"):
        assert "came" in worker.ask({"do": do}), do
    assert source.read_bytes() == b"weights"


def test_a_worker_is_locked_in_before_numpy_or_torch_is_imported(worker: Worker) -> None:
    assert worker.ask({"do": "loaded"}) == {"came": "[]"}


def test_a_worker_sees_no_secrets_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    worker = started(tmp_path / "own")
    said = worker.ask({"do": "environment"})["came"]
    worker.close()
    assert "AWS" not in said
    assert "HF_HUB_OFFLINE" in said


@pytest.mark.parametrize(
    ("request_", "bounds", "said"),
    [
        ({"do": "sleep"}, {"seconds": 0.5}, "took more than 0 s"),
        ({"do": "allocate", "pieces": 8}, {"memory_bytes": 200 << 20}, "of memory, and was ended"),
        ({"do": "shout", "count": 2 << 20}, {"answer_bytes": 1 << 20}, "an answer of more than 1 MiB"),
        ({"do": "die"}, {}, "was ended by SIGSEGV"),
    ],
)
def test_a_worker_that_takes_too_much_is_ended_with_the_bound_named(
    tmp_path: Path, request_: dict[str, Any], bounds: dict[str, Any], said: str
) -> None:
    worker = started(tmp_path / "own", **bounds)
    with pytest.raises(FrontendError, match=said) as caught:
        worker.ask(request_)
    assert caught.value.exit_code == Exit.USAGE
    with pytest.raises(FrontendError, match="has ended"):
        worker.ask({"do": "thread"})


def test_a_worker_that_fills_the_disk_is_stopped(tmp_path: Path) -> None:
    worker = started(tmp_path / "own", disk_bytes=100 << 20)
    with pytest.raises(FrontendError, match="wrote more than"):
        worker.ask({"do": "fill"})
    with pytest.raises(FrontendError, match="has ended"):
        worker.ask({"do": "thread"})


def test_words_of_a_worker_cannot_command_a_terminal(worker: Worker) -> None:
    with pytest.raises(FrontendError) as caught:
        worker.ask({"do": "raise", "text": "\x1b]0;owned\x07\u202e" + "a" * 10_000})
    assert "\x1b" not in caught.value.message
    assert "\x07" not in caught.value.message
    assert "\u202e" not in caught.value.message
    assert len(caught.value.message) < 5000
    with pytest.raises(TypeError):
        printable(7)


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b'{"ok": 3}', b'{"error": {"message": "x", "hint": "", "code": 1}}', b"[" * 100_000, b"\xff"],
)
def test_an_answer_in_another_form_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: bytes) -> None:
    worker = started(tmp_path / "own")

    def say(_request: bytes, _seconds: float | None) -> bytes:
        return line

    monkeypatch.setattr(worker, "_exchange", say)
    with pytest.raises(FrontendError, match="gave an answer that cannot be used"):
        worker.ask({"do": "thread"})


# ── kernels without a part of it ─────────────────────────────────────────────────────────────────────────────────────

WITHOUT = """
import ctypes, platform, sys
sys.path.insert(0, {root!r})
from infc.compiler.sandbox.enter import install
from infc.compiler.sandbox.syscalls import refusing
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
assert install(libc, refusing(platform.machine(), {numbers!r}))
import pathlib
from infc.compiler.errors import InfcError
from infc.compiler.sandbox import process
process.START = {prefix!r} + process.START
confined = process.Confined(read=({here!r},), required={required})
try:
    worker = process.Worker("attempts", "'a test'", folder=pathlib.Path({own!r}), confined=confined)
    print(worker.missing, worker.ask({{"do": "socket"}}), worker.ask({{"do": "read", "path": "/etc/passwd"}}).keys())
    worker.close()
except InfcError as error:
    print(int(error.exit_code), error.message)
"""


def on_a_kernel_without(numbers: list[int], tmp_path: Path, *, required: bool = False) -> str:
    """What is printed on a kernel that lacks these system calls (a filter of ours says so)."""
    root = str(HERE.parents[1])
    values = {"root": root, "numbers": numbers, "here": str(HERE), "own": str(tmp_path / "own"), "required": required}
    code = WITHOUT.format(**values, prefix=PREFIX.format(here=str(HERE)))
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120, check=False)
    return found.stdout + found.stderr[-2000:]


SECCOMP = {"x86_64": 317, "aarch64": 277}[platform.machine()]


def test_without_landlock_system_calls_are_still_filtered(tmp_path: Path) -> None:
    said = on_a_kernel_without([landlock.CREATE_RULESET], tmp_path)
    assert said == "('Landlock',) {'refused': 'PermissionError', 'errno': 1} dict_keys(['came'])\n"


def test_without_seccomp_files_are_still_out_of_reach(tmp_path: Path) -> None:
    said = on_a_kernel_without([SECCOMP], tmp_path)
    assert said.startswith("('seccomp filters',) {'came'")
    assert said.endswith("dict_keys(['refused', 'errno'])\n")


def test_where_a_sandbox_is_required_a_kernel_without_is_refused(tmp_path: Path) -> None:
    said = on_a_kernel_without([SECCOMP, landlock.CREATE_RULESET], tmp_path, required=True)
    assert said.startswith("6 this kernel has no Landlock and no seccomp filters, and --require-sandbox asks for them")


# ── the filter as a program ──────────────────────────────────────────────────────────────────────────────────────────

ALLOW, KILL = 0x7FFF0000, 0x80000000


def judged(program: bytes, number: int, arguments: tuple[int, ...] = (), arch: int = 0xC000003E) -> int:
    """What a filter says of one system call: classic BPF, run here."""
    data = number.to_bytes(4, "little") + arch.to_bytes(4, "little") + bytes(8)
    data += b"".join(a.to_bytes(8, "little") for a in (*arguments, *[0] * (6 - len(arguments))))
    code = [program[i : i + 8] for i in range(0, len(program), 8)]
    at = accumulator = 0
    while True:
        op, yes, no, k = (
            int.from_bytes(code[at][:2], "little"),
            code[at][2],
            code[at][3],
            int.from_bytes(code[at][4:], "little"),
        )
        at += 1
        if op == 0x20:
            accumulator = int.from_bytes(data[k : k + 4], "little")
        elif op == 0x06:
            return k
        else:
            holds = {0x15: accumulator == k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}[op]
            at += yes if holds else no


@pytest.mark.parametrize("machine", list(MACHINES))
def test_the_filter_allows_the_table_and_nothing_else(machine: str) -> None:
    column, arch = MACHINES[machine]
    program = filter_program(machine, 4242)
    allowed = {n[column] for n in ALLOWED.values()}
    special = {"x86_64": {56, 62, 234, 16, 72, 302, 203, 435}, "aarch64": {220, 129, 131, 29, 25, 261, 122, 435}}[
        machine
    ]
    for number in range(600):
        verdict = judged(program, number, arch=arch)
        if number not in special:
            assert (verdict == ALLOW) == (number in allowed), number
        assert judged(program, number, arch=0x40000003) == KILL
    assert len(program) // 8 <= 4096
    if machine == "x86_64":
        assert judged(program, 0x40000000 + 1) == KILL
        for number, arguments, allows in [
            (56, (0x3D0F00,), True), (56, (0x11,), False), (62, (4242,), True), (62, (4243,), False),
            (62, ((1 << 64) - 1,), False), (234, (4242, 9), True), (16, (0, 0x5412), False), (16, (0, 0x5401), True),
            (72, (0, 1), True), (72, (0, 8), False), (302, (0, 7, 0), True), (302, (0, 7, 1), False),
            (302, (0, 7, 1 << 32), False), (302, (1, 7, 0), False),
        ]:  # fmt: skip
            assert (judged(program, number, arguments) == ALLOW) == allows, (number, arguments)


def test_a_filter_that_refuses_calls_lets_the_rest_through() -> None:
    program = refusing("x86_64", [317])
    assert judged(program, 317) == 0x00050026
    assert judged(program, 1) == ALLOW


def test_a_worker_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(HERE.parents[1])!r})\n"
        "import os, pathlib, signal\nfrom infc.compiler.sandbox import process\n"
        f"process.START = {PREFIX.format(here=str(HERE))!r} + process.START\n"
        f"w = process.Worker('attempts', 'x', folder=pathlib.Path({str(tmp_path / 'own')!r}), confined=process.Confined(read=({str(HERE)!r},)))\n"
        "print(w._process.pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120, check=False)
    pid = int(found.stdout)
    for _ in range(200):
        if not alive(pid):
            return
        time.sleep(0.05)
    pytest.fail("the worker still runs")


def alive(pid: int) -> bool:
    """Whether a process runs: not gone, and no zombie that waits to be collected."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_required_sandbox_is_had_here_or_the_error_says_what_lacks(tmp_path: Path) -> None:
    version = landlock.version(ctypes.CDLL(None, use_errno=True))
    confined = Confined(read=(str(HERE),), required=True)
    if version:
        Worker("attempts", "x", folder=tmp_path / "own", confined=confined).close()
        return
    with pytest.raises(InfcError, match="Landlock"):
        Worker("attempts", "x", folder=tmp_path / "own", confined=confined)
    assert os.path.exists("/proc/self/status")
