"""`python -m bench`: runs everyone, prints the tables, writes docs/benchmarks.md with its data and its picture."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from .artifacts import cache_root
from .bundles import build_bundle
from .cases import FOLDER, OURS, PRECISIONS, ROOT, SHAPES, Case, make_case
from .document import document, readme_lines
from .interleave import Plan, Result
from .loop import build_loop
from .machine import best_kind, build_probe, cpu_name, measure_limits, measure_peak
from .models import ENCODERS, EXAMPLE, STREAMED, complete
from .peers import PEERS
from .plot import draw
from .report import Run, render
from .start import Started, run_start
from .stream import STATIC
from .suites import Peak, Profiled, Setting, StreamResult, run_cases, run_profiles, run_stream, started

SUITES = ("encoders", "stream", "tabular", "start")
PEAK_MS = 15
QUICK = Plan(rounds=3, block_s=0.02, least=1, budget_s=5, fewest=2)
BEGIN = time.monotonic()


def main(argv: list[str] | None = None) -> int:
    """0 when everything ran; 1 when a row stayed open (a peer or infc is absent or failed), which the page says too."""
    args = arguments(argv)
    FOLDER.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_root() / "inductor"))
    load = os.getloadavg()[0]
    say(f"{cpu_name()}, {args.threads} threads")
    if load > 0.5:
        say(f"warning: other programs keep this machine busy (load average {load:.1f}); ratios will be noisy or wrong")
    build_loop()
    probe = build_probe(FOLDER)

    def peak(precision: str) -> float:
        return measure_peak(probe, best_kind(precision), args.threads, PEAK_MS)

    prepare(args)
    refused = build_bundles(args)
    limits = {threads: measure_limits(probe, threads) for threads in sorted({1, args.threads})}
    measured = measure(args, peak, refused)
    for threads, found in limits.items():  # once more: who was disturbed before may not be now
        for name, rate in measure_limits(probe, threads).items():
            found[name] = max(rate, found.get(name, 0.0))
    run = Run(
        results=measured.results,
        streams=measured.streams,
        starts=measured.starts,
        profiles=measured.profiles,
        settings=measured.settings,
        limits=limits,
        plan=args.plan,
        machine=cpu_name(),
        threads=args.threads,
        commit=commit(),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        load=load,
        minutes=(time.monotonic() - BEGIN) / 60,
    )
    write(run, ROOT / "docs" if args.write else FOLDER)
    print("\n".join(readme_lines(run)))
    rows = [row for result in (*run.results, *run.streams) for row in result.rows]
    return 1 if any(row.failure for row in (*rows, *run.starts)) else 0


@dataclass(slots=True)
class Measured:
    """What the suites found so far."""

    results: list[Result] = field(default_factory=list[Result])
    streams: list[StreamResult] = field(default_factory=list[StreamResult])
    starts: list[Started] = field(default_factory=list[Started])
    profiles: list[Profiled] = field(default_factory=list[Profiled])
    settings: list[Setting] = field(default_factory=list[Setting])


def measure(args: argparse.Namespace, peak: Peak, refused: Callable[[str, str], str]) -> Measured:
    """The suites that were asked for, a precision at a time. `refused`: why a model has no bundle in a precision, or ""."""
    found = Measured()
    peers = [p for p in PEERS if not args.peers or p.name in args.peers]
    for precision in args.precisions:
        cases = [case for case in chosen_cases(args) if case.precision == precision]
        encoders = [case for case in cases if case.model in ENCODERS]
        tabular = [case for case in cases if case.model not in ENCODERS]
        for group, able in ((encoders, peers), (tabular, [p for p in peers if p.variant != "fused"])):
            if group:
                with started(able, precision, args.threads, found.settings) as workers:
                    results = run_cases(group, workers, args.plan, peak, refused, say)
                found.results += results
                built = [case for case in group if not refused(case.model, case.precision)]
                found.profiles += run_profiles(built, args.threads, peak)
        if "stream" in args.suites:
            with started(peers, precision, args.threads, found.settings) as workers:
                found.streams.append(run_stream(precision, workers, args.plan, peak, refused(STREAMED, precision), say))
    if "start" in args.suites:
        found.starts += run_start(args.precisions, args.threads, lambda p: refused(STREAMED, p), say)
    return found


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line's words."""

    def words(known: Sequence[str]) -> Callable[[str], list[str]]:
        def read(text: str) -> list[str]:
            given = text.split(",")
            wrong = [word for word in given if word not in known]
            if wrong:
                raise argparse.ArgumentTypeError(f"{wrong[0]!r} is not one of {', '.join(known)}")
            return given

        return read

    parser = argparse.ArgumentParser(prog="python -m bench", description="infc beside its peers on this machine")
    parser.add_argument("--threads", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--suite", dest="suites", type=words(SUITES), default=list(SUITES), help=", ".join(SUITES))
    parser.add_argument(
        "--model", dest="models", type=words(list(SHAPES)), default=list(SHAPES), help=", ".join(SHAPES)
    )
    parser.add_argument("--shape", dest="shapes", type=lambda text: text.split(","), help="1x32,8x128: batch x tokens")
    parser.add_argument(
        "--precision", dest="precisions", type=words(PRECISIONS), default=list(PRECISIONS), help=", ".join(PRECISIONS)
    )
    names = [peer.name for peer in PEERS]
    parser.add_argument("--peer", dest="peers", action="append", choices=names, help="once for each; default: all")
    parser.add_argument("--quick", action="store_true", help="few short rounds: to see that everything runs")
    args = parser.parse_args(argv)
    args.plan = QUICK if args.quick else Plan()
    whole = (args.suites, args.models, args.precisions) == (list(SUITES), list(SHAPES), list(PRECISIONS))
    args.write = whole and not (args.quick or args.peers or args.shapes)
    return args


def chosen_cases(args: argparse.Namespace) -> list[Case]:
    """The cases of the encoders and the tabular network; the latter in float32 only."""
    cases: list[Case] = []
    for model in args.models:
        suite = "encoders" if model in ENCODERS else "tabular"
        if suite in args.suites:
            for precision in args.precisions if model in ENCODERS else [p for p in args.precisions if p == "float32"]:
                cases += [
                    make_case(model, shape, precision) for shape in SHAPES[model] if shape in (args.shapes or [shape])
                ]
    return cases


def prepare(args: argparse.Namespace) -> None:
    """The models, their ONNX files and the reference outputs, unless they are there."""
    subprocess.run([sys.executable, EXAMPLE / "prepare.py"], check=True, stdout=subprocess.DEVNULL)
    shapes: dict[str, list[str]] = {STREAMED: []} if "start" in args.suites else {}
    if "stream" in args.suites:
        shapes[STREAMED] = list(STATIC)
    for case in chosen_cases(args):
        shapes.setdefault(case.model, [])
        if case.shape not in shapes[case.model]:
            shapes[case.model].append(case.shape)
    for model, names in shapes.items():
        if complete(model, names):
            continue
        say(f"reference of {model}")
        log = FOLDER / f"reference-{model}.log"
        with log.open("w") as out:
            command = [sys.executable, "-m", "bench.reference", model, *names]
            done = subprocess.run(command, cwd=ROOT, stderr=out, stdout=out, check=False)
        if done.returncode:
            sys.exit(f"bench: the reference of {model} failed; see {log}")


def build_bundles(args: argparse.Namespace) -> Callable[[str, str], str]:
    """Builds what will be measured. Afterwards a function that says why a model has no bundle in a precision; "": it has."""
    needed = [(case.model, case.precision) for case in chosen_cases(args)]
    if {"stream", "start"} & set(args.suites):
        needed += [(STREAMED, precision) for precision in args.precisions]
    why: dict[tuple[str, str], str] = {}
    if args.peers and OURS not in args.peers:
        needed = []
    for model, precision in dict.fromkeys(needed):
        say(f"infc build of {model} in {precision}")
        why[model, precision] = build_bundle(model, precision)
        if why[model, precision]:
            say(why[model, precision])
    return lambda model, precision: why.get((model, precision), "it was not asked for")


def write(run: Run, folder: Path) -> None:
    """The page, its data and its picture."""
    folder.mkdir(exist_ok=True)
    (folder / "benchmarks.md").write_text(render(run), encoding="utf-8")
    (folder / "benchmarks.json").write_text(json.dumps(document(run), indent=1) + "\n", encoding="utf-8")
    if run.results:
        draw(run.results, folder / "benchmarks.svg")
    say(f"wrote {folder.relative_to(ROOT)}/benchmarks.md, .json and .svg after {run.minutes:.1f} minutes")


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
    """Progress, with the seconds since the start."""
    print(f"bench {time.monotonic() - BEGIN:4.0f} s: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
