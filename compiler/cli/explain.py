"""`infc explain`: a diagnostic's code, or a bundle: what it is made of, per op its provider and its share of the time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Exit, InfcError
from .options import command_parser
from .output import format_table, print_json

if TYPE_CHECKING:
    from ...runtime import Model
    from ..report.profile import Kind, StepTime

CODE_CPU = 10
"""INFC_CODE_CPU of the ABI: this CPU lacks a feature that the code needs."""

DESCRIPTION = """Explain the code of an error or warning (E0203), or a bundle (its folder): what it holds, and per op who
provided its kernel, how many rows it computes and what share of the time it takes on this machine.
Without either, all codes are listed."""


def run(argv: Sequence[str]) -> int:
    """Raises InfcError (exit 2) for what is neither a code nor a bundle, 6 where this machine cannot run the bundle."""
    parser = command_parser("explain", DESCRIPTION)
    parser.add_argument("what", nargs="?", metavar="CODE|BUNDLE")
    parser.add_argument("--model", help="the model, where the bundle has several")
    parser.add_argument("--rows", type=int, default=1, help="rows of the request that is timed (default 1)")
    parser.add_argument(
        "--length", type=int, default=64, help="tokens of each row, where rows have a length (default 64)"
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads (default: all CPUs)")
    parser.add_argument(
        "--time", action="store_true", help="each step's time, and its share of what this machine could do at most"
    )
    args = parser.parse_args(argv)
    if args.what is None or not (os.sep in args.what or Path(args.what).is_dir()):
        from .language import run_explain_code

        return run_explain_code([a for a in argv if a == "--json" or a == args.what])
    return _explain_bundle(
        Path(args.what), args.model, args.rows, args.length, args.threads, json=args.json, time=args.time
    )


def _explain_bundle(
    bundle: Path, name: str | None, rows: int, length: int, threads: int, *, json: bool, time: bool
) -> int:
    from ...runtime import InferError, load
    from ..bundle.manifest import read_manifest
    from ..report.profile import example_inputs, kinds_of, step_times

    read_manifest(bundle)
    try:
        with load(bundle, threads=threads, model=name) as model:
            sizes = {key: size for key, size in _sizes(model, rows, length).items() if key}
            steps = step_times(model, example_inputs(model, sizes))
            kinds = kinds_of(steps)
            document = _document(model, kinds, sizes, threads)
            timed = _timed(model, steps, sizes, threads) if time else None
    except ValueError as error:
        raise InfcError(str(error)) from None
    except InferError as error:
        code = Exit.MISSING if error.code == CODE_CPU else Exit.USAGE
        raise InfcError(f"{bundle} cannot be run here: {error.message}", exit_code=code) from None
    if json:
        print_json("infc.explain/1", Exit.OK, document | ({"time": timed} if timed else {}))
        return Exit.OK
    at = ", ".join(f"{key} {size}" for key, size in sizes.items())
    print(f"{document['name']} for {document['isa']}, {at}, {threads} threads")
    print(f"requests are {'' if document['batchable'] else 'never '}merged into batches")
    print()
    table = [(k.op, k.provider, str(k.steps), str(k.rows), f"{k.seconds * 1e3:.3f}", f"{k.share:.1%}") for k in kinds]
    print(format_table(table, header=("op", "provider", "steps", "rows", "ms", "share")))
    if timed:
        print_timed(timed)
    islands = [s["name"] for s in model.description["steps"] if s["island"]]
    if islands:
        print(f"\nislands (run row by row, each at its exact length): {', '.join(islands)}")
    return Exit.OK


def _timed(model: Model, steps: Sequence[StepTime], sizes: dict[str, int], threads: int) -> dict[str, Any]:
    """Every step beside its bound, the machine's limits, and the share that the linear steps reach of their peak."""
    from ..report.limits import bounds_of, share_of_products
    from ..target import discover

    isa = model.description["isa"]
    target = next((t for t in discover().values() if any(v.name == isa for v in t.variants())), None)
    if target is None:
        raise InfcError(f"no target here knows {isa}, and so nothing knows its limits", exit_code=Exit.MISSING)
    with tempfile.TemporaryDirectory(prefix="infc-") as folder:
        limits = target.limits(isa, threads, Path(folder))
    bounds = bounds_of(model.description["steps"], sizes, limits, target.caches())
    rows = [
        {
            "name": s.name,
            "op": s.op,
            "rows": s.rows,
            "seconds": s.seconds,
            "least": b.seconds,
            "bound": b.by,
            "ops": b.ops,
        }
        for s, b in zip(steps, bounds, strict=True)
    ]
    share = share_of_products(steps, bounds, limits)
    return {"ops": dict(limits.ops), "read": dict(limits.read), "steps": rows, "linear_share_of_peak": share}


def print_timed(timed: Mapping[str, Any]) -> None:
    """The steps beside their bounds, as a table."""
    table = [
        (
            str(number), step["name"], step["op"], str(step["rows"]), f"{step['seconds'] * 1e6:.1f}",
            f"{step['least'] / step['seconds']:.0%}" if step["seconds"] else "", step["bound"],
        )
        for number, step in enumerate(timed["steps"])
    ]  # fmt: skip
    print()
    print(format_table(table, header=("step", "name", "op", "rows", "us", "of limit", "bound by")))
    rates = [f"{name} {rate / 1e9:.0f} GOP/s" for name, rate in timed["ops"].items()]
    rates += [f"{name} {rate / 1e9:.0f} GB/s" for name, rate in timed["read"].items()]
    print(f"\nlimits of this machine, measured now: {', '.join(rates)}")
    if timed["linear_share_of_peak"]:
        print(f"linear steps bound by arithmetic reach {timed['linear_share_of_peak']:.0%} of their peak")


def _sizes(model: Model, rows: int, length: int) -> dict[str, int]:
    """Extents of the batch and the length, the length cut to what the model takes."""
    batch, tokens = model.description["batch_dim"], model.description["length_dim"]
    sizes = {str(batch): rows} if batch else {}
    if tokens:
        sizes[str(tokens)] = min(length, model.description["dims"].get(tokens, [0, length])[1])
    return sizes


def _document(model: Model, kinds: Sequence[Kind], sizes: dict[str, int], threads: int) -> dict[str, object]:
    d = model.description
    rows = [
        {"op": k.op, "provider": k.provider, "steps": k.steps, "rows": k.rows, "seconds": k.seconds, "share": k.share}
        for k in kinds
    ]
    return {
        "name": d["name"],
        "isa": d["isa"],
        "batchable": d["batchable"],
        "sizes": sizes,
        "threads": threads,
        "kinds": rows,
        "islands": [s["name"] for s in d["steps"] if s["island"]],
    }
