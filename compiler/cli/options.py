"""The argument parser of every command: errors are `InfcError`s with a hint, and the common options are the same.

parser = command_parser("serve", "Start a bundle's server.")
parser.add_argument("bundle")
args = parser.parse_args(argv)
settings, ui = settings_of(args), Ui.from_args(args)
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, NoReturn

from ..errors import InfcError

if TYPE_CHECKING:
    from ..env import Settings


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises InfcError (exit 2) and says what was meant."""

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: (\S+)", message)
        hint = f"{self.prog} --help lists the options"
        if unknown:
            known = [option for action in self._actions for option in action.option_strings]
            near = get_close_matches(unknown[1].partition("=")[0], known, 1)
            message = f"{self.prog} does not take {unknown[1]!r}"
            hint = f"did you mean {near[0]}?" if near else hint
        raise InfcError(message, hint=hint)


def command_parser(name: str, description: str, *, json: bool = True, epilog: str = "") -> Parser:
    """A parser for `infc NAME` with the options that commands share; `json` False where there is no --json."""
    parser = Parser(
        prog=f"infc {name}",
        description=description,
        epilog=epilog or None,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = parser.add_argument_group("common options")
    if json:
        common.add_argument("--json", action="store_true", help="print one JSON document on stdout, on failure too")
    common.add_argument("--color", metavar="WHEN", help="auto, always or never")
    common.add_argument("--cache-dir", metavar="DIR", help="where builds keep what they can use again")
    common.add_argument("-q", "--quiet", action="store_true", help="no progress, no notes")
    common.add_argument("-v", "--verbose", action="count", default=0, help="more notes; twice for even more")
    return parser


def positive(most: float, expected: str) -> Callable[[str], float]:
    """For argparse: a number above 0 and up to `most`, else an error that says what was `expected`."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value <= most:
            raise argparse.ArgumentTypeError(f"expected {expected}, not {text!r}")
        return value

    return number


SECONDS = positive(86400, "seconds, 0 to 86400")


def add_sandbox(parser: argparse.ArgumentParser) -> None:
    """--require-sandbox, for commands that import a model."""
    parser.add_argument(
        "--require-sandbox", action="store_true", help="refuse where this kernel cannot lock in what reads the model"
    )


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings in force, these options included. Raises InfcError (exit 2) for a malformed one."""
    from ..env import load_settings

    flags: Mapping[str, str | None] = {
        "color": args.color,
        "cache_dir": args.cache_dir,
        "tune": getattr(args, "tune", None),
        "require_sandbox": "1" if getattr(args, "require_sandbox", False) else None,
    }
    return load_settings(flags)
