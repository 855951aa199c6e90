"""The benchmark's own machinery: fair turns, failures that keep their row, ratios, choices. Peers need not be installed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench import accuracy, artifacts, bundles, child, interleave, loop, machine
from bench.__main__ import arguments, chosen_cases
from bench.cases import PRECISIONS, SHAPES, Case, floor_of, make_case, parse_case
from bench.interleave import Plan, Result, Row, run_case
from bench.models import flops, sentences
from bench.peers import PEERS, Call, Peer, infc_bundle
from bench.verdict import judge, summarize
from bench.worker import Block, Choice, PeerFailed, Worker

CASE = Case("minilm", 2, 4)
PLAN = Plan(rounds=4, block_s=0.01, least=2, pause_s=0.0)


class Fake:
    """Stands for a worker: `seconds` a call; fails in round `dies`; answers with `exact`."""

    def __init__(self, name: str, seconds: float, calls: list[str], dies: int = -1, exact: float = 1.0) -> None:
        self.name, self.seconds, self.calls, self.dies, self.exactness, self.round = (
            name,
            seconds,
            calls,
            dies,
            exact,
            0,
        )

    def begin(self, command: dict[str, object]) -> None:
        assert command == {"open": CASE.name}

    def end(self) -> dict[str, object]:
        return {}

    def choose(self, floor: float, key: str = "") -> Choice:
        return Choice(f"{self.name} took the fast one", "")

    def exact(self, key: str = "") -> float:
        return self.exactness

    def block(self, seconds: float, least: int, key: str = "") -> Block:
        self.calls.append(self.name)
        self.round += 1
        if self.round == self.dies:
            raise PeerFailed("its process ended with -9")
        return Block(self.seconds, self.seconds, least)


def measured(*fakes: Fake, absent: str = "", plan: Plan = PLAN) -> Result:
    workers: dict[str, object] = {fake.name: fake for fake in fakes}
    if absent:
        workers[absent] = PeerFailed("not installed: No module named 'x'")
    return run_case(CASE, workers, plan, lambda: 100.0, lambda _: None)  # pyright: ignore[reportArgumentType]


def test_everyone_goes_first_in_turn() -> None:
    calls: list[str] = []
    measured(*(Fake(name, 0.1, calls) for name in ("infc", "a", "b")))
    assert calls == ["infc", "a", "b", "a", "b", "infc", "b", "infc", "a", "infc", "a", "b"]


def test_rounds_end_when_their_time_is_up_but_not_before_the_fewest() -> None:
    result = measured(Fake("infc", 0.1, []), plan=Plan(rounds=9, pause_s=0.0, budget_s=0.0, fewest=3))
    assert [len(row.blocks) for row in result.rows] == [3]
    assert len(result.peaks) == 3


def test_a_peer_that_is_absent_or_dies_keeps_its_row_and_leaves_it_open() -> None:
    calls: list[str] = []
    result = measured(Fake("infc", 0.1, calls), Fake("a", 0.2, calls, dies=2), Fake("b", 0.15, calls), absent="c")
    rows = {row.name: row for row in result.rows}
    assert rows["a"].failure == "its process ended with -9"
    assert "not installed" in rows["c"].failure
    assert calls.count("a") == 2
    verdict = judge(result.rows, floor_of(CASE))
    assert verdict.ratio == pytest.approx(1.5)
    assert (verdict.best, verdict.open) == ("b", "a, c did not run")


def test_a_fast_peer_with_a_wrong_answer_is_not_the_best_and_onnxruntime_is_told_all_the_same() -> None:
    result = measured(Fake("infc", 0.1, []), Fake("onnxruntime", 0.01, [], exact=0.98), Fake("b", 0.2, []))
    verdict = judge(result.rows, floor_of(CASE))
    assert (verdict.best, verdict.open) == ("b", "")
    assert verdict.ratio == pytest.approx(2.0)
    assert verdict.beside == pytest.approx(0.1)


def test_without_infc_or_without_exact_peers_a_case_is_open() -> None:
    floor = floor_of(CASE)
    assert "infc did not run: not installed" in judge(measured(Fake("b", 0.1, []), absent="infc").rows, floor).open
    assert judge(measured(Fake("infc", 0.1, [])).rows, floor).open == "no peer ran"
    low = judge(measured(Fake("infc", 0.1, [], exact=0.5), Fake("b", 0.1, [])).rows, floor)
    assert (low.ratio, low.open) == (None, "infc is below the floor")
    alone = judge(measured(Fake("infc", 0.1, []), Fake("b", 0.1, [], exact=0.5)).rows, floor)
    assert (alone.ratio, alone.open) == (None, "no peer is exact enough")


def test_a_stream_is_judged_against_the_ways_that_are_asked_for() -> None:
    rows = [row_of("infc", 1.0), row_of("a, padded", 3.0), row_of("a, sorted", 1.5), row_of("b, sorted", 2.0)]
    assert judge(rows, 0.99, ("padded",)).ratio == pytest.approx(3.0)
    assert judge(rows, 0.99, ("sorted",)).best == "a, sorted"


def test_a_summary_leaves_out_what_has_no_ratio_and_counts_it() -> None:
    floor = 0.99
    won, lost = (
        judge([row_of("infc", 1.0), row_of("b", 4.0)], floor),
        judge([row_of("infc", 1.0), row_of("b", 1.0)], floor),
    )
    absent = judge([Row("infc", failure="refused"), row_of("b", 1.0)], floor)
    summary = summarize([won, lost, absent])
    assert (summary.rows, summary.counted, summary.open) == (3, 2, 1)
    assert summary.mean == pytest.approx(2.0)
    assert summary.least == pytest.approx(1.0)


def test_ratios_are_taken_round_by_round() -> None:
    slow_machine = [1.0, 1.0, 3.0, 1.0]
    a = Row("a", blocks=[Block(2.0 * s, 2.0 * s, 1) for s in slow_machine])
    b = Row("b", blocks=[Block(1.0 * s, 1.0 * s, 1) for s in slow_machine])
    assert a.ratio_to(b) == (2.0, 2.0, 2.0)
    assert (a.least, a.median) == (2.0, 2.0)


def test_exactness_is_that_of_the_worst_row_and_of_the_largest_error(monkeypatch: pytest.MonkeyPatch) -> None:
    want = np.array([[1.0, 0.0], [1.0, 1.0]], np.float32)

    def wanted(case: Case) -> np.ndarray:
        return want

    monkeypatch.setattr(accuracy, "wanted", wanted)
    got = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
    assert accuracy.exactness(CASE, got) == pytest.approx(0.5**0.5)
    assert accuracy.exactness(Case("mlp", 2), got) == -1.0
    assert accuracy.exactness(CASE, got[:1]) < floor_of(CASE)


def test_every_case_has_a_name_that_leads_back_to_it() -> None:
    cases = [make_case(model, shape, p) for model, shapes in SHAPES.items() for shape in shapes for p in PRECISIONS]
    assert [parse_case(case.name) for case in cases] == cases
    with pytest.raises(ValueError, match="int4"):
        parse_case("minilm-1x32-int4")


def test_flops_are_those_of_the_products() -> None:
    # 6 layers of 12 H² multiply-adds a token, and attention's 2 T H
    assert flops(Case("minilm", 1, 32)) == 32 * 6 * (2 * 12 * 384 * 384 + 4 * 32 * 384)
    assert flops(Case("mlp", 32)) == 32 * 2 * (64 * 256 + 256 * 256 + 256)


def test_the_command_line_chooses_cases_and_a_part_is_not_written_to_docs() -> None:
    assert arguments([]).write
    part = arguments(["--model", "minilm,mlp", "--precision", "int8,float32", "--shape", "1x32,1"])
    assert [case.name for case in chosen_cases(part)] == ["minilm-1x32-int8", "minilm-1x32-float32", "mlp-1-float32"]
    assert not part.write
    assert not arguments(["--quick"]).write
    with pytest.raises(SystemExit):
        arguments(["--precision", "int4"])


def test_the_fastest_configuration_is_taken() -> None:
    import time

    def slow() -> np.ndarray:
        time.sleep(0.005)
        return np.zeros(1, np.float32)

    assert child.fastest({"slow": slow, "fast": lambda: np.ones(1, np.float32)}) == "fast"


def test_the_fastest_of_those_that_are_exact_enough_is_taken_else_the_most_exact() -> None:
    def answering(value: float) -> Call:
        return lambda: np.full(1, value, np.float32)

    def state_of(**values: float) -> child.State:
        calls = {name: answering(value) for name, value in values.items()}
        first = {name: call() for name, call in calls.items()}
        exact: Callable[[np.ndarray], float] = lambda answers: float(answers[0])
        return child.State(PEERS[0], None, "int8", 1, calls, first, exact)  # pyright: ignore[reportArgumentType]

    command = {"floor": 0.99, "as": "key"}
    assert child.choose(state_of(low=0.9, high=0.995), command) == {"note": "high", "isa": ""}
    assert child.choose(state_of(low=0.9, less=0.8), command) == {"note": "low", "isa": ""}
    state = state_of(only=0.995)
    assert child.choose(state, command)["note"] == ""
    assert child.block(state, {"of": "key", "s": 0.0, "n": 3})["calls"] == 3
    assert child.exact(state, "key") == {"exact": pytest.approx(0.995)}
    with pytest.raises(ValueError, match="nothing was chosen"):
        child.block(state, {"of": "other", "s": 0.0, "n": 1})


def test_every_peer_has_a_module_with_settings_for_each_of_its_precisions() -> None:
    folder = Path(interleave.__file__).parent / "peers"
    for peer in PEERS:
        text = (folder / f"{peer.module}.py").read_text()
        assert "VERSION_OF = " in text
        for precision in peer.precisions:
            assert f'"{precision}": ' in text


def test_a_worker_whose_package_is_absent_or_whose_case_fails_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.worker.FOLDER", tmp_path)
    with pytest.raises(PeerFailed, match="its process ended with"):
        Worker(Peer("nobody", "nobody"), "float32", 1).greet()
    worker = Worker(PEERS[0], "float32", 1)
    try:
        assert worker.greet()[0]
        with pytest.raises(PeerFailed, match="no case is open"):
            worker.choose(0.99)
        with pytest.raises(PeerFailed, match="nothing was chosen"):
            worker.block(0.01, 1)
        with pytest.raises(PeerFailed, match="ValueError"):
            worker.ask({"open": "minilm-1x32-int4"})
    finally:
        worker.close()
    assert worker.process.returncode == 0


def test_a_caller_that_was_pinned_gives_the_next_model_all_its_cpus() -> None:
    before = os.sched_getaffinity(0)
    try:
        infc_bundle.pin_caller(infc_bundle.CPUS[0])
        assert infc_bundle.own_cpus(len(infc_bundle.CPUS)) == sorted(before)
    finally:
        os.sched_setaffinity(0, before)
    with pytest.raises(ValueError, match="there are"):
        infc_bundle.own_cpus(len(before) + 1)


def test_a_c_function_is_timed_in_c_and_its_failure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "FOLDER", tmp_path)
    monkeypatch.setattr(loop, "loaded", [])
    loop.build_loop()
    source = tmp_path / "peer.c"
    source.write_text("int count(int *calls) { return ++*calls > 5 ? 7 : 0; }")
    machine.compile_c(source, tmp_path / "peer.so", "-shared", "-fPIC")
    import ctypes as c

    library, calls = c.CDLL(str(tmp_path / "peer.so")), c.c_int()
    address = c.cast(library.count, c.c_void_p).value or 0
    call = loop.CCall(loop.ONE_TO_INT, address, (c.addressof(calls),), np.zeros(1, np.float32), "status {}".format)
    times, _ = loop.run_for(call, 0.0, 4)
    assert (len(times), calls.value) == (4, 4)
    call()
    with pytest.raises(RuntimeError, match="status 7"):
        call()


def test_a_file_that_could_not_be_made_whole_is_not_there(tmp_path: Path) -> None:
    def half(file: Path) -> None:
        file.write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        artifacts.made(tmp_path / "a", half)
    assert not list(tmp_path.iterdir())
    assert artifacts.made(tmp_path / "a", lambda file: file.write_text("whole")).read_text() == "whole"
    assert artifacts.made(tmp_path / "a", half).read_text() == "whole"


def test_a_new_key_makes_room_by_removing_the_oldest_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFC_BENCH_CACHE", str(tmp_path))
    folders: list[Path] = []
    for i in range(4):
        folders.append(artifacts.folder_of("m", artifacts.digest(str(i))))
        os.utime(folders[-1], (i, i))  # made within one tick of the clock, they would be equally old
    assert [folder.is_dir() for folder in folders] == [False, False, True, True]


def test_a_refused_build_gives_its_reason_in_one_line() -> None:
    error = {"error": {"diagnostics": [{"title": "no int4", "label": "here"}, {"title": "no int4", "label": "here"}]}}
    assert bundles.reason_of(json.dumps(error), "") == "no int4: here"
    assert bundles.reason_of(json.dumps({"error": {"message": "a\n b"}}), "") == "a b"
    assert bundles.reason_of("", "Traceback\n no") == "Traceback no"


def test_texts_to_calibrate_with_are_not_those_that_are_measured(examples: Path) -> None:
    assert sentences(20, seed=3) == sentences(20, seed=3)
    one, other = ({t for t in sentences(256, seed) if len(t.split()) > 20} for seed in (3, 11))
    assert one
    assert not one & other


def test_the_probe_measures_what_this_machine_has(tmp_path: Path) -> None:
    program = machine.build_probe(tmp_path)
    for precision in PRECISIONS:
        assert machine.measure_peak(program, machine.best_kind(precision), 1, 20) > 0.5
    limits = machine.measure_limits(program, 1)
    assert {"fma", "L2", "memory"} <= set(limits)
    assert machine.cpu_name()


def row_of(name: str, seconds: float, exact: float = 1.0) -> Row:
    return Row(name, blocks=[Block(seconds, seconds, 1)] * 3, exact=exact)
