"""docs/benchmarks.md: what was measured, in one run at one commit. Nobody edits its numbers by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from .cases import flops
from .interleave import Plan, Result, Row

FLOOR = 0.9999
OURS = "infc"


@dataclass(frozen=True, slots=True)
class Setting:
    """A line of the table of settings."""

    name: str
    version: str
    settings: str


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that the page says."""

    results: Sequence[Result]
    settings: Sequence[Setting]
    plan: Plan
    machine: str
    threads: int
    commit: str
    date: str
    profiles: dict[str, str]
    load: float


def render(run: Run) -> str:
    """The page, Markdown."""
    peaks = [p for r in run.results for p in r.peaks]
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; do not edit. MiniLM-L6 (all-MiniLM-L6-v2, real weights, float32) with mean pooling and",
        f"normalization, nothing padded, {run.threads} threads on the same {run.threads} CPUs for everyone.",
        "",
        f"* Machine: {run.machine}; float32 multiply-add peak of {run.threads} threads, measured between the blocks:",
        f"  median {median(peaks):.0f} GFLOP/s ({min(peaks):.0f} to {max(peaks):.0f}).",
        f"* Commit {run.commit}, {run.date}; the load average before the run was {run.load:.1f} (other programs' work).",
        f"* {run.plan.rounds} rounds; in each, every peer runs a block of at least {run.plan.block_s * 1e3:.0f} ms and",
        f"  {run.plan.least} calls, after a pause of {run.plan.pause_s * 1e3:.0f} ms; the order turns by one a round.",
        "* `× infc` is the peer's time over infc's, block median by block median, over the rounds: median, and quartiles in",
        "  brackets; above 1 the peer is slower. `of peak` counts the matrix products' arithmetic only, at the least time.",
        f"* `cosine` is the least of any row against float32 torch; below {FLOOR} a row does not count.",
        "* Machines like this one are shared and noisy: trust the ratios, not the milliseconds.",
        "",
        "![time of each peer over infc's](benchmarks.svg)",
        "",
        "## Results",
    ]
    for result in run.results:
        lines += ["", f"### {result.case.title}", "", *_table(result), "", verdict(result)]
    lines += ["", "## Settings", "", "| peer | version | how it was set up |", "| --- | --- | --- |"]
    lines += [f"| {s.name} | {s.version} | {s.settings} |" for s in run.settings]
    notes = [f"* {r.case.name}, {row.name}: {row.note}" for r in run.results for row in r.rows if row.note]
    if notes:
        lines += ["", "What each was asked to choose, and chose:", "", *notes]
    for name, text in run.profiles.items():
        lines += ["", f"## Where infc's time goes, {name}", "", "```", text, "```"]
    return "\n".join(lines) + "\n"


def _table(result: Result) -> list[str]:
    ours = next((r for r in result.rows if r.name == OURS and not r.failure), None)
    lines = [
        "| peer | least ms | median ms | × infc | of peak | cosine |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in result.rows:
        if row.failure:
            lines.append(f"| {row.name} | – | – | – | – | {row.failure.replace('|', '/')} |")
            continue
        ratio = "–"
        if ours is not None:
            low, middle, high = row.ratio_to(ours)
            ratio = f"{middle:.2f} [{low:.2f}–{high:.2f}]" if row is not ours else "1"
        share = 1e-9 * flops(result.case) / row.least / median(result.peaks)
        lines.append(
            f"| {row.name} | {row.least * 1e3:.2f} | {row.median * 1e3:.2f} | {ratio} | {share:.0%} | {row.cosine:.6f} |"
        )
    return lines


def verdict(result: Result) -> str:
    """One sentence: infc against the best peer that is accurate enough, or why there is no answer."""
    ours = next((r for r in result.rows if r.name == OURS), None)
    if ours is None or ours.failure:
        return "infc did not run: this row is open."
    if ours.cosine < FLOOR:
        return f"infc's cosine is {ours.cosine:.6f}, below {FLOOR}: this row does not count."
    peers = [r for r in result.rows if r is not ours and not r.failure and r.cosine >= FLOOR]
    missing = [r.name for r in result.rows if r is not ours and r not in peers]
    if not peers:
        return "No peer ran: this row is open."
    best = min(peers, key=lambda r: r.ratio_to(ours)[1])
    text = f"infc runs at {best.ratio_to(ours)[1]:.2f}× the speed of the best peer, {best.name}."
    return text + (f" The row stays open: {', '.join(missing)} did not run." if missing else "")


def speed_against_best(result: Result) -> float | None:
    """Best peer's time over infc's (above 1: infc is faster); None where either is missing."""
    ours = next((r for r in result.rows if r.name == OURS and not r.failure), None)
    peers: list[Row] = [r for r in result.rows if r.name != OURS and not r.failure and r.cosine >= FLOOR]
    if ours is None or not peers:
        return None
    return min(r.ratio_to(ours)[1] for r in peers)
