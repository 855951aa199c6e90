"""Layers → entries: every statement matched with the table, in its scope, with the key that layers replace it by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .cursor import CallValue, Captured, Context, TypeValue
from .diagnostics import Diagnostic, Label
from .forms import Match, match_statement, usage
from .keywords import BUNDLE_TARGETS, SCOPED, TOP, Keyword, homes_of, words_of
from .load import Layer, Loaded
from .span import Span
from .suggest import hint, listed
from .syntax import Atom, Statement, unquote
from .write import write_group, write_groups

Place = tuple[str | None, str]
"""(model, block): where an entry holds; model None is the top level."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One statement that was understood. `key` tells it apart from others of its word; `inner` are its block's."""

    keyword: Keyword
    model: str | None
    block: str
    key: tuple[str, ...]
    match: Match
    statement: Statement
    layer: Layer
    inner: tuple[Entry, ...] = ()

    @property
    def word(self) -> str:
        return self.keyword.word

    @property
    def span(self) -> Span:
        return self.statement.span

    @property
    def identity(self) -> tuple[str | None, str, str, tuple[str, ...]]:
        """What a later layer replaces."""
        return (self.model, self.block, self.word, self.key)

    def get(self, name: str) -> Captured | None:
        return self.match.captures.get(name)

    def text(self) -> str:
        """The statement as `--resolved` prints it: values in place of `let` names, paths as seen from the spec."""
        text = f"{self.word} {write_groups(self.match.groups)}".rstrip()
        if self.inner:
            separator = ", " if self.keyword.opens == "use" else "; "
            text += f" {{ {separator.join(e.text() for e in self.inner)} }}"
        return text


@dataclass(frozen=True, slots=True)
class Drop:
    """`drop latency p99`: what it removes from earlier layers."""

    model: str | None
    block: str
    word: str
    key: str
    layer: Layer
    span: Span


@dataclass(slots=True)
class Collected:
    """The entries of all layers in order, and what was seen of each word even where it was wrong."""

    entries: list[Entry] = field(default_factory=list[Entry])
    drops: list[Drop] = field(default_factory=list[Drop])
    models: dict[str, Span] = field(default_factory=dict[str, Span])
    blocks: dict[Place, Span] = field(default_factory=dict[Place, Span])
    seen: set[tuple[str | None, str, str]] = field(default_factory=set[tuple[str | None, str, str]])
    bad: set[tuple[str | None, str]] = field(default_factory=set[tuple[str | None, str]])
    """(model, word) of statements that were not understood, so that what depends on them is not judged."""


def collect_entries(loaded: Loaded, found: list[Diagnostic], used: set[str]) -> Collected:
    """Every statement of every layer, matched and placed; what does not fit the table is reported."""
    out = Collected()
    for layer in loaded.layers:
        context = Context(loaded.lets, found, layer.roots, used)
        _walk(out, layer, layer.statements, TOP, None, context, {})
    return out


def check_dormant(loaded: Loaded, found: list[Diagnostic]) -> None:
    """The statements of profiles that were not asked for: their errors are reported, and nothing else comes of them."""
    for layer, lets in loaded.dormant:
        context = Context(lets, found, layer.roots)
        _walk(Collected(), layer, layer.statements, TOP, None, context, {})


def _walk(
    out: Collected, layer: Layer, statements: tuple[Statement, ...], block: str, model: str | None, context: Context,
    once: dict[tuple[str | None, str, str, tuple[str, ...]], Span],
) -> None:  # fmt: skip
    for statement in statements:
        word = statement.word.text
        keyword = words_of(block).get(word)
        if keyword is None:
            out.bad.add((model, word))
            _unknown_word(out, statement, block, context.found)
            continue
        out.seen.add((model, block, word))
        if word == "drop":
            _drop(out, layer, statement, block, model, context)
            continue
        if not _check_block(statement, keyword, context.found):
            out.bad.add((model, word))
            continue
        if keyword.opens is None or word == "use":
            entry = make_entry(statement, keyword, block, model, layer, context, out)
            if entry is not None and _first_time(entry.identity, entry.span, once, context.found, word):
                out.entries.append(entry)
            continue
        if word == "degrade":
            entry = make_entry(statement, keyword, block, model, layer, context, out)
            if entry is not None and _first_time(entry.identity, entry.span, once, context.found, word):
                out.entries.append(entry)
            continue
        name = model
        if word == "model":
            name = _model_name(statement, keyword, context)
            if name is None:
                name = f"?{statement.span.line}"
            else:
                out.models.setdefault(name, statement.span)
        elif statement.groups and not statement.bad:
            title = f"`{word}` has no name"
            context.found.append(Diagnostic("E0209", title, statement.groups[0][0].span, "expected `{` here"))
        place = (name, word)
        title = f"model {name}" if word == "model" else word
        if _first_time((name, word, "{", ()), statement.word.span, once, context.found, title):
            out.blocks.setdefault(place, statement.word.span)
        if statement.block is not None:
            _walk(out, layer, statement.block.statements, word, name, context, once)


