"""`infc compare`: the first value that differs from the source framework."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..errors import Exit
from .options import add_sandbox, command_parser, settings_of
from .output import Ui, format_table, print_json

DESCRIPTION = """Compare a model with its source framework: outputs of the imported and of the optimized graph, then every
value of the compiled code, in order. Names the first that differs; exit 1 where one does."""


def run(argv: Sequence[str]) -> int:
    """Raises InfcError."""
    parser = command_parser("compare", DESCRIPTION)
    parser.add_argument("spec", type=Path, help="the .infer file")
    parser.add_argument("--profile", help="a profile of the spec")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="replace one value of the spec")
    parser.add_argument("--allow-path", action="append", default=[], metavar="DIR", help="paths may lead there too")
    add_sandbox(parser)
    args = parser.parse_args(argv)
    settings = settings_of(args)
    ui = Ui.from_args(args)
    from ..compare import compare_stages
    from ..driver import Request, check_spec, choose_machine, import_model, optimize

    request = Request(
        args.spec,
        profile=args.profile,
        sets=tuple(args.set),
        allow_paths=tuple(args.allow_path),
        require_sandbox=settings.require_sandbox,
        import_memory=settings.import_memory,
        import_seconds=settings.import_seconds,
        notice=ui.warn,
    )
    spec = check_spec(request)
    machine = choose_machine(spec)
    with tempfile.TemporaryDirectory(prefix="infc-") as work, ui.progress("compare") as step:
        step("importing")
        imported = import_model(spec.models[0], Path(spec.folder or "."), Path(work) / "import", request)
        try:
            step("comparing")
            found = compare_stages(imported, optimize(imported, request).graph, machine, Path(work) / "native")
        finally:
            imported.close()
    first = next((d for d in found if d.differs), None)
    code = Exit.OK if first is None else Exit.INTERNAL
    if args.json:
        rows = [{"stage": d.stage, "name": d.name, "op": d.op, "shape": list(d.shape), "error": d.error} for d in found]
        shown = None if first is None else {"stage": first.stage, "name": first.name, "op": first.op}
        print_json("infc.compare/1", code, {"values": rows, "first": shown})
        return code
    if args.verbose or first is not None:
        rows = [
            (d.stage, d.name, d.op, "x".join(map(str, d.shape)), f"{d.error:.2e}", "DIFFERS" if d.differs else "")
            for d in found
        ]
        print(format_table(rows, header=("stage", "name", "op", "shape", "error", "")))
    if first is None:
        worst = max(found, key=lambda d: d.error)
        print(
            f"{len(found)} values agree; the largest relative error is {worst.error:.2e}, at {worst.name} ({worst.stage})"
        )
    else:
        print(
            f"the first that differs: {first.name} ({first.op}, stage {first.stage}), relative error {first.error:.2e}"
        )
    return code
