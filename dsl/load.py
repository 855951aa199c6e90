"""Files → layers: the spec, what it includes (earlier layers), and its profiles (later layers)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from .diagnostics import Diagnostic, Label
from .lexer import decode
from .parse import parse_text
from .paths import Roots
from .span import Span
from .suggest import hint, nearest
from .syntax import Atom, Statement, Term, unquote
from .units import UNITS, parse_number

LANGUAGE = 1
MOST_FILES = 64
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
"""What a model is called at the Hugging Face hub."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Statements that are added together. `origin` is shown by `--resolved`; `index` orders layers."""

    index: int
    origin: str
    statements: tuple[Statement, ...]
    roots: Roots


@dataclass(slots=True)
class Loaded:
    """Everything that was read: layers, the text of every file by its shown name, absolute paths, `let` values."""

    layers: list[Layer] = field(default_factory=list[Layer])
    texts: dict[str, str] = field(default_factory=dict[str, str])
    files: list[str] = field(default_factory=list[str])
    lets: dict[str, tuple[Term, ...]] = field(default_factory=dict[str, tuple[Term, ...]])
    let_spans: dict[str, Span] = field(default_factory=dict[str, Span])
    profiles: dict[str, list[tuple[Statement, Roots]]] = field(default_factory=dict[str, list[tuple[Statement, Roots]]])
    dormant: list[tuple[Layer, dict[str, tuple[Term, ...]]]] = field(
        default_factory=list[tuple[Layer, dict[str, tuple[Term, ...]]]]
    )
    """Profiles that were not asked for, each with the `let` values that would hold."""
    found: list[Diagnostic] = field(default_factory=list[Diagnostic])
    folder: str = ""
    """The spec's folder as it is shown: included files are shown beside the spec."""


def load_layers(text: str, name: str, roots: Roots, profile: str | None, path: str | None = None) -> Loaded:
    """The layers of a spec: includes first, then the spec, then the profile's blocks from first to last file."""
    loaded = Loaded(folder=os.path.dirname(name))
    _load(loaded, text, name, roots, path, [])
    if profile is not None:
        if profile not in loaded.profiles:
            help = hint(profile, loaded.profiles, "profiles") or ("this spec has no profiles",)
            loaded.found.append(Diagnostic("E0704", f"there is no profile `{profile}`", help=help))
        for statement, own_roots in loaded.profiles.get(profile, []):
            assert statement.block is not None
            _add_layer(loaded, f"profile {profile}", statement.block.statements, own_roots)
    _check_lets(loaded)
    for other, blocks in loaded.profiles.items():
        if other != profile:
            _add_dormant(loaded, other, blocks)
    return loaded


def _add_dormant(loaded: Loaded, name: str, blocks: list[tuple[Statement, Roots]]) -> None:
    lets = dict(loaded.lets)
    for statement, roots in blocks:
        assert statement.block is not None
        own = Loaded(lets=lets, found=loaded.found)
        _add_layer(own, f"profile {name}", statement.block.statements, roots)
        _check_lets(own)
        lets = own.lets
        loaded.dormant.append((own.layers[0], lets))


def _load(loaded: Loaded, text: str, name: str, roots: Roots, path: str | None, stack: list[str]) -> None:
    loaded.texts[name] = text
    if path is not None:
        loaded.files.append(path)
    statements, found = parse_text(text, name)
    loaded.found += found
    _check_version(loaded, statements, name, text)
    own: list[Statement] = []
    profiles: dict[str, Span] = {}
    for statement in statements:
        word = statement.word.text
        if word == "include":
            _include(loaded, statement, roots, [*stack, path] if path is not None else stack)
        elif word == "profile":
            _profile(loaded, statement, roots, profiles)
        elif word != "infer" and not (statement is statements[0] and nearest(word, ("infer",))):
            own.append(statement)
    _add_layer(loaded, name, tuple(own), roots)