def _model_name(statement: Statement, keyword: Keyword, context: Context) -> str | None:
    if statement.bad:
        return None
    match = match_statement(keyword, statement, context, TOP)
    return None if match is None else str(match.captures["name"].value)


def _first_time(
    identity: tuple[str | None, str, str, tuple[str, ...]], span: Span,
    once: dict[tuple[str | None, str, str, tuple[str, ...]], Span], found: list[Diagnostic], word: str,
) -> bool:  # fmt: skip
    """Reports the second statement of one key in one layer."""
    if identity in once:
        key = " ".join(identity[3])
        what = f"`{word} {key}`" if key and not key.startswith("#") else f"`{word}`"
        label = Label(once[identity], "first here")
        found.append(Diagnostic("E0305", f"{what} is written twice", span, "expected it once", (label,)))
        return False
    once[identity] = span
    return True


def make_entry(
    statement: Statement,
    keyword: Keyword,
    block: str,
    model: str | None,
    layer: Layer,
    context: Context,
    out: Collected,
) -> Entry | None:
    """The entry of one statement; None, with the reason reported, where it does not fit its form."""
    inner = _inner_entries(statement, keyword, layer, context, out) if statement.block is not None else ()
    match = None if statement.bad else match_statement(keyword, statement, context, block)
    if match is None or inner is None:
        out.bad.add((model, keyword.word))
        return None
    return Entry(keyword, model, block, key_of(keyword, match, statement), match, statement, layer, inner)


def key_of(keyword: Keyword, match: Match, statement: Statement) -> tuple[str, ...]:
    """The captures that make two statements of one word different."""
    if keyword.key == ("#",):
        span = statement.word.span
        return (f"#{span.file}:{span.line}:{span.col}",)
    return tuple(_key_text(match.captures.get(name)) or ("host" if name == "place" else "") for name in keyword.key)


def _key_text(captured: Captured | None) -> str:
    if captured is None:
        return ""
    value = captured.value
    if isinstance(value, CallValue):
        function = value.args.get("function")
        return value.name if function is None else f"{value.name}({function.value.written}:{function.value.entry})"
    return value.kind if isinstance(value, TypeValue) else str(value)


def _inner_entries(
    statement: Statement, keyword: Keyword, layer: Layer, context: Context, out: Collected
) -> tuple[Entry, ...] | None:
    """The statements of a `use`, `degrade` or `machine` block. In a `use` block commas separate properties."""
    assert statement.block is not None
    assert keyword.opens is not None
    before = len(context.found)
    once: dict[tuple[str | None, str, str, tuple[str, ...]], Span] = {}
    entries: list[Entry] = []
    for inner in _regroup(statement.block.statements) if keyword.opens == "use" else statement.block.statements:
        word = words_of(keyword.opens).get(inner.word.text)
        if word is None:
            _unknown_word(out, inner, keyword.opens, context.found)
        elif inner.block is not None:
            context.found.append(Diagnostic("E0304", f"`{inner.word.text}` takes no block", inner.block.span))
        else:
            entry = make_entry(inner, word, keyword.opens, None, layer, context, out)
            if entry is not None and _first_time(entry.identity, entry.span, once, context.found, entry.word):
                entries.append(entry)
    missing = [w for w, k in words_of(keyword.opens).items() if k.required and w not in {e.word for e in entries}]
    if missing and len(context.found) == before and not any(s.bad for s in statement.block.statements):
        names = listed((f"`{name}`" for name in missing), "and")
        context.found.append(Diagnostic("E0306", f"`{keyword.word}` needs {names}", statement.word.span))
    return tuple(entries) if len(context.found) == before else None


def _regroup(statements: tuple[Statement, ...]) -> Iterator[Statement]:
    """`{ isa a, cores 2 }` → one statement a property."""
    for statement in statements:
        groups = statement.groups
        if not groups:
            yield statement
            continue
        yield Statement(statement.word, groups[:1], statement.block, statement.bad)
        for group in groups[1:]:
            first = group[0]
            if isinstance(first, Atom) and first.kind == "WORD":
                yield Statement(first, (group[1:],) if len(group) > 1 else (), None, statement.bad)
            else:
                yield Statement(Atom("WORD", write_group(group)[:40], first.span), (), None, statement.bad)


