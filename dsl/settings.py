"""`--set KEY=VALUE` and `--use MACHINE`: the last layer, from the command line.

targets.latency["p99.9"]=10ms     replaces the bound and keeps the rest (`at RATE`, say)
search.budget=30 s                the value of a statement; a property: serve.queue.deadline=1 s
minilm.traffic.rate=80 req/s      with several models the model comes first; model.source=... with one
p=30 ms                           a `let`
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .cursor import Context
from .diagnostics import Diagnostic
from .entries import Collected, Entry, make_entry
from .forms import Part, parse_pattern
from .keywords import SCOPED, TOP, Keyword, words_of
from .load import Layer, Loaded
from .parse import parse_text
from .paths import Roots
from .span import Span
from .suggest import hint, listed
from .syntax import Atom, Group, Statement, Term, quote

SET, USE = "--set", "--use"
_SEGMENT = re.compile(r'([A-Za-z_][A-Za-z0-9_-]*)(?:\[\s*(?:"([^"]*)"|([^\]"]*))\s*\])?')


@dataclass(frozen=True, slots=True)
class Setting:
    """One `--set`: its segments (word, index or None), the terms of its value, and where it stands."""

    segments: tuple[tuple[str, str | None], ...]
    groups: tuple[Group, ...]
    span: Span
    line: int


def read_settings(sets: tuple[str, ...], loaded: Loaded) -> list[Setting]:
    """The settings of `--set` arguments, but for those of `let` values, which take effect at once."""
    loaded.texts[SET] = "\n".join(sets)
    return set_lets(parse_settings(sets, loaded.found), loaded)


def apply_options(
    settings: list[Setting], use: str | None, entries: list[Entry], collected: Collected, context: Context,
    loaded: Loaded,
) -> list[Entry]:  # fmt: skip
    """The entries with `--set` and `--use` applied, each a later layer than those before."""
    index = len(loaded.layers)
    entries = apply_settings(settings, entries, collected, context, index)
    if use is not None:
        entries = apply_use(use, entries, collected, context, index + len(settings), loaded.texts)
    return entries


def parse_settings(sets: tuple[str, ...], found: list[Diagnostic]) -> list[Setting]:
    """`--set` arguments, each a line of the pseudo file `--set`."""
    out: list[Setting] = []
    for line, text in enumerate(sets, 1):
        span = Span(SET, line, 1, max(len(text), 1) + 1)
        segments, at = _parse_key(text)
        if not segments or at >= len(text) or text[at] != "=" or "\n" in text or "\r" in text:
            title = "--set needs KEY=VALUE"
            help = ("as in --set 'targets.latency[\"p99\"]=10ms' or --set 'search.budget=30 s'",)
            found.append(Diagnostic("E0705", title, span, "", (), help))
            continue
        padded = "\n" * (line - 1) + "s" + " " * at + text[at + 1 :]
        statements, errors = parse_text(padded, SET)
        errors = [d for d in errors if d.code != "E0307"]
        found += errors
        if errors:
            continue
        if len(statements) != 1 or statements[0].block is not None or not statements[0].groups:
            found.append(Diagnostic("E0705", "--set needs one value after the `=`", span))
            continue
        out.append(Setting(tuple(segments), statements[0].groups, Span(SET, line, 1, at + 1), line))
    return out


def _parse_key(text: str) -> tuple[list[tuple[str, str | None]], int]:
    segments: list[tuple[str, str | None]] = []
    at = 0
    while (match := _SEGMENT.match(text, at)) is not None:
        index = match.group(2) if match.group(2) is not None else match.group(3)
        segments.append((match.group(1), index.strip() if index is not None else None))
        at = match.end()
        if at >= len(text) or text[at] != ".":
            break
        at += 1
    while at < len(text) and text[at] == " ":
        at += 1
    return segments, at


def set_lets(settings: list[Setting], loaded: Loaded) -> list[Setting]:
    """Settings of `let` values take effect; the others are returned."""
    rest: list[Setting] = []
    for setting in settings:
        name, index = setting.segments[0]
        if len(setting.segments) == 1 and index is None and name in loaded.lets and len(setting.groups) == 1:
            loaded.lets[name] = setting.groups[0]
        else:
            rest.append(setting)
    return rest


def apply_settings(
    settings: list[Setting], entries: list[Entry], collected: Collected, context: Context, index: int
) -> list[Entry]:
    """The entries with each setting applied as a layer of its own."""
    for number, setting in enumerate(settings):
        layer = Layer(index + number, SET, (), context.roots)
        entries = _apply(setting, entries, collected, context, layer)
    return entries


def _apply(setting: Setting, entries: list[Entry], collected: Collected, context: Context, layer: Layer) -> list[Entry]:
    place = _place(setting, collected, context)
    if place is None:
        return entries
    model, block, keyword, key, property = place
    here = [e for e in entries if (e.model, e.block, e.word) == (model, block, keyword.word)]
    if key is not None:
        here = [e for e in here if key in (" ".join(e.key), e.key[0] if e.key else "")]
    if len(here) > 1:
        keys = listed(f'["{" ".join(e.key)}"]' for e in here)
        _refuse(context, setting, f"there are several `{keyword.word}`", (f"add which one: {keyword.word}{keys}",))
        return entries
    before = here[0] if here else None
    groups = _new_groups(setting, keyword, before, key, property, context)
    if groups is None:
        return entries
    statement = Statement(Atom("WORD", keyword.word, setting.span), groups)
    entry = make_entry(statement, keyword, block, model, layer, context, collected)
    if entry is None:
        return entries
    collected.seen.add((model, block, keyword.word))
    if before is None:
        return [*entries, entry]
    return [entry if e is before else e for e in entries]


def _place(
    setting: Setting, collected: Collected, context: Context
) -> tuple[str | None, str, Keyword, str | None, str | None] | None:
    """Model, block, word, index and property that a key names."""
    segments = list(setting.segments)
    models = list(collected.models)
    only = models[0] if len(models) == 1 else None
    model: str | None = None
    if segments[0][0] in collected.models and segments[0][0] not in words_of(TOP):
        model = segments.pop(0)[0]
    elif segments[0][0] == "model":
        model = segments[0][1] or only
        if model is None or model not in collected.models:
            help = (f"models: {', '.join(models)}",) if models else ()
            _refuse(context, setting, "which model?", help)
            return None
        segments.pop(0)
    block = "model" if model is not None else ""
    if segments and segments[0][0] in (*SCOPED, *(("serve",) if model is None else ())) and len(segments) > 1:
        block = segments.pop(0)[0]
    elif segments and segments[0][0] == "hardware":
        _refuse(context, setting, "hardware is replaced whole", ("as in --use 'cpu { cores 2 }'",))
        return None
    if not block or not segments:
        known = [*SCOPED, "serve", "model", *models, *context.lets]
        _refuse(context, setting, f"there is no `{setting.segments[0][0]}` to set", hint(setting.segments[0][0], known))
        return None
    if model is None and block in SCOPED:
        model = only
    word, key = segments.pop(0)
    keyword = words_of(block).get(word)
    if keyword is None or keyword.opens is not None or word == "drop":
        words = [w for w, k in words_of(block).items() if k.opens is None and w != "drop"]
        _refuse(context, setting, f"there is no `{word}` to set in `{block}`", hint(word, words, "words there"))
        return None
    property = segments.pop(0)[0] if segments else None
    if segments:
        _refuse(context, setting, f"`{word}.{property}` has nothing inside to set", ())
        return None
    return model, block, keyword, key, property


def _new_groups(
    setting: Setting, keyword: Keyword, before: Entry | None, key: str | None, property: str | None, context: Context
) -> tuple[Group, ...] | None:
    value = setting.groups
    old = before.match.groups if before is not None else ()
    if property is not None:
        heads = {parse_pattern(p)[0].literal: p for p in keyword.properties}
        heads.pop("", None)
        if property not in heads or before is None or len(value) != 1:
            title = f"`{keyword.word}` has no property `{property}` to set"
            _refuse(context, setting, title, hint(property, heads, "properties"))
            return None
        group = (Atom("WORD", property, setting.span), *value[0])
        kept = tuple(g for g in old if not (isinstance(g[0], Atom) and g[0].text == property))
        return (*kept, group)
    if keyword.each or keyword.word == "objective":
        return value
    if len(value) != 1:
        _refuse(context, setting, f"`{keyword.word}` is set to one value", ("a comma separates several",))
        return None
    target = _main_capture(keyword)
    if before is not None:
        captured = before.match.captures.get(target or "")
        if captured is None:
            return value
        at, start, end = captured.where
        group = (*old[at][:start], *value[0], *old[at][end:])
        return (*old[:at], group, *old[at + 1 :])
    head = _fill(parse_pattern(keyword.head), keyword, target, value[0], key, setting.span)
    if head is None:
        help = ("write the whole statement in the spec or in a profile",)
        _refuse(context, setting, f"there is no `{keyword.word}` yet whose value could be set", help)
        return None
    return (head,)


def _main_capture(keyword: Keyword) -> str | None:
    """The capture that `--set` replaces: the bound, or the first one that is no part of the key."""
    names = [p.name for p in parse_pattern(keyword.head) if p.name]
    if "bound" in names:
        return "bound"
    return next((n for n in names if n not in keyword.key), None)


def _fill(
    parts: tuple[Part, ...], keyword: Keyword, target: str | None, value: Group, key: str | None, span: Span
) -> tuple[Term, ...] | None:
    """A head from its pattern: literals as they are, the key's captures from the index, the target from the value."""
    out: list[Term] = []
    for part in parts:
        if part.optional:
            name = part.optional[0].name
            if name in keyword.key and key is not None:
                out.append(Atom("WORD", key, span))
        elif part.literal:
            out.append(Atom("OP" if not part.literal[0].isalpha() else "WORD", part.literal, span))
        elif part.name == target:
            out += value
        elif part.name in keyword.key and key is not None:
            out.append(Atom("STRING", quote(key), span) if part.type == "string" else Atom("WORD", key, span))
        elif part.type == "events":
            out += [Atom("NUMBER", "1M", span), Atom("WORD", "requests", span)]
        else:
            return None
    return tuple(out)