def _check_version(loaded: Loaded, statements: tuple[Statement, ...], name: str, text: str) -> None:
    """`infer 1` is the first statement, and stands nowhere else."""
    first = statements[0] if statements else None
    if first is None or first.word.text != "infer":
        if any(d.code == "E0109" or d.code == "E0110" for d in loaded.found):
            return
        at = first.word.span if first is not None else Span(name, 1, 1, 2)
        later = any(s.word.text == "infer" for s in statements)
        help = "move it to the first line" if later else "write `infer 1` on the first line"
        if first is not None and nearest(first.word.text, ("infer",)):
            help = "did you mean `infer 1`?"
        loaded.found.append(Diagnostic("E0307", "a spec begins with the version of the language", at,
                                       "expected `infer 1` before this", help=(help,)))  # fmt: skip
        return
    for extra in statements[1:]:
        if extra.word.text == "infer":
            loaded.found.append(
                Diagnostic("E0305", "`infer` is written twice", extra.span, "", (Label(first.span, "first here"),))
            )
    if first.bad:
        return
    term = first.groups[0][0] if first.groups else None
    fits = isinstance(term, Atom) and term.kind == "NUMBER" and len(first.groups) == 1 and len(first.groups[0]) == 1
    try:
        version = parse_number(term.text) if fits and isinstance(term, Atom) else 0
    except ValueError:
        version = 0
    if version != LANGUAGE:
        at = term.span if term is not None else first.span
        title = f"this infc reads version {LANGUAGE} of the language"
        loaded.found.append(Diagnostic("E0308", title, at, f"expected {LANGUAGE}"))


def _include(loaded: Loaded, statement: Statement, roots: Roots, stack: list[str]) -> None:
    if statement.bad:
        return
    atom = statement.groups[0][0] if statement.groups else None
    if (
        not isinstance(atom, Atom)
        or atom.kind != "STRING"
        or len(statement.groups) != 1
        or len(statement.groups[0]) != 1
    ):
        at = statement.span if atom is None else atom.span
        loaded.found.append(
            Diagnostic("E0201", "include needs a path", at, 'expected a string, as in include "base.infer"')
        )
        return
    if statement.block is not None:
        loaded.found.append(Diagnostic("E0304", "`include` takes no block", statement.block.span))
        return
    value = roots.resolve(unquote(atom.text), None)
    if not roots.holds(value.absolute):
        loaded.found.append(outside(value.written, atom.span, value.absolute))
        return
    real = os.path.realpath(value.absolute)
    if real in stack:
        chain = " -> ".join(os.path.basename(p) for p in [*stack[stack.index(real) :], real])
        loaded.found.append(Diagnostic("E0702", f"these files include each other: {chain}", atom.span))
        return
    if real in loaded.files:
        return
    if len(loaded.files) >= MOST_FILES:
        loaded.found.append(Diagnostic("E0110", f"a spec is made of at most {MOST_FILES} files", atom.span))
        return
    try:
        raw = _read(real)
    except OSError as error:
        why = (error.strerror or "unreadable").lower()
        help = near_files(value.absolute, value.written)
        loaded.found.append(Diagnostic("E0701", f"cannot read {value.written}: {why}", atom.span, help=help))
        return
    shown = os.path.normpath(os.path.join(loaded.folder, value.written)).replace(os.sep, "/")
    text, found = decode(raw, shown)
    loaded.found += found
    if found:
        loaded.texts[shown] = ""
        return
    _load(loaded, text, shown, Roots(roots.spec, os.path.dirname(value.absolute), roots.allowed), real, stack)


def _read(path: str) -> bytes:
    if not os.path.isfile(path):
        with open(path, "rb"):  # raises for what is not there, and for a folder
            raise OSError(0, "not a regular file")
    with open(path, "rb") as file:
        return file.read()


def outside(written: str, span: Span | None, absolute: str | None = None) -> Diagnostic:
    """A path leaves the folder tree of its spec, by itself or through a link in it."""
    real = None if absolute is None else os.path.realpath(absolute)
    shown = "" if real is None else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in real)
    link = (f"it is a link to {shown}",) if real is not None and real != absolute else ()
    return Diagnostic(
        "E0402", f"{written} is outside the folder of the spec", span, "",
        help=(*link, "move it there, or allow its folder with --allow-path DIR"),
    )  # fmt: skip


