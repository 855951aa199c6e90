"""docs/benchmarks.md: what was measured, in one run at one commit. Nobody edits its numbers by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median

from . import stream
from .cases import ABSOLUTE_FLOOR, FLOOR, OURS, Case, floor_of
from .interleave import Plan, Result, Row
from .machine import KINDS
from .models import ENCODERS, TITLES, flops
from .profile import Kind
from .start import PACKAGES, Started
from .suites import Exactness, Profiled, Setting, StreamResult
from .verdict import BESIDE, Summary, Verdict, judge, summarize

PADDED_WAYS = (stream.PADDED,)
OTHER_WAYS = (stream.SORTED, stream.BUCKETED)


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that the page says. `limits`: by number of threads, what the machine can do, see machine.py."""

    results: Sequence[Result]
    streams: Sequence[StreamResult]
    starts: Sequence[Started]
    profiles: Sequence[Profiled]
    settings: Sequence[Setting]
    limits: dict[int, dict[str, float]]
    plan: Plan
    machine: str
    threads: int
    commit: str
    date: str
    load: float
    minutes: float


def render(run: Run) -> str:
    """The page, Markdown."""
    parts = [_head(run), _summary(run), _cases(run), _streams(run.streams), _starts(run.starts)]
    parts += [_exactness(run.streams), _profiles(run.profiles), _settings(run)]
    return "\n".join(line for part in parts for line in part) + "\n"


def summaries(results: Iterable[Result]) -> dict[tuple[str, str], Summary]:
    """By suite (`encoders`, `tabular`) and precision."""
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for result in results:
        suite = "encoders" if result.case.model in ENCODERS else "tabular"
        groups.setdefault((suite, result.case.precision), []).append(judge(result.rows, floor_of(result.case)))
    return {key: summarize(verdicts) for key, verdicts in groups.items()}


def share_of_peak(result: Result, row: Row) -> float:
    """The products' arithmetic over the row's least time, as a share of the precision's peak, measured between its blocks."""
    return 1e-9 * flops(result.case) / row.least / median(result.peaks)


