"""docs/benchmarks.json: the run as data, for whoever quotes a number (the README does)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from .cases import FLOOR, OURS, floor_of
from .interleave import Row
from .report import OTHER_WAYS, PADDED_WAYS, Run, share_of_peak, summaries
from .start import Started
from .suites import Profiled, StreamResult
from .verdict import Verdict, judge


def document(run: Run) -> dict[str, Any]:
    """Plain data, rounded to what is meaningful."""
    return rounded(
        {
            "machine": run.machine,
            "threads": run.threads,
            "commit": run.commit,
            "date": run.date,
            "load_before": run.load,
            "minutes": run.minutes,
            "readme": readme_lines(run),
            "limits": {str(threads): limits for threads, limits in run.limits.items()},
            "summary": [
                {"suite": suite, "precision": precision, **asdict(summary)}
                for (suite, precision), summary in summaries(run.results).items()
            ],
            "cases": [
                {
                    "case": result.case.name,
                    "peak": median(result.peaks),
                    "verdict": asdict(judge(result.rows, floor_of(result.case))),
                    "rows": [
                        _row(row, result.rows, share_of_peak(result, row) if not row.failure else None)
                        for row in result.rows
                    ],
                }
                for result in run.results
            ],
            "streams": [_stream(result) for result in run.streams],
            "start": [_start(row) for row in run.starts],
            "profiles": [_profile(profiled) for profiled in run.profiles],
            "settings": [asdict(setting) for setting in run.settings],
        }
    )


def readme_lines(run: Run) -> list[str]:
    """What a README may say of a run, a fact a line."""
    lines: list[str] = []
    for (suite, precision), s in summaries(run.results).items():
        if s.mean is None or s.least is None:
            lines.append(f"{suite}, {precision}: no ratio ({s.open} of {s.rows} cases open)")
            continue
        rest = "" if s.beside is None else f", {s.beside:.2f}× onnxruntime's"
        still = f"; {s.open} of {s.rows} cases open" if s.open else ""
        lines.append(f"{suite}, {precision}: {s.mean:.2f}× the best peer's speed (least {s.least:.2f}×){rest}{still}")
    for result in run.streams:
        for title, ways in (("padded", PADDED_WAYS), ("sorted or bucketed", OTHER_WAYS)):
            v: Verdict = judge(result.rows, FLOOR[result.precision], ways)
            said = (
                f"{v.ratio:.2f}× the best {title} peer's speed"
                if v.ratio is not None
                else f"open against {title} peers"
            )
            lines.append(f"stream, {result.precision}: {said}{f' ({v.open})' if v.open else ''}")
    for row in run.starts:
        if row.seconds and not row.failure:
            size = f"{row.resident / 2**20:.0f} MiB resident, {row.size / 2**20:.0f} MiB on disk"
            lines.append(f"start, {row.precision}: {row.name} answers after {row.median * 1e3:.0f} ms, {size}")
    return lines


def _row(row: Row, rows: Sequence[Row], share: float | None) -> dict[str, Any]:
    if row.failure:
        return {"name": row.name, "failure": row.failure}
    ours = next((r for r in rows if r.name == OURS and not r.failure), None)
    return {
        "name": row.name,
        "least_ms": row.least * 1e3,
        "median_ms": row.median * 1e3,
        "over_infc": list(row.ratio_to(ours)) if ours else None,
        "of_peak": share,
        "exact": row.exact,
        "note": row.note,
        "isa": row.isa,
    }


def _stream(result: StreamResult) -> dict[str, Any]:
    floor = FLOOR[result.precision]
    return {
        "precision": result.precision,
        "padded": asdict(judge(result.rows, floor, PADDED_WAYS)),
        "sorted_or_bucketed": asdict(judge(result.rows, floor, OTHER_WAYS)),
        "rows": [_row(row, result.rows, None) for row in result.rows],
        "exactness": [asdict(e) for e in result.exactness],
    }


def _start(row: Started) -> dict[str, Any]:
    if row.failure or not row.seconds:
        return {"name": row.name, "precision": row.precision, "failure": row.failure}
    return {
        "name": row.name,
        "precision": row.precision,
        "least_ms": row.least * 1e3,
        "median_ms": row.median * 1e3,
        "resident_bytes": row.resident,
        "bytes": row.size,
        "exact": row.exact,
    }


def _profile(profiled: Profiled) -> dict[str, Any]:
    kinds = [
        {
            "name": kind.name,
            "op": kind.op,
            "provider": kind.provider,
            "steps": kind.steps,
            "ms": kind.seconds * 1e3,
            "of_peak": 1e-9 * kind.flops / kind.seconds / profiled.peak if kind.flops and kind.seconds else None,
        }
        for kind in profiled.kinds
    ]
    return {"case": profiled.case.name, "peak": profiled.peak, "kinds": kinds}


def rounded(value: Any) -> Any:
    """The same with seven digits a float."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value
