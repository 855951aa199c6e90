"""`python -m bench`: runs everyone, prints the tables, writes docs/benchmarks.md and its picture."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial

from .cases import CASES, ROOT, SPEC, Case, parse_case
from .interleave import Plan, Result, run_case
from .machine import build_probe, cpu_name, measure_peak
from .peers import PEERS
from .plot import draw
from .profile import profile_text
from .report import OURS, Run, Setting, render, verdict
from .worker import PeerFailed, Worker

FOLDER = ROOT / "build" / "bench"


def main(argv: list[str] | None = None) -> int:
    """0 when everything ran; 1 when a row stayed open (a peer is absent or failed), which the page says too."""
    args = arguments(argv)
    FOLDER.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    say(f"{cpu_name()}, {args.threads} threads")
    if load > 0.5:
        say(f"warning: other programs keep this machine busy (load average {load:.1f}); ratios will be noisy or wrong")
    program = build_probe(FOLDER)
    prepare(args.cases)
    peers = [p for p in PEERS if not args.peers or p.name in args.peers]
    if any(p.name == OURS for p in peers):
        build_bundle()
    workers: dict[str, Worker | PeerFailed] = {}
    settings: list[Setting] = []
    results: list[Result] = []
    plan = Plan(rounds=args.rounds)
    try:
        for peer in peers:
            try:
                worker = workers[peer.name] = Worker(peer, FOLDER, args.threads)
                settings.append(Setting(peer.name, worker.version, worker.settings))
            except PeerFailed as failure:
                workers[peer.name] = failure
                settings.append(Setting(peer.name, "–", str(failure)))
        for case in args.cases:
            results.append(run_case(case, workers, FOLDER, plan, partial(measure_peak, program, args.threads), say))
            say(f"{case.name}: {verdict(results[-1])}")
    finally:
        for worker in workers.values():
            if isinstance(worker, Worker):
                worker.close()
    profiles = {case.title: text for case in args.cases if (text := profile_text(case, FOLDER, args.threads))}
    page = render(
        Run(
            results=results,
            settings=settings,
            plan=plan,
            machine=cpu_name(),
            threads=args.threads,
            commit=commit(),
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            profiles=profiles,
            load=load,
        )
    )
    print(page)
    if args.write:
        (ROOT / "docs").mkdir(exist_ok=True)
        (ROOT / "docs" / "benchmarks.md").write_text(page, encoding="utf-8")
        draw(results, ROOT / "docs" / "benchmarks.svg")
        say("wrote docs/benchmarks.md and docs/benchmarks.svg")
    return 1 if any(row.failure for result in results for row in result.rows) else 0


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line's words."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="infc beside its peers on this machine")
    parser.add_argument("--threads", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--rounds", type=int, default=15, help="blocks of each peer (default 15)")
    parser.add_argument(
        "--cases", type=lambda text: [parse_case(name) for name in text.split(",")], default=list[Case](CASES),
        help="1x32,8x128: batch x tokens (default: all four)",
    )  # fmt: skip
    parser.add_argument("--peers", type=lambda text: text.split(","), help=", ".join(p.name for p in PEERS))
    parser.add_argument("--no-write", dest="write", action="store_false", help="print only; leave docs/ as it is")
    return parser.parse_args(argv)


def prepare(cases: list[Case]) -> None:
    """The model, its ONNX files and the reference outputs, unless they are there."""
    subprocess.run([sys.executable, SPEC.parent / "prepare.py"], check=True, stdout=subprocess.DEVNULL)
    missing = [c.name for c in cases if not (FOLDER / f"{c.name}.onnx").is_file()]
    if missing:
        say("exporting the reference")
        command = [sys.executable, "-m", "bench.reference", str(FOLDER), *missing]
        with (FOLDER / "reference.log").open("w") as log:
            done = subprocess.run(command, cwd=ROOT, stderr=log, check=False)
        if done.returncode:
            sys.exit(f"bench: the reference failed; see {FOLDER / 'reference.log'}")


def build_bundle() -> None:
    """The shipped bundle. Where the build fails, infc's row says so."""
    say("infc build")
    spec, output = ROOT / "bench" / "minilm.infer", FOLDER / "minilm.bundle"
    command = [
        sys.executable, "-m", "infc", "build", str(spec), "-o", str(output), "--allow-path", str(ROOT / "examples"), "-q"
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, 4):
        say(f"infc build ended with {done.returncode}")


def commit() -> str:
    """The commit, with a plus where the tree differs from it."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        dirty = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
