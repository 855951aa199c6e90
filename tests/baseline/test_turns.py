"""Servers in turn: pairs, void ones, ends; the measurements are made up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from infc.compiler.errors import InfcError
from infc.compiler.proof.baseline_load import (
    FEWEST,
    SPARE,
    Measure,
    Turns,
    block_s,
    claims,
    claims_in,
    short_load,
    take_turns,
    told_by,
    turns_of,
)
from infc.compiler.proof.baseline_ops import pairs_of
from infc.compiler.proof.comparison import (
    CONFIDENCE,
    MARGIN,
    Comparison,
    as_json,
    headline,
    judge,
    margin_of,
    markdown,
    rows,
)
from infc.compiler.proof.document import Run
from infc.compiler.proof.loads import Load
from infc.compiler.statistics.paired import pairs_for
from infc.dsl import check_text
from infc.dsl.spec import Model
from tests.proof.documents import block, run_of, starts_of

ALPHA = (1 - CONFIDENCE) / 10
PLANNED = pairs_for(ALPHA, SPARE)


def model_of(targets: str, traffic: str = "rate 100 req/s") -> Model:
    text = f"""infer 1
model m {{
  source torch("m.py:make")
  input x: float32[batch, 8]
}}
traffic {{ {traffic} }}
targets {{ {targets} }}
"""
    found = check_text(text).spec
    assert found is not None
    return found.models[0]


def served(slower: float, void: Callable[[str, int], bool] = lambda side, number: False) -> Measure:
    """Blocks of 60 requests of about 1 ms, of the new bundle `slower` times that; with equal numbers equal arrivals."""

    def measure(side: str, number: int) -> Run:
        draw = np.random.default_rng([number, 5])
        wait = draw.gamma(2, 0.5e-3, 60)
        mine = np.random.default_rng([number, len(side)]).normal(1, 0.01, 60)
        scale = slower if side == "new" else 1.0
        noise = {"foreign": 0.9} if void(side, number) else {}
        peak = (60 if side == "new" else 50) << 20
        busy = block(
            wait * mine * scale, number, elapsed_s=scale * (1 + 0.01 * mine[0]), peak_rss_bytes=peak + number, **noise
        )
        return run_of(Load(100.0), [busy])

    return measure


def taken(slower: float, targets: str, measure: Measure | None = None, seconds: float = 60.0) -> list[Comparison]:
    model = model_of(targets)
    (turn,) = turns_of(model.targets.items, model)
    take_turns(turn, measure or served(slower), ALPHA, MARGIN, seconds, None)
    return [judge(claim, ALPHA, MARGIN) for claim in claims(turn)]


def test_a_slower_server_is_found() -> None:
    (found,) = taken(1.1, "latency p95 <= 9 ms")
    assert found.worse
    assert found.samples == PLANNED
    assert found.ratio == pytest.approx(1.1, abs=0.02)
    assert found.note == f"p95 of {PLANNED} blocks each of 60 requests at 100 req/s"


def test_an_equal_server_is_left_early() -> None:
    (found,) = taken(1.0, "latency p95 <= 9 ms")
    assert found.word == "not worse"
    assert FEWEST <= found.samples < PLANNED


def test_void_pairs_are_dropped_and_made_up_for() -> None:
    (found,) = taken(1.1, "latency p95 <= 9 ms", served(1.1, lambda side, number: side == "old" and number % 4 == 0))
    assert found.worse
    assert found.samples == PLANNED


def test_a_busy_machine_cannot_tell() -> None:
    (found,) = taken(1.5, "latency p95 <= 9 ms", served(1.5, lambda side, number: number > 2))
    assert found.word == "cannot tell"
    assert "3 pairs, and" in found.note
    assert "other programs" in found.note


def test_a_time_that_is_over_cannot_tell() -> None:
    (found,) = taken(1.5, "latency p95 <= 9 ms", seconds=0.0)
    assert (found.word, found.ratio, found.new) == ("cannot tell", None, None)
    assert found.note == f"0 pairs, and it takes {pairs_for(ALPHA)}"


def test_who_goes_first_changes() -> None:
    seen: list[tuple[str, int]] = []
    plain = served(1.2)

    def measure(side: str, number: int) -> Run:
        seen.append((side, number))
        return plain(side, number)

    taken(1.2, "latency p95 <= 9 ms", measure)
    assert seen[:4] == [("old", 0), ("new", 0), ("new", 1), ("old", 1)]


def test_memory_is_the_larger_of_a_few() -> None:
    found = taken(1.0, "memory <= 1 GiB")
    assert [c.what for c in found] == ["memory"]
    assert found[0].worse
    assert found[0].ratio == pytest.approx(1.2, rel=1e-6)
    assert found[0].samples == 4


def test_memory_that_scatters_is_not_worse() -> None:
    plain = served(1.0)

    def measure(side: str, number: int) -> Run:
        peak = ([50, 53, 51, 52] if side == "old" else [50, 56, 51, 50])[number % 4] << 20
        run = plain(side, number)
        return run.model_copy(update={"blocks": [run.blocks[0].model_copy(update={"peak_rss_bytes": peak})]})

    (found,) = taken(1.0, "memory <= 1 GiB", measure)
    assert found.word == "not worse"


def test_throughput_is_compared_by_its_inverse() -> None:
    (found,) = taken(1.25, "throughput >= 10 req/s")
    assert found.worse
    assert found.ratio == pytest.approx(1.25, abs=0.02)
    assert found.new is not None
    assert found.old is not None
    assert found.new < found.old
    assert found.unit == "req/s"


def test_starts_are_compared() -> None:
    draw = np.random.default_rng(1)
    model = model_of("cold_start <= 1 s")
    (turn,) = turns_of(model.targets.items, model)
    take_turns(
        turn, lambda side, number: starts_of([draw.normal(0.3 if side == "new" else 0.2, 0.01)]), ALPHA, MARGIN, 9, None
    )
    (found,) = [judge(claim, ALPHA, MARGIN) for claim in claims(turn)]
    assert found.worse
    assert found.what == "cold_start"


def test_refused_requests_are_the_longest() -> None:
    plain = served(1.0)

    def measure(side: str, number: int) -> Run:
        if side == "old":
            return plain(side, number)
        return run_of(Load(100.0), [block(np.where(np.arange(60) < 6, np.inf, 1e-3), number)])

    (found,) = taken(1.0, "latency p95 <= 9 ms", measure)
    assert found.worse
    assert found.ratio is None


def test_one_load_is_run_once_for_all_its_targets() -> None:
    model = model_of(
        "latency p50 <= 5 ms; latency p99 <= 9 ms; latency p95 <= 8 ms at 50 req/s; throughput >= 1 req/s; "
        "cold_start <= 1 s; memory <= 1 GiB; bundle_size <= 1 GiB"
    )
    turns = turns_of(model.targets.items, model)
    assert [str(turn.load) for turn in turns] == ["100 req/s", "50 req/s", "64 requests at a time", "None"]
    assert [len(turn.watched) for turn in turns] == [3, 1, 1, 1]
    assert claims_in(turns) == 5


@pytest.mark.parametrize(
    ("requests", "wanted", "word"),
    [(60, 0.99, "p95"), (60, 0.9, "p90"), (300, 0.99, "p99"), (10, 0.99, "p50"), (4, 0.5, "p50"), (60, 1.0, "p95"), (0, 0.9, "p50")],
)  # fmt: skip
def test_a_short_block_tells_a_lower_percentile(requests: int, wanted: float, word: str) -> None:
    assert told_by(requests, wanted)[0] == word


def test_a_block_is_short() -> None:
    assert [block_s(Load(rate)) for rate in (1000.0, 100.0, 40.0, 1.0)] == [0.4, 0.6, 1.5, 2.0]
    assert short_load(Load(10.0, burst=(4.0, 1.0, 60.0))).burst is None


def test_no_pairs_no_figures() -> None:
    turn = Turns(Load(1.0), list(model_of("latency p50 <= 1 s").targets.items))
    (found,) = claims(turn)
    assert judge(found, ALPHA, MARGIN).word == "cannot tell"


# ── ops, and what is said ────────────────────────────────────────────────────────────────────────────────────────────


def rounds(linear: float, extra: dict[str, float] | None = None) -> list[dict[str, dict[str, float]]]:
    draw = np.random.default_rng(2)
    found: list[dict[str, dict[str, float]]] = []
    for _ in range(28):
        old = {"linear": 80e-6 * draw.normal(1, 0.01), "add": 19e-6 * draw.normal(1, 0.01), "mul": 1e-6}
        new = {"linear": linear * 80e-6 * draw.normal(1, 0.01), "add": 19e-6 * draw.normal(1, 0.01), "mul": 9e-7}
        new |= extra or {}
        found.append({"new": {**new, "": sum(new.values())}, "old": {**old, "": sum(old.values())}})
    return found


def test_the_op_that_became_slower_is_named() -> None:
    steps = {"new": {"linear": 3, "add": 1, "mul": 1}, "old": {"linear": 3, "add": 2, "mul": 1}}
    pairs = pairs_of(rounds(1.1), steps, "a row")
    found = {c.what: c for c in (judge(p, ALPHA, MARGIN) for p in pairs)}
    assert [w for w, c in found.items() if c.worse] == ["compute time", "linear ops"]
    assert found["add ops"].word == "not worse"
    assert found["add ops"].note == "1 step, of the baseline 2"
    assert found["mul ops"].word == "shown"
    assert "too short" in found["mul ops"].note


def test_an_op_that_one_has_alone_is_shown() -> None:
    pairs = pairs_of(rounds(1.0, {"softmax": 5e-5}), {"new": {"softmax": 1}}, "a row")
    found = {c.what: c for c in (judge(p, ALPHA, MARGIN) for p in pairs)}
    assert found["softmax ops"].word == "shown"
    assert "the other has none" in found["softmax ops"].note
    assert found["compute time"].worse


def test_a_model_too_slow_for_one_round_cannot_be_told() -> None:
    (only,) = pairs_of([], {}, "a row")
    assert judge(only, ALPHA, MARGIN).word == "cannot tell"


def test_what_is_said() -> None:
    found = [judge(p, ALPHA, MARGIN) for p in pairs_of(rounds(1.1), {}, "a|row")]
    assert headline(found) == "WORSE than the baseline in 2 of 3: compute time, linear ops"
    table = rows(found)
    assert table[0][0] == "compute time"
    assert table[0][4] == "WORSE"
    text = markdown(found)
    assert "a\\|row" in text
    assert text.index("| linear ops") < text.index("| add ops")
    document = as_json(found, "old.bundle", "0" * 64, MARGIN)
    assert document["worse"] == ["compute time", "linear ops"]
    assert {c["word"] for c in document["comparisons"]} == {"worse", "not worse", "shown"}
    assert headline([judge(p, ALPHA, MARGIN) for p in pairs_of([], {}, "")]).endswith("1 cannot be told")


@pytest.mark.parametrize(("text", "share"), [("2%", 0.02), ("2 %", 0.02), ("0.02", 0.02), ("0", 0.0), ("100%", 1.0)])
def test_a_margin_is_a_share(text: str, share: float) -> None:
    assert margin_of(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "%", "two", "-1%", "200%", "nan"])
def test_what_is_no_margin(text: str) -> None:
    with pytest.raises(InfcError, match="--margin"):
        margin_of(text)
