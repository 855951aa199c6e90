"""What `make demo` prints, without building anything."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from infc.compiler.proof.verdict import verdict_of
from infc.dsl.spec import ColdStartTarget, LatencyTarget, MemoryTarget

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_missed_target_is_shown(demo: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    latency = LatencyTarget(statistic="p99", quantile=0.99, bound=0.02)
    rows = [
        verdict_of(
            latency, "met", confidence=0.95, value=0.0073, low=0.007, high=0.0081, samples=900, note="at 40 req/s"
        ),
        verdict_of(MemoryTarget(bound=1 << 20), "missed", confidence=0.95, value=2 << 20, low=2 << 20, high=2 << 20),
        verdict_of(ColdStartTarget(bound=1.0), "not proved", confidence=0.95, note="no server for this machine"),
    ]
    demo.print_targets([m.as_json() for m in rows])
    lines = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "latency p99 <= 20 ms 7.3 (7..8.1) ms met (at 40 req/s)",
        "memory <= 1 MiB 2 MiB MISSED",
        "cold_start <= 1 s - not proved (no server for this machine)",
    ]


def test_cosine(demo: ModuleType) -> None:
    assert demo.cosine([3.0, 4.0], [3.0, 4.0]) == pytest.approx(1.0)
    assert demo.cosine([1.0, 0.0], [0.0, 2.0]) == 0.0


def test_it_uses_the_command_and_the_standard_library_alone(demo: ModuleType) -> None:
    import ast
    import sys

    tree = ast.parse((ROOT / "examples" / "demo.py").read_text())
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert {n.partition(".")[0] for n in names} <= sys.stdlib_module_names
