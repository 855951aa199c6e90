"""The benchmark's own machinery: fair turns, failures that keep their row, ratios, the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench import interleave, machine, report
from bench.cases import CASES, Case, flops, inputs, parse_case
from bench.interleave import Plan, Result, Row, least_cosine, run_case
from bench.peers import PEERS, Peer, fastest
from bench.worker import PeerFailed, Worker

CASE = Case(2, 4)
PLAN = Plan(rounds=4, block_s=0.01, least=2, pause_s=0.0)


class Fake:
    """Stands for a worker: `seconds` a call; fails in round `dies`."""

    def __init__(self, name: str, seconds: float, calls: list[str], dies: int = -1, output: float = 1.0) -> None:
        self.name, self.seconds, self.calls, self.dies, self.value, self.round = name, seconds, calls, dies, output, 0

    def open(self, case: Case) -> str:
        return f"{self.name} took the fast one"

    def output(self, file: Path) -> None:
        np.save(file, np.array([[self.value, 1.0], [0.0, 1.0]], np.float32))

    def block(self, seconds: float, least: int) -> list[float]:
        self.calls.append(self.name)
        self.round += 1
        if self.round == self.dies:
            raise PeerFailed("its process ended with -9")
        return [self.seconds] * least


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / f"{CASE.name}.npy", np.array([[1.0, 1.0], [0.0, 1.0]], np.float32))
    return tmp_path


def measured(folder: Path, *fakes: Fake, absent: str = "") -> Result:
    workers: dict[str, object] = {fake.name: fake for fake in fakes}
    if absent:
        workers[absent] = PeerFailed("not installed: No module named 'x'")
    return run_case(CASE, workers, folder, PLAN, lambda: 100.0, lambda _: None)  # pyright: ignore[reportArgumentType]


def test_everyone_goes_first_in_turn(folder: Path) -> None:
    calls: list[str] = []
    measured(folder, *(Fake(name, 0.1, calls) for name in ("infc", "a", "b")))
    assert calls == ["infc", "a", "b", "a", "b", "infc", "b", "infc", "a", "infc", "a", "b"]


def test_a_peer_that_is_absent_or_dies_keeps_its_row_and_leaves_it_open(folder: Path) -> None:
    calls: list[str] = []
    result = measured(
        folder, Fake("infc", 0.1, calls), Fake("a", 0.2, calls, dies=2), Fake("b", 0.15, calls), absent="c"
    )
    rows = {row.name: row for row in result.rows}
    assert rows["a"].failure == "its process ended with -9"
    assert "not installed" in rows["c"].failure
    assert calls.count("a") == 2
    text = report.verdict(result)
    assert "1.50× the speed of the best peer, b" in text
    assert "stays open: a, c did not run" in text


def test_a_fast_peer_with_a_wrong_answer_is_not_the_best(folder: Path) -> None:
    calls: list[str] = []
    result = measured(folder, Fake("infc", 0.1, calls), Fake("wrong", 0.01, calls, output=-1.0), Fake("b", 0.2, calls))
    assert "best peer, b" in report.verdict(result)
    assert report.speed_against_best(result) == pytest.approx(2.0)


def test_without_infc_or_without_peers_the_row_is_open(folder: Path) -> None:
    calls: list[str] = []
    assert "infc did not run" in report.verdict(measured(folder, Fake("b", 0.1, calls), absent="infc"))
    assert "No peer ran" in report.verdict(measured(folder, Fake("infc", 0.1, calls)))
    low = measured(folder, Fake("infc", 0.1, calls, output=-1.0), Fake("b", 0.1, calls))
    assert "does not count" in report.verdict(low)
    assert report.speed_against_best(measured(folder, Fake("infc", 0.1, calls))) is None


def test_the_page_says_what_was_measured(folder: Path) -> None:
    calls: list[str] = []
    result = measured(folder, Fake("infc", 0.1, calls), Fake("b", 0.2, calls), absent="c")
    page = report.render(
        report.Run(
            [result],
            [report.Setting("b", "1.2", "static")],
            PLAN,
            "A CPU",
            2,
            "abc",
            "2026-01-02",
            {"4 tokens": "op"},
            0.25,
        )
    )
    assert "| b | 200.00 | 200.00 | 2.00 [2.00–2.00] |" in page
    assert "| c | – | – | – | – | not installed: No module named 'x' |" in page
    assert "infc runs at 2.00× the speed of the best peer" in page
    assert "Commit abc, 2026-01-02; the load average before the run was 0.2" in page
    assert "median 100 GFLOP/s" in page


def test_ratios_are_taken_round_by_round() -> None:
    slow_machine = [1.0, 1.0, 3.0, 1.0]
    a = Row("a", blocks=[[2.0 * s] for s in slow_machine])
    b = Row("b", blocks=[[1.0 * s] for s in slow_machine])
    assert a.ratio_to(b) == (2.0, 2.0, 2.0)
    assert (a.least, a.median) == (2.0, 2.0)


def test_cosine_is_that_of_the_worst_row(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[1.0, 0.0], [1.0, 1.0]], np.float32))
    np.save(tmp_path / "b.npy", np.array([[1.0, 0.0], [1.0, 0.0]], np.float32))
    np.save(tmp_path / "c.npy", np.array([[1.0, 0.0]], np.float32))
    assert least_cosine(tmp_path / "a.npy", tmp_path / "b.npy") == pytest.approx(0.5**0.5)
    assert least_cosine(tmp_path / "a.npy", tmp_path / "c.npy") == 0.0


def test_cases(examples: Path) -> None:
    assert [parse_case(c.name) for c in CASES] == list(CASES)
    arrays = inputs(Case(8, 128))
    assert arrays["input_ids"].shape == (8, 128)
    assert arrays["attention_mask"].min() == 1
    assert np.array_equal(inputs(Case(8, 128))["input_ids"], arrays["input_ids"])
    # 6 layers of 12 H² multiply-adds a token, and attention's 2 T H
    assert flops(Case(1, 32)) == 32 * 6 * (2 * 12 * 384 * 384 + 4 * 32 * 384)


def test_the_fastest_configuration_is_taken() -> None:
    import time

    def slow() -> np.ndarray:
        time.sleep(0.005)
        return np.zeros(1, np.float32)

    call, name = fastest({"slow": slow, "fast": lambda: np.ones(1, np.float32)})
    assert name == "fast"
    assert call()[0] == 1


def test_every_peer_has_a_module_with_settings() -> None:
    folder = Path(interleave.__file__).parent / "peers"
    for peer in PEERS:
        text = (folder / f"{peer.module}.py").read_text()
        assert "VERSION_OF = " in text
        assert f'"{peer.variant}": ' in text


def test_a_worker_whose_package_is_absent_or_whose_case_fails_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PeerFailed, match="its process ended with"):
        Worker(Peer("nobody", "nobody"), tmp_path, 1)
    worker = Worker(PEERS[0], tmp_path, 1)
    try:
        assert worker.version
        with pytest.raises(PeerFailed, match=r"minilm\.bundle"):
            worker.open(CASE)
        with pytest.raises(PeerFailed, match="no case is open"):
            worker.block(0.01, 1)
    finally:
        worker.close()
    assert worker.process.returncode == 0


def test_the_probe_measures_a_plausible_peak(tmp_path: Path) -> None:
    program = machine.build_probe(tmp_path)
    assert machine.measure_peak(program, 1, 20) > 0.5
    assert machine.cpu_name()