def _refuse(context: Context, setting: Setting, title: str, help: tuple[str, ...]) -> None:
    context.found.append(Diagnostic("E0705", title, setting.span, "", (), help))


def apply_use(
    use: str, entries: list[Entry], collected: Collected, context: Context, index: int, texts: dict[str, str]
) -> list[Entry]:
    """`--use M` in the place of the whole hardware block. A bare name is a catalogue name."""
    text = use.strip()
    kinds = ("cpu", "cuda", "rocm", "tpu")
    bare = re.fullmatch(r"[A-Za-z0-9_.:/-]+", text) is not None and text not in kinds
    text = f"use {quote(text)}" if bare else f"use {text}"
    texts[USE] = text
    statements, errors = parse_text(text, USE)
    context.found += errors
    layer = Layer(index, USE, statements, Roots(context.roots.spec, context.roots.spec, context.roots.allowed))
    out = [e for e in entries if e.block != "hardware"]
    for statement in statements:
        if statement.word.text != "use":
            title = "--use takes what stands after `use`"
            help = ("as in --use 'cpu { isa aarch64-neon, cores 2 }'",)
            context.found.append(Diagnostic("E0705", title, statement.word.span, "", (), help))
            return entries
        entry = make_entry(statement, words_of("hardware")["use"], "hardware", None, layer, context, collected)
        if entry is not None:
            out.append(entry)
    return out
