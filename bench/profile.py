"""Where infc's time goes: the steps of the bundle, by kind, as its own profiler sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from infc.compiler.report.profile import profile
from infc.runtime import load

from .cases import ROOT, Case, inputs, parse_case


def profile_text(case: Case, folder: Path, threads: int) -> str:
    """A table as text, made in a process of its own; "" where the bundle cannot be run (its row has said why)."""
    command = [sys.executable, "-m", "bench.profile", str(folder / "minilm.bundle"), case.name, str(threads)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.rstrip("\n") if done.returncode == 0 else ""


def profile_bundle(bundle: Path, case: Case, threads: int) -> str:
    """Per kind of step (its op and who provided the kernel): how many, their least time over many runs, the share."""
    with load(bundle, threads=threads) as model:
        kinds = profile(model, inputs(case))
    lines = [f"{'op':<16} {'provider':<24} {'steps':>5} {'ms':>8} {'share':>6}"]
    lines += [f"{k.op:<16} {k.provider:<24} {k.steps:>5} {k.seconds * 1e3:>8.3f} {k.share:>6.1%}" for k in kinds]
    return "\n".join(lines)


if __name__ == "__main__":
    print(profile_bundle(Path(sys.argv[1]), parse_case(sys.argv[2]), int(sys.argv[3])))
