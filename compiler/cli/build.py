"""`infc build`: a spec to a bundle, with each target beside its measured value."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Exit, InfcError
from .options import add_sandbox, command_parser, settings_of
from .output import Ui, format_bytes, format_table, print_failure, print_json, render

if TYPE_CHECKING:
    from ..build import Outcome
    from ..driver import Request
    from ..proof.verdict import Verdict

MOST_NAMES = 3
"""Layers of one kind that are named."""

DESCRIPTION = """Compile a spec into a bundle, prove its targets on this machine, and write it.
The exit code is 0 where every target is met, 5 where it is worse than --baseline, 3 where one is missed (there is no bundle then; what was built is in
NAME.failed), and 4 where one is not proved: the bundle is whole, and the answer says what would prove it."""

FORMATS = ("text", "github", "sarif")
ALLOW = "--allow-unproved"
KINDS = ("latency", "throughput", "accuracy", "cost", "memory", "cold_start", "bundle_size")


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
        ALLOW, metavar="KINDS", help="exit 0 where nothing else than targets (of these kinds) is not proved"
    )
    parser.add_argument("--emit", metavar="STAGE", help="print a stage and end: ast, spec, mlir, graph, plan, source")
    parser.add_argument(
        "-p", "--passes", metavar="PASSES", help='run these passes instead: "canonicalize,fuse{qkv=false}"'
    )
    parser.add_argument(
        "--tune", metavar="SECONDS", help="measure kernels that no table has, at most so long; kept in the cache"
    )
    parser.add_argument(
        "--summary", type=Path, metavar="FILE", help="write the verdicts as Markdown, for a pull request"
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="text", help="targets that are not met as annotations at the spec's lines"
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="BUNDLE",
        help="compare with another bundle on this machine; exit 5 where the new one is worse",
    )
    parser.add_argument("--margin", metavar="SHARE", help="by how much it may be worse: 2%% unless given")
    add_sandbox(parser)
    parser.add_argument("-j", "--jobs", type=int, metavar="N", help="compilers at a time")
    args = parser.parse_args(joined(argv))
    allowed = allowed_kinds(args.allow_unproved)
    settings, ui = settings_of(args), Ui.from_args(args)
    if args.json and args.format != "text":
        raise InfcError("--json and --format each print one document", hint="give one of them")
    if args.locked and args.tune is not None and settings.tune > 0:
        raise InfcError("--locked takes the lock's choices, and --tune measures new ones", hint="give one of them")
    if args.margin is not None and args.baseline is None:
        raise InfcError("--margin is of a comparison", hint="give --baseline BUNDLE too")
    from ..cache import Cache
    from ..driver import Request, emit
    from ..proof.comparison import MARGIN, margin_of

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
        baseline=args.baseline,
        margin=MARGIN if args.margin is None else margin_of(args.margin),
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
    from ..build import Missed, build

    with ui.progress("build") as step:
        outcome = build(replace(request, report=step))
    code = outcome.ends_with(allowed)
    if args.summary is not None:
        write_summary(args.summary, args.spec, outcome, allowed)
    if args.format != "text":
        print_annotations(request, outcome, args.format)
    elif args.json:
        print_json("infc.build/2", code, {**json_document(outcome, allowed), **baseline_document(request, outcome)})
    else:
        print_outcome(outcome, allowed)
        print_comparisons(outcome)
        size = sum(outcome.report["bytes"].values())
        print(f"{outcome.bundle}  model and weights {format_bytes(size)}  digest {outcome.digest[:12]}")
        tuned = tuned_line(outcome.report, reused=outcome.reused, asked=settings.tune > 0)
        for line in [*summary(outcome.report), *tuned]:
            print(line)
        if not outcome.verdicts:
            ui.status("nothing was promised: the spec has no targets")
    if code == Exit.UNMET:
        print_failure(Missed(outcome), json=False, color=settings.color, file=sys.stderr)
    return code


def write_summary(path: Path, spec: Path, outcome: Outcome, allowed: frozenset[str]) -> None:
    """--summary FILE. Raises InfcError (exit 6) where the disk refuses."""
    from ..bundle.write import cannot_write
    from ..proof.comparison import markdown
    from ..report.summary import summary_markdown

    text = summary_markdown(spec.name, outcome.digest, outcome.verdicts, outcome.report, allowed)
    if outcome.comparisons:
        text += f"\n{markdown(outcome.comparisons)}"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error


def print_annotations(request: Request, outcome: Outcome, form: str) -> None:
    """--format github or sarif: what is missed or not proved, at the lines of the spec."""
    from importlib import import_module

    from ...dsl.machine import to_github, to_sarif
    from ..driver import check_spec
    from ..proof.annotate import diagnostics_of

    found = diagnostics_of(check_spec(replace(request, warn=_unsaid)), outcome.verdicts)
    if form == "github":
        print(to_github(found), end="")
    else:
        print(json.dumps(to_sarif(found, import_module("infc").__version__), indent=1, ensure_ascii=False))


def _unsaid(_: object) -> None:
    """A warning that was said before."""


def joined(argv: Sequence[str]) -> list[str]:
    """argv with the kinds of `--allow-unproved` behind an equals sign; without kinds it allows all."""
    out: list[str] = []
    for arg in argv:
        kinds = arg.split(",")
        if out and out[-1] == ALLOW:
            named = len(kinds) > 1 or arg in KINDS
            out[-1] = f"{ALLOW}={arg if named else 'all'}"
            if named:
                continue
        out.append(arg)
    return [f"{ALLOW}=all" if arg == ALLOW else arg for arg in out]


def allowed_kinds(given: str | None) -> frozenset[str]:
    """The kinds of targets that need not be proved. Raises InfcError (exit 2) for one that does not exist."""
    if given is None:
        return frozenset()
    if given == "all":
        return frozenset(KINDS)
    for kind in given.split(","):
        if kind not in KINDS:
            raise InfcError(f"{ALLOW} does not know {kind!r}", hint=f"kinds are {', '.join(KINDS)}")
    return frozenset(given.split(","))


def json_document(outcome: Outcome, allowed: frozenset[str]) -> dict[str, object]:
    """What --json prints beside the schema and the exit code."""
    from ..proof.verdict import binding

    missed = binding(outcome.verdicts)
    return {
        "bundle": str(outcome.bundle),
        "digest": outcome.digest,
        "reused": outcome.reused,
        "verdict": outcome.verdict,
        "allowed": sorted(allowed),
        "targets": [v.as_json() for v in outcome.verdicts],
        "binding": [v.target for v in missed],
        "relax": [v.relaxed for v in missed if v.relaxed],
        "report": outcome.report,
    }


def print_outcome(outcome: Outcome, allowed: frozenset[str]) -> None:
    """The verdict in one line, and the table of targets."""
    if outcome.verdicts:
        print(headline(outcome.verdicts, allowed))
        print(targets_table(outcome.verdicts))


def print_comparisons(outcome: Outcome) -> None:
    """How it compares with the baseline, where one was given."""
    if not outcome.comparisons:
        return
    from ..proof import comparison

    print(comparison.headline(outcome.comparisons))
    print(format_table(comparison.rows(outcome.comparisons), header=comparison.HEADER))


def baseline_document(request: Request, outcome: Outcome) -> dict[str, object]:
    """What --json says of the baseline; nothing where there is none."""
    if request.baseline is None:
        return {}
    from ..proof.baseline import digest_of
    from ..proof.comparison import as_json

    return {
        "baseline": as_json(outcome.comparisons, str(request.baseline), digest_of(request.baseline), request.margin)
    }


def headline(verdicts: Sequence[Verdict], allowed: frozenset[str]) -> str:
    """`not proved: 1 of 5 targets (latency p99 <= 20 ms)`; what is allowed all the same is said."""
    from ..proof.verdict import binding, overall

    word = overall(verdicts)
    count = f"{len(verdicts)} target{'s' * (len(verdicts) > 1)}"
    if word == "met":
        return f"met: {count}" if len(verdicts) == 1 else f"met: all {count}"
    found = binding(verdicts) if word == "missed" else [v for v in verdicts if v.verdict == word]
    waived = word == "not proved" and overall(verdicts, allowed) == "met"
    names = ", ".join(v.target for v in found)
    return f"{word.upper()}: {len(found)} of {count} ({names}){', which was allowed' if waived else ''}"


def targets_table(verdicts: Sequence[Verdict]) -> str:
    """Target, estimate and interval, verdict, how."""
    from ..proof.verdict import interval

    rows = [(v.target, interval(v), v.verdict if v.verdict != "missed" else "MISSED", v.note) for v in verdicts]
    return format_table(rows, header=("target", "measured", "verdict", "how"))


def print_warning(diagnostic: object, ui: Ui) -> None:
    """A warning of the spec, on stderr."""
    from ...dsl.diagnostics import Diagnostic

    assert isinstance(diagnostic, Diagnostic)
    print(render([diagnostic], color=ui.color), file=sys.stderr)


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
