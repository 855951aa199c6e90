"""`infc check`, `infc fmt`, `infc explain CODE`, `infc new`: the commands of the language. None of them needs torch."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Exit, InfcError
from .options import command_parser
from .output import print_json, use_color

if TYPE_CHECKING:
    from ...dsl.check import CheckResult
    from ...dsl.diagnostics import Diagnostic

FORMATS = ("text", "json", "github", "sarif")
_SKIPPED = frozenset({".git", ".venv", "node_modules", "__pycache__", ".hypothesis", ".pytest_cache", "target"})


# ── check ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def run_check(argv: Sequence[str]) -> int:
    """Checks specs: every error of every file at once. Exit 0, or 2 when there is an error.

    Text goes to stderr; with another --format the findings are the result and go to stdout.
    """
    parser = command_parser("check", "Check specs: every error with its place and a hint. Needs no torch.")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files, folders (their *.infer files) or - for stdin")
    parser.add_argument("--format", choices=FORMATS, default="text", help="how findings are printed")
    parser.add_argument("--resolved", action="store_true", help="print the spec with its layers applied, with origins")
    parser.add_argument(
        "--explain", action="store_true", help="print every word with the value that holds, defaults too"
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of a resolved spec")
    parser.add_argument("--no-files", action="store_true", help="do not look whether the files that a spec names exist")
    add_layer_options(parser)
    args = parser.parse_args(list(argv))
    if args.schema:
        from ...dsl.schema import json_schema

        print(_json(json_schema()))
        return Exit.OK
    if not args.paths:
        raise InfcError("infc check needs at least one file", hint="as in `infc check model.infer` or `infc check .`")
    form = "json" if args.json else str(args.format)
    results = [(name, _check(name, args)) for name in _expand(args.paths)]
    code = Exit.USAGE if any(r.errors for _, r in results) else Exit.OK
    if form == "text":
        _print_text(results, args)
    elif form == "json":
        _print_json(results, args, code)
    else:
        _print_machine(results, form)
    return code


def add_layer_options(parser: object) -> None:
    """The options that change what a spec says; `build` takes them too."""
    from argparse import ArgumentParser

    assert isinstance(parser, ArgumentParser)
    group = parser.add_argument_group("what the spec says")
    group.add_argument("--profile", metavar="NAME", help="add the layer `profile NAME { ... }`")
    group.add_argument(
        "--set", action="append", default=[], metavar="K=V", help="set one value: targets.latency[p99]=10ms"
    )
    group.add_argument(
        "--use", metavar="MACHINE", help="replace the hardware block: 'cpu { cores 2 }' or a catalogue name"
    )
    group.add_argument(
        "--allow-path", action="append", default=[], metavar="DIR", help="another folder that the spec may read"
    )


def _check(name: str, args: Namespace) -> CheckResult:
    from ...dsl.check import check_file, check_text

    layers = {"profile": args.profile, "sets": args.set, "use": args.use, "allow_paths": args.allow_path}
    if name != "-":
        return check_file(name, need_files=not args.no_files, **layers)
    from ...dsl.lexer import decode

    text, found = decode(sys.stdin.buffer.read(), "<stdin>")
    if found:
        from ...dsl.check import CheckResult

        return CheckResult(None, tuple(found), {"<stdin>": ""})
    return check_text(text, file="<stdin>", folder=None if args.no_files else os.getcwd(), **layers)


def _expand(paths: Sequence[str]) -> list[str]:
    """Folders → the *.infer files in them, sorted. Raises InfcError for a folder without any."""
    out: list[str] = []
    for path in paths:
        if path != "-" and os.path.isdir(path):
            found = sorted(_walk(path))
            if not found:
                raise InfcError(f"there is no .infer file in {path}")
            out += found
        else:
            out.append(path)
    return list(dict.fromkeys(out))


def _walk(folder: str) -> Iterator[str]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in _SKIPPED and not f.endswith(".bundle"))
        for file in files:
            if file.endswith(".infer"):
                yield os.path.normpath(os.path.join(root, file))


def _shown(diagnostics: Sequence[Diagnostic], args: Namespace) -> list[Diagnostic]:
    return [d for d in diagnostics if d.is_error or not args.quiet]


def _print_text(results: list[tuple[str, CheckResult]], args: Namespace) -> None:
    from ...dsl.render import render_diagnostics

    color = use_color(_color(args), sys.stderr)
    errors = warnings = 0
    for _, result in results:
        errors, warnings = errors + len(result.errors), warnings + len(result.warnings)
        text = render_diagnostics(_shown(result.diagnostics, args), result.texts, color=color)
        if text:
            print(text, file=sys.stderr)
        if result.spec is not None and args.resolved:
            from ...dsl.resolved import write_resolved

            print(write_resolved(list(result.entries), list(result.models), origins=True), end="")
        if result.spec is not None and args.explain:
            from ...dsl.explain import explain_spec

            print(explain_spec(result, _token_limits(result)), end="")
    if args.quiet:
        return
    if not errors and not args.resolved and not args.explain:
        files = results[0][0] if len(results) == 1 else f"{len(results)} files"
        print(f"{files}: no errors" + (f", {_count(warnings, 'warning')}" if warnings else ""))
        if args.verbose:
            _print_unsupported(results)
    elif errors:
        print(_count(errors, "error") + (f", {_count(warnings, 'warning')}" if warnings else ""), file=sys.stderr)


def _token_limits(result: CheckResult) -> dict[str, tuple[str, str]]:
    """The bounds of `tokens` of each model whose texts the spec sets none for: what its folder says, and where."""
    found: dict[str, tuple[str, str]] = {}
    for model in result.spec.models if result.spec is not None else ():
        texts = [i for i in model.inputs if i.kind == "text"]
        written = any(i.limit_tokens is not None for i in texts) or any(d.name == "tokens" for d in model.dims)
        if written or not texts or model.source.kind != "huggingface" or model.source.path is None:
            continue
        from ..frontends.token_limit import folder_limit

        try:
            limit = folder_limit(Path(model.source.path), model.task.kind)
            found[model.name] = (f"tokens in 1..{limit.tokens}", limit.origin)
        except InfcError as error:
            found[model.name] = ("tokens: not known", error.message)
    return found


def _print_unsupported(results: list[tuple[str, CheckResult]]) -> None:
    """With -v: what `build` would refuse."""
    from ...dsl.unsupported import unsupported_statements

    for _, result in results:
        for d in unsupported_statements(result.spec) if result.spec is not None else ():
            print(f"{d.span}: {d.title}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _print_json(results: list[tuple[str, CheckResult]], args: Namespace, code: Exit) -> None:
    from ...dsl.machine import to_json

    files: list[dict[str, object]] = []
    for name, result in results:
        entry: dict[str, object] = {
            "file": name,
            "ok": result.spec is not None,
            "diagnostics": [to_json(d) for d in _shown(result.diagnostics, args)],
        }
        if args.resolved and result.spec is not None:
            from ...dsl.resolved import to_json as resolved_json

            entry["resolved"] = resolved_json(list(result.entries), list(result.models))
        if args.explain and result.spec is not None:
            from ...dsl.explain import explain_spec

            entry["explain"] = explain_spec(result, _token_limits(result)).splitlines()
        files.append(entry)
    print_json("infc.check/1", code, {"files": files})


def _print_machine(results: list[tuple[str, CheckResult]], form: str) -> None:
    from ...dsl.machine import to_github, to_sarif

    found = [d for _, result in results for d in result.diagnostics]
    if form == "github":
        print(to_github(found), end="")
        return
    from importlib import import_module

    print(_json(to_sarif(found, import_module("infc").__version__)))


def _json(document: dict[str, object]) -> str:
    import json

    return json.dumps(document, indent=1, ensure_ascii=False)


def _color(args: Namespace) -> str:
    """`--color`, else INFC__COLOR, else auto. Raises InfcError for another word."""
    choice = args.color or os.environ.get("INFC__COLOR") or "auto"
    if choice not in ("auto", "always", "never"):
        raise InfcError(f"there is no colour setting {choice!r}", hint="it is auto, always or never")
    return choice


# ── fmt ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def run_fmt(argv: Sequence[str]) -> int:
    """Formats specs in place. `--check`: exit 2 when a file is not formatted; `--diff`: print what would change."""
    parser = command_parser("fmt", "Format specs. Idempotent, keeps comments.", json=False)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files, folders (their *.infer files) or - for stdin")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 2 when something would change")
    parser.add_argument("--diff", action="store_true", help="change nothing; print what would change")
    args = parser.parse_args(list(argv))
    code = Exit.OK
    changed = 0
    names = _expand(args.paths)
    for name in names:
        raw = _read(name)
        result = _format(name, raw, args)
        if result is None:
            code = Exit.USAGE
            continue
        new = result.encode("utf-8")
        if args.diff:
            _print_diff(name, raw.decode("utf-8-sig"), result)
        if name == "-" and not args.check and not args.diff:
            sys.stdout.write(result)
        elif new != raw:
            changed += 1
            if args.check or args.diff:
                code = Exit.USAGE if args.check else code
                if args.check and not args.quiet:
                    print(f"{name}: not formatted", file=sys.stderr)
            else:
                _replace(name, new)
    if not args.quiet and not args.diff and names != ["-"]:
        verb = "would change" if args.check else "formatted"
        print(f"{_count(changed, 'file')} {verb}, {len(names) - changed} unchanged", file=sys.stderr)
    return code


def _read(name: str) -> bytes:
    try:
        if name == "-":
            return sys.stdin.buffer.read()
        with open(name, "rb") as file:
            return file.read()
    except OSError as error:
        raise InfcError(f"cannot read {name}: {(error.strerror or 'unreadable').lower()}") from error


def _format(name: str, raw: bytes, args: Namespace) -> str | None:
    from ...dsl.format import format_text
    from ...dsl.lexer import decode
    from ...dsl.render import render_diagnostics

    shown = "<stdin>" if name == "-" else name
    text, found = decode(raw, shown)
    result = None
    if not found:
        result, found = format_text(text, shown)
    if found:
        color = use_color(_color(args), sys.stderr)
        print(render_diagnostics(found, {shown: text}, color=color), file=sys.stderr)
    return result


def _print_diff(name: str, old: str, new: str) -> None:
    from difflib import unified_diff

    lines = unified_diff(old.splitlines(), new.splitlines(), f"{name} (as it is)", f"{name} (formatted)", lineterm="")
    for line in lines:
        print(line)


def _replace(name: str, raw: bytes) -> None:
    """Writes beside the file and renames, so that a crash never leaves half a spec; keeps its mode and its link."""
    path = os.path.realpath(name)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(raw)
        os.chmod(temporary, os.stat(path).st_mode & 0o7777)
        os.replace(temporary, path)
    except OSError as error:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise InfcError(f"cannot write {name}: {(error.strerror or 'no reason given').lower()}") from error


# ── explain ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def run_explain_code(argv: Sequence[str]) -> int:
    """Explains the code of a diagnostic."""
    parser = command_parser("explain", "Explain the code of an error or warning.")
    parser.add_argument("code", metavar="CODE", nargs="?", help="as in E0203; without it, all codes are listed")
    args = parser.parse_args(list(argv))
    from ...dsl.codes import CODES, explain_code

    if args.code is None:
        if args.json:
            print_json("infc.codes/1", Exit.OK, {"codes": {code: entry.title for code, entry in CODES.items()}})
        else:
            print("\n".join(f"{code}  {entry.title}" for code, entry in CODES.items()))
        return Exit.OK
    text = explain_code(args.code)
    if text is None:
        from ...dsl.suggest import nearest

        near = nearest(args.code.upper(), CODES)
        hint = f"did you mean {near}?" if near else "`infc explain` lists the codes, from E0101 to W0106"
        raise InfcError(f"there is no code {args.code!r}", hint=hint)
    if args.json:
        entry = CODES[args.code.upper()]
        print_json("infc.code/1", Exit.OK, {"code": args.code.upper(), "title": entry.title, "text": entry.text})
    else:
        print(text, end="")
    return Exit.OK


# ── new ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def run_new(argv: Sequence[str]) -> int:
    """Writes a folder NAME with a spec that builds and the files it names."""
    parser = command_parser("new", "Write a spec that builds, with its data files.")
    parser.add_argument("name", metavar="NAME", help="the folder to make; its last part names the model")
    parser.add_argument("--from", dest="source", metavar="DIR", help="a Hugging Face model folder to start from")
    parser.add_argument(
        "--task",
        choices=("tensor", "embed", "classify", "rerank", "tag"),
        help="what the folder was saved for by default",
    )
    args = parser.parse_args(list(argv))
    from .scaffold import chosen, write_project

    written = write_project(args.name, args.source, args.task)
    if args.json:
        print_json("infc.new/1", Exit.OK, {"folder": args.name, "spec": written[0], "files": written})
    else:
        print("\n".join(written))
        if args.source is not None and args.task is None and not args.quiet:
            print(chosen(Path(args.source)), file=sys.stderr)
        if not args.quiet:
            print(f"next: infc check {written[0]}; infc build {written[0]}", file=sys.stderr)
    return Exit.OK
