"""Whole builds of specs that cannot be met, and of specs that cannot be decided: none says "met", each says what binds or what
would decide it. Decided by bounds that are orders of magnitude away, or by what the machine is; never by a timing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from infc.compiler.build import Missed, Outcome, Request, build
from infc.compiler.cache import Cache
from infc.compiler.errors import Exit
from infc.compiler.proof.verdict import binding

MODEL = """import torch
def make():
    torch.manual_seed(1)
    n = torch.nn
    return n.Sequential(n.Linear(32, 64), n.GELU(), n.Linear(64, 9)).eval()
"""
SPEC = """infer 1
model m {
  source torch("model.py:make")
  input  "input" as x: float32[batch, 32]
  dim    batch in 1..40
}
"""
DATA = 'data { evaluate npz("many.npz") }\n'
FEW = 'data { evaluate npz("few.npz") }\n'
RATE = "traffic { rate 100 req/s }\n"
ONE = "hardware { use cpu { cores 1, price 1 USD/h } }\n"
QUICK = "search { budget 20 s }\n"


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model and its data; all builds share a cache, so that it is compiled once."""
    folder = tmp_path_factory.mktemp("verdicts")
    (folder / "model.py").write_text(MODEL)
    draw = np.random.default_rng(2)
    for name, count in (("many", 400), ("few", 8)):
        rows = draw.standard_normal((count, 32)).astype(np.float32)
        np.savez(folder / f"{name}.npz", x=rows, label=draw.integers(0, 9, count))
    np.savez(folder / "one.npz", x=draw.standard_normal((60, 32)).astype(np.float32), label=np.zeros(60, np.int64))
    return folder


def outcome_of(folder: Path, targets: str, *more: str, use: str | None = None, output: Path | None = None) -> Outcome:
    spec = folder / "m.infer"
    spec.write_text(SPEC + "".join(more) + f"targets {{ {targets} }}\n")
    cache = Cache(folder / "cache", 1 << 30)
    return build(Request(spec, cache=cache, jobs=2, use=use, output=output))


@pytest.mark.full
@pytest.mark.parametrize(
    ("targets", "more"),
    [
        pytest.param("latency p50 <= 1 us", (RATE,), id="p50"),
        pytest.param("latency p99 <= 2 us at 300 req/s", (), id="p99-at"),
        pytest.param("latency max <= 2 us", (RATE,), id="max"),
        pytest.param("throughput >= 10M req/s", (), id="req/s"),
        pytest.param("throughput >= 10M items/s", ("traffic { items 1..4 }\n",), id="items/s"),
        pytest.param("accuracy max_abs_error <= 1e-12 vs float32", (DATA,), id="vs-float32"),
        pytest.param("accuracy top1 >= 60 % vs labels", (DATA,), id="vs-labels"),
        pytest.param("cost <= 1e-9 USD per 1M requests", (RATE,), id="cost"),
        pytest.param("memory <= 1 MiB", (RATE,), id="memory"),
        pytest.param("cold_start <= 20 us", (), id="cold_start"),
    ],
)
def test_what_cannot_be_met_is_missed_and_named(workshop: Path, targets: str, more: tuple[str, ...]) -> None:
    easy = "; bundle_size <= 1 GB"
    outcome = outcome_of(workshop, targets + easy, ONE, QUICK, *more)
    assert outcome.exit_code == Exit.UNMET, outcome.verdicts
    (missed,) = binding(outcome.verdicts)
    assert missed.target.split(" <=")[0].split(" >=")[0] in targets
    assert outcome.bundle.name == "m.failed"
    assert missed.target in Missed(outcome).message


@contextmanager
def busy() -> Generator[None]:
    """A machine that others keep busy."""
    burn = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        yield
    finally:
        for child in burn:
            child.kill()
            child.wait()


@pytest.mark.full
@pytest.mark.parametrize(
    ("targets", "more", "said"),
    [
        pytest.param(
            "latency p99.9 <= 1 s", ("traffic { rate 2 req/s }\n",), "requests would decide it", id="few-requests"
        ),
        pytest.param("accuracy cosine >= 0.9 vs float32", (FEW,), "at least 30 rows are needed", id="8-rows"),
        pytest.param("accuracy top1 >= 99 % vs float32", (FEW,), "some 299 rows would decide it", id="8-hits"),
        pytest.param(
            "accuracy auc >= 0.5 vs labels", ('data { evaluate npz("one.npz") }\n',), "is undefined", id="undefined"
        ),
        pytest.param(
            "cost <= 1 USD per 1M requests", (RATE, "hardware { use cpu { cores 1 } }\n"), "write `price", id="no-price"
        ),
    ],
)
def test_what_cannot_be_decided_says_what_would_do(
    workshop: Path, targets: str, more: tuple[str, ...], said: str
) -> None:
    hardware = () if any("hardware" in text for text in more) else (ONE,)
    outcome = outcome_of(workshop, targets, QUICK, *hardware, *more)
    assert outcome.exit_code == Exit.UNPROVED, outcome.verdicts
    assert said in outcome.verdicts[0].note


@pytest.mark.full
def test_on_a_busy_machine_times_are_not_proved(workshop: Path) -> None:
    with busy():
        other = "traffic { rate 90 req/s }\n"  # a load of which there is no evidence yet
        outcome = outcome_of(workshop, "latency p99 <= 30 ms; bundle_size <= 1 GB", QUICK, other, ONE)
    latency, size = outcome.verdicts
    assert (latency.verdict, size.verdict) == ("not proved", "met")
    assert "quieter machine" in latency.note


@pytest.mark.parametrize(
    ("use", "said"),
    [
        ("cpu { isa aarch64-neon, cores 1 }", "this machine cannot run aarch64-neon code"),
        ('"aws:c7a.large" { isa native }', "and 'aws:c7a.large' is AMD EPYC 9R14"),
        ("cpu { cores 999 }", "and the spec declares 999"),
        ("cpu { cores 1, memory 900 GiB }", "and the spec declares"),
    ],
)
def test_a_measurement_here_is_no_proof_for_another_machine(workshop: Path, use: str, said: str) -> None:
    targets = "latency p50 <= 60 s; cold_start <= 60 s; bundle_size <= 1 GB"
    outcome = outcome_of(workshop, targets, "search { budget 1 s }\n", RATE, use=use)
    assert [v.verdict for v in outcome.verdicts] == ["not proved", "not proved", "met"]
    assert said in outcome.verdicts[0].note, outcome.verdicts[0]
    assert (outcome.bundle.name, (outcome.bundle / "report.html").is_file()) == ("m.bundle", True)


@pytest.mark.full
def test_a_cold_start_on_a_memory_file_system_is_not_proved(workshop: Path) -> None:
    place = Path("/dev/shm")
    if not place.is_dir():
        pytest.skip("no tmpfs at /dev/shm")
    out = place / "infc-test-verdicts.bundle"
    try:
        outcome = outcome_of(workshop, "cold_start cold <= 60 s", QUICK, ONE, output=out)
        assert outcome.exit_code == Exit.UNPROVED
        assert "put the bundle on a disk" in outcome.verdicts[0].note
    finally:
        subprocess.run(["rm", "-rf", out], check=True)