def _head(run: Run) -> list[str]:
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench`, all in one run of {run.minutes:.0f} minutes; do not edit. {run.threads} threads on the same",
        f"{run.threads} CPUs for everyone.",
        "",
        f"* Machine: {run.machine}. Commit {run.commit}, {run.date}; the load average before the run was {run.load:.1f} (other",
        "  programs' work).",
        f"* {run.plan.fewest} to {run.plan.rounds} rounds a case; in each, everyone runs a block of at least {run.plan.block_s * 1e3:.0f} ms and {run.plan.least} calls,",
        f"  after a pause of {run.plan.pause_s * 1e3:.0f} ms; the order turns by one a round.",
        "* `× infc` is the peer's time over infc's, block median by block median, over the rounds: median, and quartiles in",
        "  brackets; above 1 the peer is slower. Machines like this one are shared and noisy: trust ratios, not milliseconds.",
        "* `of peak`: the arithmetic of the matrix products alone, at the least time, over the peak of that precision's",
        "  multiply-add or dot product, measured in every round.",
        f"* `exact`: the least cosine of any row against float32 torch; below {FLOOR['float32']} (int8: {FLOOR['int8']}) a row is marked † and does",
        f"  not count as the best peer. Tabular: the largest error, at most {ABSOLUTE_FLOOR}.",
        "* A row without a number says why. Where a peer is absent or failed, the case stays open: nothing is won.",
        "",
        "![time of each peer over infc's; hatched: below the floor](benchmarks.svg)",
        "",
        "## The machine's limits",
        "",
        "| " + " | ".join(["", *(f"{n} thread{'s' if n > 1 else ''}" for n in run.limits)]) + " |",
        "| --- |" + " ---: |" * len(run.limits),
    ]
    titles = {kind.name: f"{kind.title}, {'GOP/s' if kind.precision == 'int8' else 'GFLOP/s'}" for kind in KINDS}
    titles |= {name: f"reading from {name}, GB/s" for name in ("L2", "L3", "memory")}
    for name, title in titles.items():
        rates = [limits.get(name) for limits in run.limits.values()]
        if any(rates):
            lines.append(f"| {title} | " + " | ".join("–" if rate is None else f"{rate:.0f}" for rate in rates) + " |")
    return lines


def _summary(run: Run) -> list[str]:
    lines = [
        "",
        "## Summary",
        "",
        f"infc's speed over the best peer's of the same precision (geometric mean, and the least row), and over {BESIDE}'s",
        "whatever its exactness.",
        "",
        f"| suite | precision | cases | best peer | least | {BESIDE} | open |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (suite, precision), s in summaries(run.results).items():
        cases = str(s.rows) if s.counted == s.rows else f"{s.counted} of {s.rows}"
        lines.append(
            f"| {suite} | {precision} | {cases} | {times(s.mean)} | {times(s.least)} | {times(s.beside)} | {s.open} |"
        )
    for result in run.streams:
        for name, ways in (("stream, padded peers", PADDED_WAYS), ("stream, sorted or bucketed peers", OTHER_WAYS)):
            v = judge(result.rows, FLOOR[result.precision], ways)
            count = "1" if v.ratio is not None else "0 of 1"
            lines.append(
                f"| {name} | {result.precision} | {count} | {times(v.ratio)} | {times(v.ratio)} | {times(v.beside)} | {int(bool(v.open))} |"
            )
    return lines


def _cases(run: Run) -> list[str]:
    lines: list[str] = []
    for (model, precision), group in groupby(run.results, key=lambda r: (r.case.model, r.case.precision)):
        results = list(group)
        lines += ["", f"## {TITLES[model]}, {precision}", ""]
        lines += [
            "| | | least ms | median ms | × infc | of peak | exact |",
            "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for result in results:
            first = f"**{result.case.title}**"
            for row in result.rows:
                lines.append(_row(first, row, result))
                first = ""
        lines.append("")
        lines += [f"* {r.case.title}: {sentence(judge(r.rows, floor_of(r.case)))}" for r in results]
    return lines


def _row(first: str, row: Row, result: Result) -> str:
    if row.failure:
        return f"| {first} | {row.name} | – | – | – | – | {row.failure.replace('|', '/')} |"
    share = f"{share_of_peak(result, row):.0%}"
    return f"| {first} | {row.name} | {milliseconds(row.least)} | {milliseconds(row.median)} | {against(row, result.rows)} | {share} | {exactly(row, result.case)} |"


def _streams(results: Sequence[StreamResult]) -> list[str]:
    if not results:
        return []
    lines = ["", "## A stream of mixed lengths", ""]
    lines += [
        f"{TITLES[results[0].model]}; a pass is {stream.TIMED} sentences of 4 to 200 tokens (log-normal, median 32). infc takes them",
        f"{stream.RAGGED}. The peers are fed:",
        "",
        *(f"* {way}: {text}." for way, text in stream.WAYS.items()),
        "",
        "A peer that wants every shape beforehand (IREE) is in `bucketed` only.",
    ]
    for result in results:
        floor = FLOOR[result.precision]
        lines += ["", f"### {result.precision}", ""]
        lines += ["| | least ms | median ms | × infc | exact |", "| --- | ---: | ---: | ---: | ---: |"]
        for row in result.rows:
            if row.failure:
                lines.append(f"| {row.name} | – | – | – | {row.failure.replace('|', '/')} |")
                continue
            mark = " †" if row.exact < floor else ""
            lines.append(
                f"| {row.name} | {milliseconds(row.least)} | {milliseconds(row.median)} | {against(row, result.rows)} | {row.exact:.6f}{mark} |"
            )
        lines.append("")
        for title, ways in (
            ("padded", PADDED_WAYS),
            ("sorted or bucketed", OTHER_WAYS),
            ("one by one", (stream.ALONE,)),
        ):
            lines.append(f"* Peers {title}: {sentence(judge(result.rows, floor, ways))}")
    return lines


def _starts(rows: Sequence[Started]) -> list[str]:
    if not rows:
        return []
    lines = [
        "",
        "## Start",
        "",
        "MiniLM: from exec of the server to its first correct answer over HTTP (files in the page cache), resident memory then,",
        f"bytes on disk. infc: the bundle's `serve`. The peer: a Python process; its size is the model with {', '.join(PACKAGES)},",
        "without Python itself.",
        "",
        "| | precision | least ms | median ms | resident MiB | size MiB | cosine |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        if row.failure or not row.seconds:
            lines.append(f"| {row.name} | {row.precision} | – | – | – | – | {row.failure.replace('|', '/')} |")
            continue
        mib = f"{row.resident / 2**20:.0f} | {row.size / 2**20:.0f}"
        lines.append(
            f"| {row.name} | {row.precision} | {row.least * 1e3:.0f} | {row.median * 1e3:.0f} | {mib} | {row.exact:.6f} |"
        )
    return lines


def _exactness(results: Sequence[StreamResult]) -> list[str]:
    if not results:
        return []
    lines = [
        "",
        "## Embeddings against float32 torch, 500 sentences",
        "",
        "Each sentence computed alone.",
        "",
        "| | precision | mean cosine | worst |",
        "| --- | --- | ---: | ---: |",
    ]

    def line(e: Exactness, precision: str) -> str:
        if e.failure:
            return f"| {e.name} | {precision} | – | {e.failure.replace('|', '/')} |"
        return f"| {e.name} | {precision} | {e.mean:.6f} | {e.least:.6f} |"

    return lines + [line(e, result.precision) for result in results for e in result.exactness]


def _profiles(profiles: Sequence[Profiled]) -> list[str]:
    if not profiles:
        return []
    lines = [
        "",
        "## Where infc's time goes",
        "",
        "From the bundle's own profile: the steps by kind, the least time of each, ms in one run; in parentheses their arithmetic",
        "as a share of the precision's peak.",
    ]
    for (model, precision), group in groupby(profiles, key=lambda p: (p.case.model, p.case.precision)):
        members = list(group)
        names = list(dict.fromkeys(kind.name for p in members for kind in p.kinds))
        lines += ["", f"### {TITLES[model]}, {precision}", ""]
        lines += [
            "| | steps | " + " | ".join(p.case.title for p in members) + " |",
            "| --- | ---: |" + " ---: |" * len(members),
        ]
        products = {p.case: [k for k in p.kinds if "linear" in k.op] for p in members}
        lines.append("| **all products** | | " + " | ".join(_cell(p, products[p.case]) for p in members) + " |")
        for name in names:
            found = [[kind for kind in p.kinds if kind.name == name] for p in members]
            steps = max(sum(kind.steps for kind in kinds) for kinds in found)
            lines.append(f"| {name} | {steps} | " + " | ".join(map(_cell, members, found)) + " |")
    return lines


def _cell(profiled: Profiled, kinds: Sequence[Kind]) -> str:
    if not kinds:
        return "–"
    seconds, work = sum(kind.seconds for kind in kinds), sum(kind.flops for kind in kinds)
    heavy = all("linear" in kind.op or kind.op == "attention" for kind in kinds)
    share = f" ({1e-9 * work / seconds / profiled.peak:.0%})" if heavy and seconds and work else ""
    return f"{milliseconds(seconds)}{share}"


def _settings(run: Run) -> list[str]:
    lines = ["", "## Settings", "", "| peer | precision | version | how it was set up |", "| --- | --- | --- | --- |"]
    lines += [f"| {s.name} | {s.precision} | {s.version} | {s.settings.replace('|', '/')} |" for s in run.settings]
    notes: list[str] = []
    for result in run.results:
        for row in result.rows:
            said = "; ".join(part for part in (row.note, row.isa) if part)
            if said and not row.failure:
                notes.append(f"* {result.case.name}, {row.name}: {said}")
    return lines + (
        ["", "What each chose of what it was offered, and what it says of its kernels:", "", *notes] if notes else []
    )


def sentence(verdict: Verdict) -> str:
    """What a verdict says."""
    beside = "" if verdict.beside is None else f" (over {BESIDE}, however exact: {verdict.beside:.2f}×)"
    if verdict.ratio is None:
        return f"open: {verdict.open}{beside}."
    rest = f" Open all the same: {verdict.open}." if verdict.open else ""
    return f"infc runs at **{verdict.ratio:.2f}×** the speed of the best peer, {verdict.best}{beside}.{rest}"


def against(row: Row, rows: Sequence[Row]) -> str:
    """A row's time over infc's, with its quartiles."""
    ours = next((r for r in rows if r.name == OURS and not r.failure), None)
    if ours is None:
        return "–"
    if row is ours:
        return "1"
    low, middle, high = row.ratio_to(ours)
    return f"{middle:.2f} [{low:.2f}–{high:.2f}]"


def exactly(row: Row, case: Case) -> str:
    """A row's exactness, marked where it is below the floor."""
    mark = " †" if row.exact < floor_of(case) else ""
    return f"{row.exact:.6f}{mark}" if case.model in ENCODERS else f"{-row.exact:.1e}{mark}"


def milliseconds(seconds: float) -> str:
    """Three digits at least."""
    ms = seconds * 1e3
    return f"{ms:.4f}" if ms < 0.1 else f"{ms:.3f}" if ms < 10 else f"{ms:.1f}"


def times(ratio: float | None) -> str:
    """`1.23×`, or a dash."""
    return "–" if ratio is None else f"{ratio:.2f}×"