def _check_block(statement: Statement, keyword: Keyword, found: list[Diagnostic]) -> bool:
    if keyword.opens is None and statement.block is not None:
        if not statement.bad:
            found.append(
                Diagnostic(
                    "E0304",
                    f"`{keyword.word}` takes no block",
                    statement.block.span,
                    "",
                    (),
                    (f"write: {usage(keyword)}",),
                )
            )
        return False
    if keyword.opens is not None and keyword.needs_block and statement.block is None:
        if not statement.bad:
            found.append(
                Diagnostic(
                    "E0303", f"`{keyword.word}` needs a block", statement.word.span, "expected { ... } after this"
                )
            )
        return False
    return True


_SHOWN = {TOP: "at the top of a file", "use": "in the block of `use`", "degrade": "in `degrade`"}


def _unknown_word(out: Collected, statement: Statement, block: str, found: list[Diagnostic]) -> None:
    """A word that the block does not have: it stands elsewhere, or nowhere."""
    if statement.bad:
        return
    word, span = statement.word.text, statement.word.span
    here = _SHOWN.get(block, f"in `{block}`")
    homes = [home for home in homes_of(word) if home != block]
    known = list(words_of(block))
    if homes and word not in known:
        places = listed(_SHOWN.get(h, f"in `{h}`") for h in homes)
        found.append(Diagnostic("E0302", f"`{word}` cannot stand {here}", span, "", (), (f"it stands {places}",)))
        return
    shown = word if len(word) <= 40 else word[:37] + "..."
    found.append(Diagnostic("E0301", f"there is no `{shown}` {here}", span, "", (), hint(word, known, "words here")))


def _drop(
    out: Collected, layer: Layer, statement: Statement, block: str, model: str | None, context: Context
) -> None:  # fmt: skip
    if statement.bad or not _check_block(statement, words_of(block)["drop"], context.found):
        return
    group = statement.groups[0] if statement.groups else ()
    first = group[0] if group else None
    known = words_of(block)
    if not isinstance(first, Atom) or first.kind != "WORD" or len(statement.groups) != 1:
        context.found.append(
            Diagnostic("E0201", "drop needs what to remove", statement.span, "expected a word, as in drop latency p99")
        )
        return
    if first.text not in known or first.text in ("drop", "infer", "include", "profile", "let"):
        droppable = [w for w in known if w not in ("drop", "infer", "include", "profile", "let")]
        help = hint(first.text, droppable, "words here")
        context.found.append(Diagnostic("E0301", f"there is no `{first.text}` to drop here", first.span, "", (), help))
        return
    key = " ".join(
        unquote(t.text) if isinstance(t, Atom) and t.kind == "STRING" else write_group((t,)) for t in group[1:]
    )
    out.drops.append(Drop(model, block, first.text, key, layer, statement.span))


def drop_models(collected: Collected) -> None:
    """`drop model NAME` takes effect before scopes are placed: what is left decides whether there is one model."""
    for drop in [d for d in collected.drops if d.block == TOP and d.word == "model" and d.key in collected.models]:
        collected.entries = [
            e for e in collected.entries if e.model != drop.key or e.layer.index >= drop.layer.index
        ]  # fmt: skip
        if not any(e.model == drop.key for e in collected.entries):
            del collected.models[drop.key]
            collected.seen = {s for s in collected.seen if s[0] != drop.key}
        collected.drops.remove(drop)


def place_scopes(collected: Collected, found: list[Diagnostic]) -> None:
    """With one model, what stands at top level holds for it; with several, only bundle targets may stand there."""
    names = list(collected.models)
    only = names[0] if len(names) == 1 else None
    if len(names) <= 1:
        collected.entries = [_moved(e, only) for e in collected.entries]
        collected.drops = [
            Drop(only, d.block, d.word, d.key, d.layer, d.span) if d.model is None and d.block in SCOPED else d
            for d in collected.drops
        ]
        collected.seen |= {(only, block, word) for model, block, word in collected.seen if model is None}
        once: dict[tuple[int, tuple[str | None, str, str, tuple[str, ...]]], Span] = {}
        for entry in collected.entries:
            identity = (entry.layer.index, entry.identity)
            if identity in once:
                label = Label(once[identity], "first here")
                found.append(
                    Diagnostic("E0305", f"`{entry.word}` is written twice", entry.span, "expected it once", (label,))
                )
            once[identity] = entry.span
        return
    for entry in collected.entries:
        if entry.model is None and entry.block in SCOPED:
            if entry.block == "targets" and entry.word in BUNDLE_TARGETS:
                continue
            inside = listed(f"`{name}`" for name in names)
            found.append(
                Diagnostic("E0309", f"with several models, `{entry.word}` must say for which", entry.span, "",
                           (), (f"move it into a `{entry.block}` block of model {inside}",))
            )  # fmt: skip


def _moved(entry: Entry, model: str | None) -> Entry:
    if entry.model is not None or entry.block not in SCOPED:
        return entry
    return Entry(entry.keyword, model, entry.block, entry.key, entry.match, entry.statement, entry.layer, entry.inner)
