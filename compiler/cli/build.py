"""`infc build`: a spec to a bundle, with each target beside its measured value."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import Exit, InfcError
from .options import add_sandbox, command_parser, settings_of
from .output import Ui, format_bytes, format_table, print_json, render

MOST_NAMES = 3
"""Layers of one kind that are named."""

DESCRIPTION = """Compile a spec into a bundle, measure its targets on this machine, and write it.
Measured values are not proved: the exit code is 4 where targets are declared (0 with --allow-unproved), 3 where one is
missed (and then there is no bundle)."""


def run(argv: Sequence[str]) -> int:
    """Raises InfcError."""
    parser = command_parser("build", DESCRIPTION)
    parser.add_argument("spec", type=Path, help="the .infer file")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="the bundle; default: the spec's stem + .bundle"
    )
    parser.add_argument("--profile", help="a profile of the spec")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="replace one value of the spec")
    parser.add_argument("--use", metavar="MACHINE", help="replace the hardware block")
    parser.add_argument("--allow-path", action="append", default=[], metavar="DIR", help="paths may lead there too")
    parser.add_argument("--locked", action="store_true", help="refuse other inputs or tools than the lock's")
    parser.add_argument(
        "--allow-unproved", action="store_true", help="exit 0 where targets are measured but not proved"
    )
    parser.add_argument("--emit", metavar="STAGE", help="print a stage and end: ast, spec, mlir, graph, plan, source")
    parser.add_argument(
        "-p", "--passes", metavar="PASSES", help='run these passes instead: "canonicalize,fuse{qkv=false}"'
    )
    parser.add_argument(
        "--tune", metavar="SECONDS", help="measure kernels that no table has, at most so long; kept in the cache"
    )
    add_sandbox(parser)
    parser.add_argument("-j", "--jobs", type=int, metavar="N", help="compilers at a time")
    args = parser.parse_args(argv)
    settings, ui = settings_of(args), Ui.from_args(args)
    if args.locked and args.tune is not None and settings.tune > 0:
        raise InfcError("--locked takes the lock's choices, and --tune measures new ones", hint="give one of them")
    from ..cache import Cache
    from ..driver import Request, emit

    request = Request(
        spec=args.spec,
        output=args.output,
        profile=args.profile,
        sets=tuple(args.set),
        use=args.use,
        allow_paths=tuple(args.allow_path),
        locked=args.locked,
        tune=settings.tune,
        passes=args.passes,
        cache=Cache(settings.cache_dir, settings.cache_limit),
        dump=settings.dump,
        require_sandbox=settings.require_sandbox,
        import_memory=settings.import_memory,
        import_seconds=settings.import_seconds,
        notice=ui.warn,
        warn=lambda d: print_warning(d, ui),
        **({"jobs": args.jobs} if args.jobs else {}),
    )
    if args.emit is not None:
        print(emit(request, args.emit), end="")
        return Exit.OK
    from dataclasses import replace

    from ..build import Missed, build

    try:
        with ui.progress("build") as step:
            outcome = build(replace(request, report=step))
    except Missed as missed:
        if not args.json:
            print_targets(missed.measured)
        raise
    code = Exit.OK if args.allow_unproved and outcome.exit_code == Exit.UNPROVED else outcome.exit_code
    if args.json:
        document = {
            "bundle": str(outcome.bundle),
            "digest": outcome.digest,
            "reused": outcome.reused,
            "targets": [m.as_json() for m in outcome.measured],
            "report": outcome.report,
        }
        print_json("infc.build/1", code, document)
        return code
    print_targets(outcome.measured)
    size = sum(outcome.report["bytes"].values())
    print(f"{outcome.bundle}  model and weights {format_bytes(size)}  digest {outcome.digest[:12]}")
    tuned = tuned_line(outcome.report, reused=outcome.reused, asked=settings.tune > 0)
    for line in [*summary(outcome.report), *tuned]:
        print(line)
    if not outcome.measured:
        ui.status("nothing was promised: the spec has no targets")
    return code


def print_warning(diagnostic: object, ui: Ui) -> None:
    """A warning of the spec, on stderr."""
    from ...dsl.diagnostics import Diagnostic

    assert isinstance(diagnostic, Diagnostic)
    print(render([diagnostic], color=ui.color), file=sys.stderr)


def print_targets(measured: Sequence[object]) -> None:
    """The table of targets on stdout."""
    from ..measure.result import Measured
    from ..measure.table import table

    rows = table([m for m in measured if isinstance(m, Measured)])
    if rows:
        print(format_table(rows, header=("target", "measured", "", "how")))
        print("measured on this machine, not proved")


def layer_lines(layers: Sequence[Mapping[str, str]], wanted: str) -> list[str]:
    """How many layers are in the precision asked for, and the others by precision and reason."""
    if not layers:
        return []
    others: dict[tuple[str, str], list[str]] = {}
    for layer in layers:
        if layer["precision"] != wanted:
            others.setdefault((layer["precision"], layer["reason"]), []).append(layer["layer"])
    count = len(layers) - sum(len(names) for names in others.values())
    lines = [f"{count} of {len(layers)} layers in {wanted}"]
    for (precision, reason), names in others.items():
        shown = (
            ", ".join(names)
            if len(names) <= MOST_NAMES
            else f"{', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} more"
        )
        lines.append(f"{precision}: {shown}{f' ({reason})' if reason else ''}")
    return lines


def tuned_line(report: Mapping[str, Any], *, reused: bool, asked: bool) -> list[str]:
    """From where the choices for kernels are, and with `asked` how many the time was too short for; nothing where no table
    had a word and nothing was measured."""
    tuning = report["tuning"]
    measured = 0 if reused else tuning["measured"]
    known = tuning["known"] + tuning["measured"] - measured
    left = tuning["missing"] if asked else 0
    if not known and not measured and not left:
        return []
    more = f", {left} left: the time was too short" if left else ""
    other = len(tuning["choices"])
    return [f"tuned: {known} shapes from the table, {measured} measured now{more}; {other} not as usual"]


def summary(report: Mapping[str, Any]) -> list[str]:
    """Kernels by op and provider with their share of the time; islands; what keeps requests from being merged."""
    rows: list[tuple[str, str, str, str]] = []
    for row in report["ops"]:
        share = "" if row["share"] is None else f"{100 * row['share']:.1f} %"
        rows.append((row["op"], str(row["steps"]), row["provider"], share))
    lines = format_table(rows, header=("op", "steps", "kernel", "time")).splitlines()
    lines += layer_lines(report["layers"], report["precision"])
    lines += [f"island of {len(island['steps'])} steps: {island['why']}" for island in report["islands"]]
    if not report["batchable"]:
        lines.append(f"requests are never merged: {report['batchable_reason']}")
    return lines + [f"note: {note}" for note in report["notes"]]
