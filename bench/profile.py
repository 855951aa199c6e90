"""Where infc's time goes: the steps of the bundle, by kind, as its own profiler sees them."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from infc.runtime import load
from infc.runtime.loader import StepProfile

from .cases import ROOT, Case, inputs, parse_case

RUNS = 30


def profile_text(case: Case, folder: Path, threads: int) -> str:
    """A table as text, made in a process of its own; "" where the bundle cannot be run (its row has said why)."""
    command = [sys.executable, "-m", "bench.profile", str(folder / "minilm.bundle"), case.name, str(threads)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.rstrip("\n") if done.returncode == 0 else ""


def profile(bundle: Path, case: Case, threads: int) -> str:
    """Per kind of step (its op and who provided the kernel): how many, the least of its times over RUNS runs, the share."""
    arrays = inputs(case)
    least: dict[int, float] = {}
    steps: list[StepProfile] = []
    with load(bundle, threads=threads) as model:
        model.profile()
        for _ in range(RUNS):
            model.run(**arrays)
            steps = model.step_times()
            for number, step in enumerate(steps):
                least[number] = min(step.seconds, least.get(number, step.seconds))
    kinds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number, step in enumerate(steps):
        kinds[step.op, step.provider].append(least[number])
    total = sum(least.values())
    lines = [f"{'op':<16} {'provider':<24} {'steps':>5} {'ms':>8} {'share':>6}"]
    for (op, provider), times in sorted(kinds.items(), key=lambda item: -sum(item[1])):
        spent = sum(times)
        lines.append(f"{op:<16} {provider:<24} {len(times):>5} {spent * 1e3:>8.3f} {spent / total:>6.1%}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(profile(Path(sys.argv[1]), parse_case(sys.argv[2]), int(sys.argv[3])))
