"""Claims on time, rate, memory and money: what evidence decides, and what it does not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from infc.compiler.errors import Exit, InfcError
from infc.compiler.proof.judge import Evidence, Terms, judge
from infc.compiler.proof.ledger import Ledger
from infc.compiler.proof.loads import Load, declared_load, load_of, saturating, tightest
from infc.compiler.proof.needs import Need, needs
from infc.compiler.proof.verdict import Verdict
from infc.dsl import check_text
from infc.dsl.spec import Model, Target

from .documents import block, exponential, fill_of, run_of, starts_of

SPEC = """infer 1
model m {
  source torch("m.py:f")
  input x: float32[batch, 4]
}
TRAFFIC
targets { TARGETS }
"""
LOAD = Load(rate=100.0)
MEAN_S = 1e-3
P99_S = MEAN_S * math.log(100)


def model_of(targets: str, traffic: str = "traffic { rate 100 req/s }") -> Model:
    result = check_text(SPEC.replace("TARGETS", targets).replace("TRAFFIC", traffic))
    assert result.spec is not None, result.errors
    return result.spec.model


def terms_of(model: Model, **other: object) -> Terms:
    return replace(Terms(model, 0.95, len(model.targets.items), 0.36, 1 << 30), **other)  # pyright: ignore[reportArgumentType]


def ledger_of(model: Model, load: Load) -> Ledger:
    return Ledger(tightest(model.targets.items, load, model))


def one(text: str, traffic: str = "traffic { rate 100 req/s }") -> tuple[Model, Target]:
    model = model_of(text, traffic)
    return model, model.targets.items[0]


def judged(text: str, *runs: object, repeats: tuple[object, ...] = (), misfit: str = "") -> Verdict:
    model, target = one(text)
    load = load_of(target, model, 0.36)
    assert load is not None
    ledger = ledger_of(model, load)
    ledger.looks += runs  # pyright: ignore[reportOperatorIssue]
    ledger.repeats += repeats  # pyright: ignore[reportOperatorIssue]
    return judge(target, Evidence({load: ledger}, misfit=misfit), terms_of(model))


def test_a_percentile_far_below_its_bound_is_met_and_shows_its_interval() -> None:
    found = judged(f"latency p99 <= {2 * P99_S * 1e3} ms", exponential(LOAD, MEAN_S))
    assert found.verdict == "met"
    assert found.low is not None
    assert found.value is not None
    assert found.high is not None
    assert found.low < P99_S < found.high < 2 * P99_S
    assert "4,000 requests at 100 req/s" in found.note
    assert found.relaxed.startswith("latency p99 <= ")


def test_a_percentile_near_its_bound_is_not_proved_and_says_what_would_do() -> None:
    found = judged(f"latency p99 <= {P99_S * 1e3} ms", exponential(LOAD, MEAN_S))
    assert found.verdict == "not proved"
    assert "requests would decide it" in found.note


def test_a_miss_needs_to_be_missed_again() -> None:
    bound = f"latency p99 <= {P99_S / 2 * 1e3} ms"
    run = exponential(LOAD, MEAN_S)
    alone = judged(bound, run)
    assert (alone.verdict, alone.note) == ("not proved", "4,000 requests at 100 req/s; missed, and not measured again")
    again = judged(bound, run, repeats=(exponential(LOAD, MEAN_S, seed=1, first=8),))
    assert again.verdict == "missed"
    assert "missed again" in again.note
    other = judged(bound, run, repeats=(exponential(LOAD, MEAN_S / 9, seed=1, first=8),))
    assert (other.verdict, "on fresh load met" in other.note) == ("not proved", True)


def test_refused_requests_count_as_later_than_any_bound() -> None:
    late = [0.001] * 480 + [math.inf] * 20
    runs = [run_of(LOAD, [block(late, i) for i in range(8)]) for _ in range(2)]
    found = judged("latency p99 <= 60 s", runs[0], repeats=(runs[1],))
    assert (found.verdict, found.value) == ("missed", None)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"lag_p99_s": 0.0021}, "late"),
        ({"connections_short": 3}, "connection"),
        ({"steal": 0.5}, "hypervisor"),
        ({"foreign": 0.5}, "other programs"),
    ],
)
def test_void_blocks_decide_nothing_in_either_direction(wrong: dict[str, object], why: str) -> None:
    fast = run_of(LOAD, [block([1e-3, 0.1] * 250, i, **wrong) for i in range(8)])
    for bound in ("latency p99 <= 40 ms", "latency p99 <= 1 s"):
        found = judged(bound, fast)
        assert found.verdict == "not proved" if bound.endswith("40 ms") or "late" not in why else True
        if found.verdict == "not proved":
            assert why in found.note, found.note
            assert ("a lower rate" if why == "connection" else "a quieter machine") in found.note
    few = run_of(LOAD, [block([1e-3] * 500, i, **(wrong if i == 0 else {})) for i in range(10)])
    assert judged("latency p99 <= 40 ms", few).verdict == "met", "a void block is left out"


def test_what_cannot_be_read_is_unknown_and_not_noise() -> None:
    unknown = run_of(LOAD, [block([1e-3] * 500, i, steal=None, foreign=None, pressure=None) for i in range(8)])
    assert judged("latency p99 <= 40 ms", unknown).verdict == "met"


def test_a_bound_below_every_latency_is_missed_on_any_machine() -> None:
    noisy = run_of(LOAD, [block([1e-3] * 500, i, steal=0.9) for i in range(8)])
    found = judged("latency p99 <= 900 us", noisy)
    assert (found.verdict, found.note) == ("missed", "no request was answered within 1 ms")


def test_looks_are_paid_for() -> None:
    """More looks at the same number of requests leave a wider interval, and what one look excluded stays excluded."""
    parts = [exponential(LOAD, MEAN_S, 1000, seed=i, first=8 * i) for i in range(4)]
    together = run_of(LOAD, [b.model_dump() for part in parts for b in part.blocks])
    model, _ = one("latency p99 <= 1 s")
    several, single = ledger_of(model, LOAD), ledger_of(model, LOAD)
    several.looks += parts
    single.looks.append(together)
    many, one_look = several.quantile(0.99, 0.95, 1), single.quantile(0.99, 0.95, 1)
    assert (many.samples, one_look.samples) == (4000, 4000)
    assert many.high >= one_look.high
    first = ledger_of(model, LOAD)
    first.looks.append(parts[0])
    assert many.high <= first.quantile(0.99, 0.95, 1).high


def test_an_overload_is_never_met() -> None:
    """A queue that grows while requests are sent: short blocks end before it shows in a percentile."""
    growing = np.linspace(0.001, 0.17, 100)
    run = run_of(Load(rate=500.0), [block(growing, i, elapsed_s=0.37) for i in range(20)])
    for text in ("latency p50 <= 1 s", "latency max <= 1 s"):
        model, target = one(text, "traffic { rate 500 req/s }")
        load = Load(rate=500.0)
        evidence = Evidence({load: ledger_of(model, load)})
        evidence.loads[load].looks += [run]
        found = judge(target, evidence, terms_of(model))
        assert found.verdict == "not proved"
        assert "does not keep up: of 500 requests a second it answers" in found.note
        evidence.loads[load].looks += [run]
        assert needs(target, evidence, terms_of(model)) == [], "more of the same decides nothing"
    model, target = one("cost <= 1 USD per 1M requests", "traffic { rate 500 req/s }")
    assert judge(target, Evidence({load: evidence.loads[load]}), terms_of(model)).verdict == "not proved"
    model, target = one("throughput >= 500 req/s; latency p50 <= 1 s")
    again = Evidence({load: ledger_of(model, load)})
    again.loads[load].looks += [run]
    assert judge(target, again, terms_of(model)).verdict == "not proved"
    assert needs(target, again, terms_of(model)) == [Need("load", saturating(model))], "what it can do at most decides"


def test_looks_that_contradict_each_other_leave_nothing() -> None:
    model, _ = one("latency p99 <= 1 s")
    ledger = ledger_of(model, LOAD)
    ledger.looks += [exponential(LOAD, 1e-4), exponential(LOAD, 1.0, 40_000, seed=1, first=8)]
    bounds = ledger.quantile(0.99, 0.95, 1)
    assert (bounds.low, bounds.high) == (-math.inf, math.inf)


def test_max_is_of_the_requests_seen() -> None:
    found = judged("latency max <= 1 s", exponential(LOAD, MEAN_S))
    assert (found.verdict, found.low) == ("met", found.high)
    assert "fewer than 0.07% are longer" in found.note
    runs = exponential(LOAD, MEAN_S), exponential(LOAD, MEAN_S, seed=1, first=8)
    assert judged("latency max <= 1 ms", runs[0], repeats=runs[1:]).verdict == "missed"
    assert judged("latency max <= 1 ms").verdict == "not proved"


def rate_evidence(model: Model, *, most: float, at: Load | None = None, mean_s: float = MEAN_S) -> Evidence:
    busy = saturating(model)
    evidence = Evidence({busy: ledger_of(model, busy)})
    spread = [most * (1 + 0.01 * (i % 3 - 1)) for i in range(8)]
    for kind in (evidence.loads[busy].looks, evidence.loads[busy].repeats):
        kind.append(run_of(busy, [block([0.01] * 10, i, ok=10, elapsed_s=10 / s) for i, s in enumerate(spread)]))
    if at is not None:
        evidence.loads[at] = ledger_of(model, at)
        evidence.loads[at].looks.append(exponential(at, mean_s))
    return evidence


def test_a_rate_holds_while_the_bare_latencies_do() -> None:
    model, target = one(f"throughput >= 300 req/s; latency p99 <= {2 * P99_S * 1e3} ms; latency p50 <= 1 ms at 5 req/s")
    at = load_of(target, model, None)
    assert at == Load(rate=300.0)
    found = judge(target, rate_evidence(model, most=900, at=at), terms_of(model))
    assert found.verdict == "met"
    assert "at 300 req/s latency p99" in found.note
    slow = judge(target, rate_evidence(model, most=900, at=at, mean_s=1.0), terms_of(model))
    assert slow.verdict == "not proved", "missed once"
    less = judge(target, rate_evidence(model, most=200), terms_of(model))
    assert less.verdict == "missed"
    assert "the most that 64 requests at a time were answered" in less.note


def test_a_rate_without_latencies_is_what_a_closed_loop_is_answered() -> None:
    model, target = one("throughput >= 300 req/s")
    assert judge(target, rate_evidence(model, most=400), terms_of(model)).verdict == "met"
    assert judge(target, rate_evidence(model, most=300), terms_of(model)).verdict == "not proved"
    model, target = one("throughput >= 700 items/s", "traffic { items 1..3 }")
    evidence = rate_evidence(model, most=400)
    assert judge(target, evidence, terms_of(model)).verdict == "missed", (
        "rows are counted, and each request has one here"
    )


def test_cost_is_price_over_what_is_answered_of_the_declared_rate() -> None:
    model, target = one("cost <= 1.01 USD per 1M requests")
    load = declared_load(model.traffic)
    ledger = ledger_of(model, load)
    evidence = Evidence({load: ledger})
    assert judge(target, evidence, terms_of(model)).verdict == "not proved"
    ledger.looks.append(exponential(load, MEAN_S))
    found = judge(target, evidence, terms_of(model))
    assert (found.verdict, found.value) == ("met", pytest.approx(1.0))
    ledger.looks.append(run_of(load, [block([math.inf] * 4000, 8)]))
    assert judge(target, evidence, terms_of(model)).verdict == "missed"
    dear = judge(target, Evidence(), terms_of(model, price=3.6))
    assert (dear.verdict, dear.value) == ("missed", pytest.approx(10.0)), "arithmetic needs no run"
    assert "no price" in judge(target, evidence, terms_of(model, price=None)).note


def test_cost_without_a_rate_is_the_rate_that_it_takes() -> None:
    model, target = one("cost <= 1 USD per 1M requests", "traffic { items 1..1 }")
    assert judge(target, rate_evidence(model, most=150), terms_of(model)).verdict == "met"
    found = judge(target, rate_evidence(model, most=50), terms_of(model))
    assert found.verdict == "missed"
    assert found.value == pytest.approx(2.0, rel=0.01)
    assert "it takes 100 req/s" in found.note


def test_memory_is_the_larger_peak_and_never_above_the_ceiling() -> None:
    model, target = one("memory <= 60 MiB")
    load = declared_load(model.traffic)
    ledger = ledger_of(model, load)
    evidence = Evidence({load: ledger})
    ledger.looks.append(exponential(load, MEAN_S))
    assert judge(target, evidence, terms_of(model)).verdict == "not proved"
    evidence.fills.append(fill_of(55 << 20))
    found = judge(target, evidence, terms_of(model))
    assert (found.verdict, found.value) == ("met", 55 << 20)
    evidence.fills.append(fill_of(61 << 20))
    assert judge(target, evidence, terms_of(model)).verdict == "missed"
    with pytest.raises(InfcError) as caught:
        judge(target, evidence, terms_of(model, ceiling=60 << 20))
    assert caught.value.exit_code == Exit.INTERNAL


def test_cold_start_is_the_p95_of_starts() -> None:
    model, target = one("cold_start <= 100 ms")
    starts = list(np.random.default_rng(0).uniform(0.05, 0.06, 100))
    assert judge(target, Evidence(starts={False: [starts_of(starts)], True: []}), terms_of(model)).verdict == "met"
    few = judge(target, Evidence(starts={False: [starts_of(starts[:20])], True: []}), terms_of(model))
    assert few.verdict == "not proved"
    assert "74 starts, none of them late, would decide it" in few.note
    slow = [starts_of([*([4 * s for s in starts]), 0.05])]
    assert judge(target, Evidence(starts={False: slow, True: []}), terms_of(model)).verdict == "not proved"
    assert judge(target, Evidence(starts={False: slow * 2, True: []}), terms_of(model)).verdict == "missed"
    never = [starts_of([0.2] * 3)]
    found = judge(target, Evidence(starts={False: never, True: []}), terms_of(model))
    assert (found.verdict, found.note) == ("missed", "no start was within 200 ms")


def test_a_cold_start_with_pages_in_the_cache_is_not_proved() -> None:
    model, target = one("cold_start cold <= 100 ms")
    for left, word in ((0, "met"), (3, "not proved"), (None, "not proved")):
        runs = [starts_of([0.05] * 100, cold=True, pages_left=left)]
        assert judge(target, Evidence(starts={False: [], True: runs}), terms_of(model)).verdict == word


def test_on_another_machine_times_are_not_proved_and_arithmetic_is() -> None:
    why = "this machine is another"
    found = judged("latency p99 <= 1 s", exponential(LOAD, MEAN_S), misfit=why)
    assert (found.verdict, why in found.note) == ("not proved", True)
    assert found.value is not None
    model, target = one("cost <= 0.1 USD per 1M requests")
    assert judge(target, Evidence(misfit=why), terms_of(model)).verdict == "missed"


def test_what_is_needed_is_asked_for_and_no_more() -> None:
    model = model_of("latency p99.9 <= 1 s; memory <= 1 GiB; cold_start cold <= 1 s; throughput >= 300 req/s")
    wanted = [needs(target, Evidence(), terms_of(model)) for target in model.targets.items]
    assert wanted[0] == [Need("load", LOAD, quantile=0.999)]
    assert wanted[1] == [Need("load", LOAD), Need("fill")]
    assert wanted[2] == [Need("cold starts", quantile=0.95)]
    target, at = model.targets.items[3], Load(rate=300.0)
    assert wanted[3] == [Need("load", at, quantile=0.999)]
    late = Evidence({at: ledger_of(model, at)})
    late.loads[at].looks.append(run_of(at, [block([1e-3] * 50, i, lag_p99_s=9.0) for i in range(8)]))
    assert needs(target, late, terms_of(model)) == [Need("load", saturating(model))], "the rate cannot be sent"
    assert needs(target, rate_evidence(model, most=100), terms_of(model)) == []
    fast = model_of("throughput >= 1M req/s; latency p99 <= 1 s")
    assert needs(fast.targets.items[0], Evidence(), terms_of(fast)) == [Need("load", saturating(fast))]
    alone = model_of("throughput >= 300 req/s")
    assert needs(alone.targets.items[0], Evidence(), terms_of(alone)) == [Need("load", saturating(alone))]
    missed_once = Evidence({LOAD: ledger_of(model, LOAD)})
    missed_once.loads[LOAD].looks.append(exponential(LOAD, 10.0))
    assert needs(model.targets.items[0], missed_once, terms_of(model)) == [Need("load", LOAD, True, 0.999)]
    strange = Evidence(misfit="another machine")
    assert needs(model.targets.items[0], strange, terms_of(model)), "one look shows a value"
    strange.loads[LOAD] = missed_once.loads[LOAD]
    assert needs(model.targets.items[0], strange, terms_of(model)) == []
