"""`infc bench`: load on a bundle's own server; latencies with their intervals, what disturbed them, and a plot."""

from __future__ import annotations

import math
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Exit, InfcError
from .options import SECONDS, command_parser, positive
from .output import Ui, format_bytes, format_table, plain, print_json
from .plot import drawable, histogram, plot_width

if TYPE_CHECKING:
    from ..bundle.manifest import Manifest
    from ..proof.document import Run

QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999))
CONFIDENCE = 0.95
BLOCKS = 10
"""Starts of the server that the time is divided into; intervals need eight."""
WARMUP_S, START_S = 0.3, 0.3
"""What comes on top of a block's measured seconds: load that is not recorded, and a start and a stop, about."""
LEAST_BLOCK_S = 0.1
RATE = positive(1e6, "requests a second, above 0 and up to a million")

DESCRIPTION = """Load on a bundle's own server, on this machine: latencies with intervals at 95 %, what was answered a second, errors,
memory, what disturbed the measurement, and the distribution. Nothing is judged or kept; `infc verify` holds the claims of a
bundle against this machine. Without --rate and --closed the bundle's declared rate is sent, or one request at a time."""


def run(argv: Sequence[str]) -> int:
    """Raises InfcError: exit 2 for what is no bundle, 6 where this machine cannot run it, 7 where it is damaged."""
    parser = command_parser("bench", DESCRIPTION)
    parser.add_argument("bundle", type=Path, help="the bundle's folder")
    load = parser.add_mutually_exclusive_group()
    load.add_argument("--rate", type=RATE, metavar="R", help="requests a second, sent whether answers come or not")
    load.add_argument(
        "--closed", type=connections, metavar="N", help="N connections, each sends when its last answer came"
    )
    parser.add_argument("--items", type=items, metavar="LO..HI", help="rows of a request, evenly (default 1..1)")
    parser.add_argument("--duration", type=SECONDS, default=10.0, metavar="S", help="seconds in all (default 10)")
    args = parser.parse_args(argv)
    ui = Ui.from_args(args)
    from ..bundle.manifest import read_manifest

    manifest = read_manifest(args.bundle)
    blocks, length = plan(args.duration)
    with ui.progress("bench") as step:
        step(f"{blocks} blocks of {length:.2g} s")
        found = _measure(args, manifest, blocks, length)
    document = summary(found)
    if args.json:
        print_json("infc.bench/1", Exit.OK, {"bundle": str(args.bundle), **document})
    else:
        _print(found, document)
    return Exit.OK


