"""The resolved spec as text: layers applied, `let` values in place; a valid spec by itself."""

from __future__ import annotations

from collections.abc import Iterator

from .entries import Entry
from .keywords import BUNDLE_TARGETS, SCOPED


def write_resolved(entries: list[Entry], models: list[str], origins: bool = False) -> str:
    """One statement a line, blocks in the language's order; with `origins` each line says where it was written.

    With one model, its data, traffic, targets and search stand at top level; with several, inside each model.
    """
    lines: list[tuple[str, str]] = [("infer 1", "")]
    for name in models:
        lines += [("", ""), (f"model {name} {{", "")]
        lines += _body(entries, name, "model", 1)
        if len(models) > 1:
            for block in SCOPED:
                lines += _block(entries, name, block, 1)
        lines.append(("}", ""))
    owner = models[0] if len(models) == 1 else None
    for block, model in ((b, owner if b in SCOPED else None) for b in (*SCOPED[:3], "hardware", "search", "serve")):
        inner = _block(entries, model, block, 0)
        lines += [("", ""), *inner] if inner else []
    if not origins:
        return "".join(f"{text}\n" for text, _ in lines)
    width = max((len(text) for text, origin in lines if origin), default=0)
    return "".join(f"{text:<{width}}  # {origin}\n" if origin else f"{text}\n" for text, origin in lines)


def _block(entries: list[Entry], model: str | None, block: str, depth: int) -> list[tuple[str, str]]:
    inner = list(_body(entries, model, block, depth + 1))
    pad = "  " * depth
    return [(f"{pad}{block} {{", ""), *inner, (f"{pad}}}", "")] if inner else []


def _body(entries: list[Entry], model: str | None, block: str, depth: int) -> Iterator[tuple[str, str]]:
    own = [e for e in entries if (e.model, e.block) == (model, block)]
    width = max((len(e.word) for e in own), default=0)
    for entry in own:
        text = entry.text()
        word, _, rest = text.partition(" ")
        line = f"{word:<{width}} {rest}".rstrip() if len({e.word for e in own}) > 1 else text
        yield "  " * depth + line, origin_of(entry)


def origin_of(entry: Entry) -> str:
    """Where an entry was written: `base.infer:4`, with the profile's name when it comes from one."""
    span = entry.statement.word.span
    place = span.file if span.file.startswith("--") else f"{span.file}:{span.line}"
    return f"{place} ({entry.layer.origin})" if entry.layer.origin.startswith("profile") else place


def to_json(entries: list[Entry], models: list[str]) -> dict[str, object]:
    """The resolved spec as data: block → word → its statements' texts; `json_schema()` describes it."""

    def words(model: str | None, block: str) -> dict[str, list[str]]:
        out: dict[str, list[str]] = {}
        for entry in entries:
            if (entry.model, entry.block) == (model, block):
                out.setdefault(entry.word, []).append(entry.text().partition(" ")[2])
        return out

    document: dict[str, object] = {"infer": 1}
    document["model"] = {
        name: {**words(name, "model"), **{b: w for b in SCOPED if (w := words(name, b))}} for name in models
    }
    shared = {w: t for w, t in words(None, "targets").items() if w in BUNDLE_TARGETS}
    document.update({b: w for b in ("hardware", "serve") if (w := words(None, b))})
    if shared:
        document["targets"] = shared
    return document
