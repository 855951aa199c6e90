"""What is measured, in which order, and what is taken from old evidence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infc.compiler.cache import Cache, Spare
from infc.compiler.errors import Exit, InfcError
from infc.compiler.proof.document import read_described, read_run
from infc.compiler.proof.judge import Evidence, judge
from infc.compiler.proof.loads import Load
from infc.compiler.proof.run import Prover, plan_blocks
from infc.compiler.proof.store import Store

from .documents import block, document
from .test_judge import model_of, terms_of


class Server:
    """Stands in for the bundle's `serve prove`: latencies are exponential with a mean, and what was asked is written down."""

    def __init__(self, mean_s: float, **noise: object) -> None:
        self.mean_s, self.noise = mean_s, noise
        self.asked: list[str] = []

    def __call__(self, arguments: Sequence[str], folder: Path | None = None) -> str:
        given: dict[str, str] = {}
        flags = [a for a in arguments if a.startswith("--")]
        for flag, value in zip(arguments, [*arguments[1:], ""], strict=True):
            if flag.startswith("--"):
                given[flag] = value
        load = Load(float(given["--rate"]), arrival=given["--arrival"]) if "--rate" in given else Load()  # pyright: ignore[reportArgumentType]
        about = document(load)
        if "--subject" in flags:
            return json.dumps({key: about[key] for key in ("subject", "load", "fingerprint")})
        self.asked.append("fill" if "--fill" in flags else "starts" if "--starts" in flags else str(load))
        Path(given["--out"]).write_text(json.dumps(self.made(load, given, flags)))
        return ""

    def made(self, load: Load, given: dict[str, str], flags: Sequence[str]) -> dict[str, Any]:
        if "--starts" in flags:
            one = {"s": 0.02, "cold": "--cold" in flags, "pages_left": 0 if "--cold" in flags else None}
            return document(load, starts=[one] * int(given["--starts"]))
        first, count = int(given["--first-block"]), int(given["--blocks"])
        size = round((load.rate or 100) * float(given["--block-seconds"]))
        draw = np.random.default_rng(first)
        around = {"elapsed_s": float(given["--block-seconds"]), **self.noise}
        blocks = [block(draw.exponential(self.mean_s, size), first + i, **around) for i in range(count)]
        return document(load, blocks, block_s=float(given["--block-seconds"]), warmup_s=float(given["--warmup"]))


def prover(
    tmp_path: Path,
    server: Server,
    targets: str,
    monkeypatch: pytest.MonkeyPatch,
    said: Callable[[str], None] = lambda _: None,
) -> Prover:
    model = model_of(targets)
    store = Store(Spare(Cache(tmp_path / "cache", 1 << 30), lambda _: None))
    (tmp_path / "work").mkdir(exist_ok=True)
    made = Prover(tmp_path, tmp_path / "work", model.targets.items, terms_of(model), 1, None, store, said)
    monkeypatch.setattr(made, "_serve", server)
    return made


def verdicts(made: Prover, evidence: Evidence) -> list[str]:
    return [judge(target, evidence, made.terms).verdict for target in made.targets]


def test_it_measures_until_all_is_decided_and_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = "latency p99 <= 20 ms; latency p50 <= 20 ms at 500 req/s; cold_start <= 1 s"
    server, evidence, said = Server(1e-3), Evidence(), list[str]()
    made = prover(tmp_path, server, targets, monkeypatch, said.append)
    made.prove(evidence, 300)
    assert verdicts(made, evidence) == ["met"] * 3
    assert sorted(server.asked) == ["100 req/s", "500 req/s", "starts"]
    assert all(text.startswith("proving: ") for text in said)
    assert any("at 100 req/s, look 1" in text for text in said)

    again, known = Server(1e-3), Evidence()
    made = prover(tmp_path, again, targets, monkeypatch)
    made.prove(known, 300)
    assert (verdicts(made, known), again.asked, made.store.kept.reused) == (["met"] * 3, [], 3)

    changed, other = Server(1e-3), Evidence()
    made = prover(tmp_path, changed, targets.replace("p99 <= 20 ms", "p90 <= 25 ms"), monkeypatch)
    made.prove(other, 300)
    assert (verdicts(made, other), changed.asked) == (["met"] * 3, []), "a changed bound is judged on old evidence"


def test_another_subject_or_machine_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prover(tmp_path, Server(1e-3), "latency p99 <= 20 ms", monkeypatch).prove(Evidence(), 300)
    for changed in ("subject", "fingerprint", "load"):
        server = Server(1e-3)
        made = prover(tmp_path, server, "latency p99 <= 20 ms", monkeypatch)

        def other(arguments: Sequence[str], *, server: Server = server, changed: str = changed) -> str:
            told: Any = server(arguments)
            if "--subject" not in arguments:
                return told
            about = json.loads(told)
            key = "model_name" if changed == "fingerprint" else "digest"
            about[changed] = {**about[changed], key: "other"}
            return json.dumps(about)

        monkeypatch.setattr(made, "_serve", other)
        made.prove(Evidence(), 300)
        assert server.asked == ["100 req/s"], changed


