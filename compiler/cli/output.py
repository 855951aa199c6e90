"""What commands say: results on stdout, everything else on stderr; one JSON document with --json.

ui = Ui.from_args(args)
with ui.progress("compiling kernels", total=len(jobs)) as step: ...; step("gemm")
ui.status("wrote minilm.bundle")           # nothing with -q
print_json("infc.build/1", Exit.OK, {...})
"""

from __future__ import annotations

import json as json_module
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from ...dsl.diagnostics import Diagnostic
    from ..errors import Exit, InfcError

_BOLD, _RED, _CYAN, _DIM, _RESET = "\x1b[1m", "\x1b[31m", "\x1b[36m", "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Ui:
    """How to talk: `color` is for stderr, `quiet` drops progress and notes, `verbose` counts -v."""

    color: bool = False
    quiet: bool = False
    verbose: int = 0
    terminal: bool = False

    @staticmethod
    def from_args(args: Namespace) -> Ui:
        """From the options that `command_parser` adds."""
        return Ui(
            color=use_color(str(getattr(args, "color", None) or "auto"), sys.stderr),
            quiet=bool(getattr(args, "quiet", False)),
            verbose=int(getattr(args, "verbose", 0) or 0),
            terminal=sys.stderr.isatty() and os.environ.get("TERM") != "dumb",
        )

    def status(self, text: str) -> None:
        """A line about what was done."""
        if not self.quiet:
            print(plain(text), file=sys.stderr, flush=True)

    def detail(self, text: str) -> None:
        """A line for those who asked with -v."""
        if self.verbose and not self.quiet:
            print(self._paint(_DIM, plain(text)), file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """A warning; shown with -q too."""
        print(f"{self._paint(_BOLD, 'warning')}: {plain(text)}", file=sys.stderr, flush=True)

    @contextmanager
    def progress(self, label: str, total: int = 0) -> Generator[Callable[[str], None]]:
        """A bar on a terminal, plain lines elsewhere. Yields `step(what)`, called when `what` begins."""
        start = time.perf_counter()
        done = 0

        def step(what: str) -> None:
            nonlocal done
            done += 1
            if self.quiet:
                return
            count = f"[{done}/{total}]" if total else f"[{done}]"
            if self.terminal:
                width = 24
                full = min(width, width * (done - 1) // total) if total else 0
                bar = "█" * full + "·" * (width - full) if total else ""
                print(f"\r\x1b[K{label} {bar} {count} {what}", end="", file=sys.stderr, flush=True)
            else:
                print(f"{label} {count} {what}", file=sys.stderr, flush=True)

        try:
            yield step
        finally:
            if self.terminal and not self.quiet and done:
                print(f"\r\x1b[K{label}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)

    def _paint(self, code: str, text: str) -> str:
        return f"{code}{text}{_RESET}" if self.color else text


def plain(text: str) -> str:
    """text with its control characters spelled out: what a file holds must not command a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def use_color(choice: str, stream: TextIO) -> bool:
    """Whether to colour what goes to `stream`, for `auto`, `always` or `never`."""
    if choice == "auto":
        return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return choice == "always"


def print_json(schema: str, exit_code: Exit, document: Mapping[str, object]) -> None:
    """The one document of --json: its schema's name, the exit code, then `document`'s keys."""
    body = {"schema": schema, "exit_code": int(exit_code), **document}
    print(json_module.dumps(body, indent=1, ensure_ascii=False, allow_nan=False))


def print_failure(failure: InfcError, *, json: bool, color: str, file: TextIO) -> None:
    """Renders an error on `file`; with `json` also as the one document on stdout."""
    paint = use_color(color, file)
    red, cyan, reset = (_BOLD + _RED, _CYAN, _RESET) if paint else ("", "", "")
    if failure.diagnostics:
        print(render(failure.diagnostics, color=paint), file=file)
    if not failure.diagnostics or failure.message not in {d.title for d in failure.diagnostics}:
        print(f"{red}error{reset}: {plain(failure.message)}", file=file)
        if failure.hint:
            print(f"{cyan}  = help{reset}: {plain(failure.hint)}", file=file)
    if json:
        from ..errors import Exit

        problem = {
            "message": failure.message,
            "hint": failure.hint,
            "diagnostics": [_diagnostic_json(d) for d in failure.diagnostics],
        }
        print_json("infc.error/1", Exit(failure.exit_code), {"error": problem})


def render(diagnostics: Sequence[Diagnostic], *, color: bool) -> str:
    """Diagnostics as text, with their source lines."""
    from ...dsl.render import render_diagnostics

    return render_diagnostics(diagnostics, color=color).rstrip("\n")


def _diagnostic_json(d: Diagnostic) -> dict[str, object]:
    place = None if d.span is None else {"file": d.span.file, "line": d.span.line, "col": d.span.col, "end": d.span.end}
    return {
        "code": d.code,
        "severity": d.severity,
        "title": d.title,
        "span": place,
        "label": d.label,
        "help": list(d.help),
    }


def format_table(rows: Sequence[Sequence[str]], *, header: Sequence[str] | None = None) -> str:
    """Columns padded to their widest cell, two spaces between; trailing spaces cut."""
    everything = [*([header] if header else []), *rows]
    widths = [max(len(row[i]) for row in everything) for i in range(len(everything[0]))] if everything else []
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in everything
    ]
    if header:
        lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(lines)


def format_bytes(count: float) -> str:
    """`512 B`, `1.5 KiB`, `86.7 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")