def connections(text: str) -> int:
    """A number of connections, for argparse."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= 1024):
        raise ArgumentTypeError(f"expected a number of connections, 1 to 1024, not {text!r}")
    return int(text)


def items(text: str) -> str:
    """`1..16` or `4`, for argparse."""
    low, dots, high = text.partition("..")
    high = high if dots else low
    parts = [int(part) if part.isascii() and part.isdigit() and len(part) < 10 else 0 for part in (low, high)]
    if not 1 <= parts[0] <= parts[1]:
        raise ArgumentTypeError(f"expected rows of a request, as in 1..16, not {text!r}")
    return f"{parts[0]}..{parts[1]}"


def plan(duration: float) -> tuple[int, float]:
    """How many blocks take about `duration` seconds, and the measured seconds of each."""
    return BLOCKS, max(LEAST_BLOCK_S, duration / BLOCKS - WARMUP_S - START_S)


def _measure(args: Namespace, manifest: Manifest, blocks: int, length: float) -> Run:
    from ..proof.ask import ask_serve
    from ..proof.document import read_run

    asked = ["--blocks", str(blocks), "--block-seconds", f"{length:.6g}", "--warmup", str(WARMUP_S)]
    asked += [] if args.rate is None else ["--rate", f"{args.rate:.17g}"]
    asked += [] if args.closed is None else ["--closed", str(args.closed)]
    asked += [] if args.items is None else ["--items", args.items]
    try:
        text = ask_serve(args.bundle, manifest, asked)
    except InfcError as error:
        if "--block" in error.message:
            raise InfcError(
                f"{args.bundle} was built by an older infc, whose server measures otherwise", hint="build it again"
            ) from None
        raise
    return read_run(text.encode(), "what serve prove wrote")


def summary(run: Run) -> dict[str, Any]:
    """What a run says: seconds, requests a second, bytes. Infinite and unknown numbers are None."""
    from ..proof.noise import clean
    from ..proof.rejudge import load_said
    from ..statistics.means import mean
    from ..statistics.order import percentile

    side = (1 - CONFIDENCE) / 2
    latencies = [block.latencies for block in run.blocks if block.sent]
    rows: list[dict[str, Any]] = []
    for name, q in QUANTILES:
        found = percentile(latencies, q, side, side)
        low = found.low if found.low > 0 else None
        rows.append({"statistic": name, "value": _number(found.value), "low": low, "high": _number(found.high)})
    longest = max((float(part.max()) for part in latencies), default=math.nan)
    rows.append({"statistic": "max", "value": _number(longest), "low": None, "high": None})
    answered = mean([block.ok / block.elapsed_s for block in run.blocks], side, side)
    by_row = mean([block.rows / block.elapsed_s for block in run.blocks], side, side)
    errors: dict[str, int] = {}
    for block in run.blocks:
        for status, count in block.errors.items():
            errors[status] = errors.get(status, 0) + count
    return {
        "load": str(load_said(run.load)),
        "blocks": len(run.blocks),
        "block_s": run.block_s,
        "confidence": CONFIDENCE,
        "sent": sum(block.sent for block in run.blocks),
        "ok": sum(block.ok for block in run.blocks),
        "errors": errors,
        "latency_s": rows,
        "requests_per_s": _interval(answered.value, answered.low, answered.high),
        "rows_per_s": _interval(by_row.value, by_row.low, by_row.high),
        "peak_rss_bytes": _most([block.peak_rss_bytes for block in run.blocks]),
        "lag_p99_s": _most([block.lag_p99_s for block in run.blocks]),
        "steal": _most([block.steal for block in run.blocks]),
        "foreign": _most([block.foreign for block in run.blocks]),
        "pressure": _most([block.pressure for block in run.blocks]),
        "server_cpu": _most([block.server_cpu for block in run.blocks]),
        "generator_cpu": _most([block.generator_cpu for block in run.blocks]),
        "shared": run.placement.shared,
        "void": clean(run, None).void,
        "machine": str(run.fingerprint.get("model_name") or ""),
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _interval(value: float, low: float, high: float) -> dict[str, float | None]:
    return {"value": _number(value), "low": _number(max(low, 0.0)), "high": _number(high)}


def _most(values: Sequence[float | None]) -> float | None:
    """The largest; None where any cannot be read."""
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None


def _print(run: Run, said: dict[str, Any]) -> None:
    lines = [
        f"{said['sent']:,} requests: {said['load']}, {said['blocks']} blocks of {said['block_s']:.2g} s on {said['machine']}",
        format_table([_latency_row(row) for row in said["latency_s"]], header=("latency", "value", "low", "high")),
        "",
        *_facts(said),
    ]
    if said["void"]:
        lines.append(f"warning: these times say little: {said['void']}")
    answered = [float(x) for block in run.blocks for x in block.latencies if math.isfinite(float(x))]
    if answered:
        marks = {row["statistic"]: row["value"] for row in said["latency_s"] if row["value"] is not None}
        lines += ["", *histogram(answered, marks, plot_width(), time_text)]
    print(drawable(plain("\n".join(lines)), sys.stdout))


def _latency_row(row: dict[str, Any]) -> tuple[str, str, str, str]:
    unknown = "" if row["statistic"] == "max" else "?"
    value = time_text(row["value"]) if row["value"] is not None else "no answer"
    low, high = (time_text(row[end]) if row[end] is not None else unknown for end in ("low", "high"))
    return row["statistic"], value, low, high


def _facts(said: dict[str, Any]) -> list[str]:
    answered = said["requests_per_s"]
    rate_said = f"answered {said['ok']:,} of {said['sent']:,}, {_rate(answered)} a second"
    if said["rows_per_s"]["value"] != answered["value"]:
        rate_said += f", {_rate(said['rows_per_s'])} rows a second"
    facts = [rate_said]
    if said["errors"]:
        named = {"0": "no answer"}
        facts.append("errors   " + ", ".join(f"{named.get(s, s)}: {n:,}" for s, n in sorted(said["errors"].items())))
    memory = said["peak_rss_bytes"]
    facts.append(f"memory   {'unknown' if memory is None else format_bytes(memory)} at most")
    lag = said["lag_p99_s"]
    noise = [f"lag of the load {'unknown' if lag is None else time_text(lag)} (p99)"]
    for name, text in (("steal", "steal"), ("foreign", "other programs"), ("pressure", "pressure")):
        noise.append(f"{text} {'unknown' if said[name] is None else f'{said[name]:.1%}'}")
    if said["shared"]:
        noise.append(f"the load shares the server's cores and takes {said['generator_cpu'] or 0:.0%} of one")
    facts.append(f"noise    {', '.join(noise)}; the worst block of each")
    return facts


def _rate(found: dict[str, float | None]) -> str:
    value, low, high = found["value"], found["low"], found["high"]
    if value is None:
        return "unknown"
    return _count(value) if low is None or high is None else f"{_count(value)} ({_count(low)}..{_count(high)})"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def time_text(value: float) -> str:
    """`3.21 ms`."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"