def test_a_miss_is_measured_again_and_then_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, evidence = Server(1.0), Evidence()
    made = prover(tmp_path, server, "latency p99 <= 500 ms", monkeypatch)
    made.prove(evidence, 300)
    assert (verdicts(made, evidence), server.asked) == (["missed"], ["100 req/s"] * 2)
    assert [kind for kind, _, _ in made.store.kept.runs] == ["look", "repeat"]
    first, second = (run for _, _, run in made.store.kept.runs)
    assert {b.index for b in first.blocks}.isdisjoint(b.index for b in second.blocks), "fresh seeds"


def test_not_proved_is_never_remembered_as_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target at its bound takes look after look, each build adding to the one before."""
    bound = f"latency p99 <= {1e-3 * np.log(100) * 1e3 * 1.04} ms"
    server, evidence = Server(1e-3), Evidence()
    made = prover(tmp_path, server, bound, monkeypatch)
    made.prove(evidence, 45)
    looks = len(server.asked)
    assert (verdicts(made, evidence), looks) == (["not proved"], 2)
    more, second = Server(1e-3), Evidence()
    made = prover(tmp_path, more, bound, monkeypatch)
    made.prove(second, 120)
    (ledger,) = second.loads.values()
    assert len(ledger.looks) == looks + len(more.asked) > looks
    indices = [b.index for run in ledger.looks for b in run.blocks]
    assert len(set(indices)) == len(indices)


def test_a_noisy_machine_is_given_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, evidence = Server(1e-3, steal=0.5), Evidence()
    made = prover(tmp_path, server, "latency p99 <= 20 ms", monkeypatch)
    made.prove(evidence, 3000)
    assert (verdicts(made, evidence), len(server.asked)) == (["not proved"], 3)


def test_the_budget_bounds_what_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, evidence = Server(1e-3), Evidence()
    made = prover(tmp_path, server, "latency p99.9 <= 20 ms", monkeypatch)
    made.prove(evidence, 30)
    (run,) = (run for _, _, run in made.store.kept.runs)
    assert len(run.blocks) * (run.block_s + run.warmup_s) <= 30
    found = judge(made.targets[0], evidence, made.terms)
    assert found.verdict == "not proved"
    assert re.search(r"at least 3,\d{3} requests would decide it \(3\d s at 100 req/s\)", found.note)
    made.prove(Evidence(), 0)
    assert server.asked == ["100 req/s"]


def test_a_damaged_memory_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prover(tmp_path, Server(1e-3), "latency p99 <= 20 ms", monkeypatch).prove(Evidence(), 300)
    for path in (tmp_path / "cache").rglob("data"):
        path.write_bytes(b"{}")
    server = Server(1e-3)
    prover(tmp_path, server, "latency p99 <= 20 ms", monkeypatch).prove(Evidence(), 300)
    assert server.asked == ["100 req/s"]


def test_a_burst_is_measured_in_whole_periods() -> None:
    burst = Load(rate=10.0, burst=(4.0, 2.0, 10.0))
    blocks, seconds = plan_blocks(burst, 1, 0.99, 0.95)
    assert (seconds, blocks >= 8) == (10.0, True)
    assert burst.mean_rate == 16.0
    assert plan_blocks(Load(rate=100.0), 1, 0.99, 0.95) == (20, 1.0)
    assert plan_blocks(replace(burst, burst=None), 2, 0.99, 0.95)[0] == 20


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"schema": "infc.evidence/1"}, "schema"),
        ({"extra": 1}, "extra"),
        ({"blocks": [block([0.1] * 4) | {"sent": 5}]}, "block 0 has other than 5 latencies"),
        ({"blocks": [block([0.1] * 4) | {"ok": 3}]}, "block 0 has other than 3 answers"),
        ({"blocks": [block([0.1] * 4) | {"latency": "!!"}]}, "damaged"),
        ({"blocks": [block([0.1] * 4) | {"elapsed_s": 0}]}, "greater than 0"),
        ({"blocks": [block([0.1] * 4) | {"sent": 10**12}]}, "less than or equal to"),
    ],
)
def test_evidence_is_read_strictly(change: dict[str, object], part: str) -> None:
    with pytest.raises(InfcError) as caught:
        read_run(json.dumps(document(**change)).encode() if change else b"{", "e.json")  # pyright: ignore[reportArgumentType]
    assert part in str(caught.value)
    assert caught.value.exit_code == Exit.DAMAGED


def test_what_is_no_evidence_is_refused() -> None:
    for data in (b"", b"[]", b"{", b'{"schema": NaN}', b"[" * 100_000):
        with pytest.raises(InfcError):
            read_run(data, "e.json")
    with pytest.raises(InfcError):
        read_described("{}")