def near_files(absolute: str, written: str, *, folder: bool = False) -> tuple[str, ...]:
    """`did you mean` among the files beside one that does not exist; of what looks like a model's name, how to get it."""
    beside = os.path.dirname(absolute)
    try:
        names = sorted(os.listdir(beside))[:1000]
    except OSError:
        gone = f"there is no folder {os.path.dirname(written) or '.'}"
        get = f"`hf download {written} --local-dir {written}`"
        cached = f'`huggingface(hub = "{written}", revision = "...")`'
        hub = f"is it a name of the hub? infc downloads nothing: {get} brings it here, {cached} takes it from the cache"
        return (gone, hub) if folder and HUB_NAME.fullmatch(written) else (gone,)
    found = hint(os.path.basename(absolute), names)
    if found and found[0].startswith("did you mean"):
        near = found[0][len("did you mean `") : -2]
        return (f"did you mean `{os.path.join(os.path.dirname(written), near)}`?",)
    return ()


def _profile(loaded: Loaded, statement: Statement, roots: Roots, seen: dict[str, Span]) -> None:
    name = statement.groups[0][0] if statement.groups and len(statement.groups[0]) == 1 else None
    if not isinstance(name, Atom) or name.kind != "WORD" or len(statement.groups) != 1:
        if not statement.bad:
            loaded.found.append(
                Diagnostic("E0201", "profile needs a name", statement.span, "expected profile NAME { ... }")
            )
        return
    if statement.block is None:
        if not statement.bad:
            loaded.found.append(Diagnostic("E0303", "`profile` needs a block", statement.span, "expected { ... }"))
        return
    if name.text in seen:
        label = (Label(seen[name.text], "first here"),)
        loaded.found.append(Diagnostic("E0305", f"profile `{name.text}` is written twice", name.span, "", label))
        return
    seen[name.text] = name.span
    for inner in statement.block.statements:
        if inner.word.text in ("infer", "include", "profile"):
            title = f"`{inner.word.text}` cannot stand inside a profile"
            loaded.found.append(Diagnostic("E0302", title, inner.word.span, "expected at the top of a file"))
    loaded.profiles.setdefault(name.text, []).append((statement, roots))


def _add_layer(loaded: Loaded, origin: str, statements: tuple[Statement, ...], roots: Roots) -> None:
    index = len(loaded.layers)
    own: dict[str, Span] = {}
    kept: list[Statement] = []
    for statement in statements:
        if statement.word.text == "let":
            _let(loaded, statement, own)
        elif statement.word.text not in ("infer", "include", "profile"):
            kept.append(statement)
    loaded.layers.append(Layer(index, origin, tuple(kept), roots))


def _let(loaded: Loaded, statement: Statement, own: dict[str, Span]) -> None:
    if statement.bad:
        return
    group = statement.groups[0] if len(statement.groups) == 1 else ()
    name = group[0] if group else None
    equals = group[1] if len(group) > 1 else None
    form = isinstance(name, Atom) and name.kind == "WORD" and isinstance(equals, Atom) and equals.text == "="
    if not form or len(group) < 3 or statement.block is not None:
        at = statement.span
        loaded.found.append(Diagnostic("E0201", "let needs a name and one value", at, "expected let NAME = VALUE"))
        return
    assert isinstance(name, Atom)
    if name.text in UNITS or "." in name.text:
        why = "is a unit" if name.text in UNITS else "has a dot in it"
        loaded.found.append(Diagnostic("E0703", f"`{name.text}` {why}, and cannot be the name of a `let`", name.span))
        return
    if name.text in own:
        label = (Label(own[name.text], "first here"),)
        loaded.found.append(Diagnostic("E0305", f"let `{name.text}` is written twice", name.span, "", label))
        return
    own[name.text] = name.span
    loaded.lets[name.text] = group[2:]
    loaded.let_spans[name.text] = name.span


def _check_lets(loaded: Loaded) -> None:
    """Drops every `let` that is defined by itself, and says so."""
    for name in list(loaded.lets):
        seen, todo = set[str](), [name]
        while todo:
            for term in loaded.lets.get(todo.pop(), ()):
                if (
                    isinstance(term, Atom)
                    and term.kind == "WORD"
                    and term.text in loaded.lets
                    and term.text not in seen
                ):
                    seen.add(term.text)
                    todo.append(term.text)
        if name in seen:
            loaded.found.append(Diagnostic("E0703", f"let `{name}` is defined by itself", loaded.let_spans[name]))
            loaded.lets[name] = ()
    for name in [n for n, value in loaded.lets.items() if not value]:
        del loaded.lets[name]
