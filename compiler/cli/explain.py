"""`infc explain`: a diagnostic's code, or a bundle: what it is made of, per op its provider and its share of the time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Exit, InfcError
from .options import command_parser
from .output import format_table, print_json

if TYPE_CHECKING:
    from ...runtime import Model
    from ..report.profile import Kind

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
    args = parser.parse_args(argv)
    if args.what is None or not (os.sep in args.what or Path(args.what).is_dir()):
        from .language import run_explain_code

        return run_explain_code([a for a in argv if a == "--json" or a == args.what])
    return _explain_bundle(Path(args.what), args.model, args.rows, args.length, args.threads, json=args.json)


def _explain_bundle(bundle: Path, name: str | None, rows: int, length: int, threads: int, *, json: bool) -> int:
    from ...runtime import InferError, load
    from ..bundle.manifest import read_manifest
    from ..report.profile import example_inputs, profile

    read_manifest(bundle)
    try:
        with load(bundle, threads=threads, model=name) as model:
            sizes = {key: size for key, size in _sizes(model, rows, length).items() if key}
            kinds = profile(model, example_inputs(model, sizes))
            document = _document(model, kinds, sizes, threads)
    except ValueError as error:
        raise InfcError(str(error)) from None
    except InferError as error:
        code = Exit.MISSING if error.code == CODE_CPU else Exit.USAGE
        raise InfcError(f"{bundle} cannot be run here: {error.message}", exit_code=code) from None
    if json:
        print_json("infc.explain/1", Exit.OK, document)
        return Exit.OK
    at = ", ".join(f"{key} {size}" for key, size in sizes.items())
    print(f"{document['name']} for {document['isa']}, {at}, {threads} threads")
    print(f"requests are {'' if document['batchable'] else 'never '}merged into batches")
    print()
    table = [(k.op, k.provider, str(k.steps), str(k.rows), f"{k.seconds * 1e3:.3f}", f"{k.share:.1%}") for k in kinds]
    print(format_table(table, header=("op", "provider", "steps", "rows", "ms", "share")))
    islands = [s["name"] for s in model.description["steps"] if s["island"]]
    if islands:
        print(f"\nislands (run row by row, each at its exact length): {', '.join(islands)}")
    return Exit.OK


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
