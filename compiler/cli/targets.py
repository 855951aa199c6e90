"""`infc targets`: what this machine can build for, and what it can measure."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import Exit
from ..target import Target, discover, find_target
from .options import command_parser, settings_of
from .output import format_table, print_json

DESCRIPTION = """List what `infc build` can build for, and what it can measure on this machine.
With a NAME, also what this machine is as far as that target is concerned."""


def run(argv: Sequence[str]) -> int:
    """Raises InfcError (exit 2) for a target that does not exist."""
    parser = command_parser("targets", DESCRIPTION)
    parser.add_argument("name", nargs="?", help="one target only")
    args = parser.parse_args(argv)
    settings_of(args)
    targets = {args.name: find_target(args.name)} if args.name else discover()
    if args.json:
        print_json("infc.targets/1", Exit.OK, {"targets": [_as_json(t) for t in targets.values()]})
        return Exit.OK
    for target in targets.values():
        print(f"{target.name}: {target.title}")
        rows = [(f"  {v.name}", v.missing or "builds", v.unmeasured or "measures") for v in target.variants()]
        if rows:
            print(format_table(rows))
        if args.name:
            print(format_table([(f"  {key}", _shown(value)) for key, value in target.fingerprint().items()]))
    return Exit.OK


def _as_json(target: Target) -> dict[str, object]:
    variants = [
        {"name": v.name, "builds": not v.missing, "measures": not v.unmeasured, "why": v.missing or v.unmeasured}
        for v in target.variants()
    ]
    return {
        "name": target.name,
        "title": target.title,
        "variants": variants,
        "fingerprint": dict(target.fingerprint()),
    }


def _shown(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return str(value)
