"""`infc config`: every setting in force, with the place it came from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..env import PREFIX, SETTINGS
from ..errors import Exit
from .options import command_parser, settings_of
from .output import format_table, print_json

DESCRIPTION = """Print the settings in force and where each comes from.
Precedence: flags, INFC__NAME, infc.toml or [tool.infc] of pyproject.toml (found upwards), defaults."""


def run(argv: Sequence[str]) -> int:
    """Prints the table; raises InfcError (exit 2) where a setting is malformed."""
    args = command_parser("config", DESCRIPTION).parse_args(argv)
    settings = settings_of(args)
    values: dict[str, object] = {name: getattr(settings, name) for name in SETTINGS}
    if args.json:
        shown = {
            name: {"value": str(v) if isinstance(v, Path) else v, "origin": settings.origins[name]}
            for name, v in values.items()
        }
        print_json("infc.config/1", Exit.OK, {"settings": shown})
        return Exit.OK
    rows = [
        (name, "-" if value is None else str(value), settings.origins[name], PREFIX + name.upper())
        for name, value in values.items()
    ]
    print(format_table(rows, header=("setting", "value", "from", "variable")))
    return Exit.OK
