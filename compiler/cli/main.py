"""The `infc` command: finds the command, loads it, and turns what it raises into a message and an exit code.

Each command is a module with `run(argv) -> exit code`, imported only when asked for, so that `infc check` pays for
nothing else. No traceback reaches a user (INFC__DEBUG=1 shows it).
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module

from ..errors import Exit, InfcError, missing_module
from ..processes import interruptible


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command lives: `module` beside this file, and its function."""

    module: str
    function: str
    help: str


COMMANDS: dict[str, Command] = {
    "new": Command("language", "run_new", "write a spec that builds, with its data files"),
    "check": Command("language", "run_check", "check specs: every error with its place and a hint"),
    "fmt": Command("language", "run_fmt", "format specs"),
    "explain": Command("explain", "run", "explain a diagnostic's code, or a bundle and where its time goes"),
    "build": Command("build", "run", "compile a spec into a bundle, and measure its targets"),
    "verify": Command("verify", "run", "is a bundle whole, and do its claims hold on this machine"),
    "bench": Command("bench", "run", "load on a bundle's own server: a table of latencies, and their distribution"),
    "attach": Command("attach", "run", "add evidence that a bundle's serve prove made elsewhere"),
    "diff": Command("diff", "run", "two bundles, locks or documents of evidence side by side"),
    "run": Command("run", "run", "one inference with a bundle"),
    "serve": Command("serve", "run", "start a bundle's server"),
    "compare": Command("compare", "run", "layer by layer against the source framework: the first node that differs"),
    "targets": Command("targets", "run", "what this machine can build for and measure"),
    "doctor": Command("doctor", "run", "check this machine: tools, extras, disk, memory"),
    "config": Command("config", "run", "the settings in force and where each comes from"),
    "cache": Command("cache", "run", "the build cache: dir, size, prune"),
    "completion": Command("completion", "run", "a completion script for bash, zsh or fish"),
}
"""Every command, in the order in which help lists them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `infc ARGV` and returns its exit code (`Exit`); never raises."""
    args = list(sys.argv[1:] if argv is None else argv)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for as long as we run
    try:
        with interruptible():
            code = _dispatch(args)
        sys.stdout.flush()
        return code
    except SystemExit as error:  # argparse: --help
        return error.code if isinstance(error.code, int) else int(Exit.OK if error.code is None else Exit.USAGE)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader (head, say) has seen enough
        return int(Exit.OK)
    except BaseException as error:  # noqa: BLE001 - the one place where everything ends
        return _report(error, args)


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        if args[1:2] and args[1] in COMMANDS:
            return _run(args[1], ["--help"])
        print(usage())
        return int(Exit.OK if args else Exit.USAGE)
    if args[0] in ("-V", "--version"):
        print(f"infc {import_module('infc').__version__}")
        return int(Exit.OK)
    if args[0] not in COMMANDS:
        from difflib import get_close_matches

        near = get_close_matches(args[0], COMMANDS, 1)
        hint = f"did you mean `infc {near[0]}`?" if near else f"the commands are {', '.join(COMMANDS)}"
        what = "option" if args[0].startswith("-") else "command"
        raise InfcError(f"there is no {what} {args[0]!r}", hint=hint)
    return _run(args[0], args[1:])


def _run(name: str, args: list[str]) -> int:
    command = COMMANDS[name]
    function = getattr(import_module(f".{command.module}", __package__), command.function)
    return int(function(args))


def usage() -> str:
    """The text of `infc --help`."""
    width = max(map(len, COMMANDS)) + 2
    rows = "\n".join(f"  {name:<{width}}{command.help}" for name, command in COMMANDS.items())
    return (
        "usage: infc COMMAND ...\n\nA declarative inference compiler: a .infer file in, a self-contained serving bundle out."
        f"\n\n{rows}\n\ninfc COMMAND --help tells more; infc --version prints the version."
    )


def _report(error: BaseException, args: list[str]) -> int:
    debug = os.environ.get("INFC__DEBUG", "") not in ("", "0")
    if debug:
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    failure = as_failure(error)
    from .output import print_failure

    try:
        print_failure(failure, json="--json" in args, color=_color(args), file=sys.stderr)
        sys.stdout.flush()
    except OSError:  # a full disk, say; what the interpreter flushes at its end must not fail once more
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return int(failure.exit_code)


def as_failure(error: BaseException) -> InfcError:
    """What a user is told about any exception: itself when it is an InfcError, else a cause that we know, else ours."""
    if isinstance(error, InfcError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return InfcError("interrupted", exit_code=Exit.INTERRUPTED)
    if isinstance(error, ModuleNotFoundError):
        return missing_module(error)
    if isinstance(error, MemoryError):
        return InfcError(
            "not enough memory", exit_code=Exit.MISSING, hint="close other programs, or use a smaller model"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = f" at {error.filename}" if error.filename else ""
        return InfcError(f"the disk is full{place}", exit_code=Exit.MISSING, hint="`infc cache prune` frees some")
    return InfcError(
        f"internal error: {type(error).__name__}: {error}",
        exit_code=Exit.INTERNAL,
        hint="this is a fault of infc; INFC__DEBUG=1 shows where. Please report it with the command and the spec",
    )


def _color(args: list[str]) -> str:
    """The colour choice without reading settings, which may be what failed."""
    for arg, following in zip(args, [*args[1:], ""], strict=True):
        value = following if arg == "--color" else arg.removeprefix("--color=") if arg.startswith("--color=") else ""
        if value in ("auto", "always", "never"):
            return value
    choice = os.environ.get("INFC__COLOR", "")
    if choice in ("always", "never"):
        return choice
    return "never" if os.environ.get("NO_COLOR") else "auto"
