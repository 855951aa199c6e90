"""JSON Schema of a resolved spec (`infc check --resolved --json`), made from the table of keywords."""

from __future__ import annotations

from .forms import usage
from .keywords import BUNDLE_TARGETS, SCOPED, TOP, Keyword, words_of


def json_schema() -> dict[str, object]:
    """Draft 2020-12. Each word maps to the texts of its statements, as they stand after the word."""
    model = {**_words("model"), **{name: _block(name) for name in SCOPED}}
    targets = {w: s for w, s in _words("targets").items() if w in BUNDLE_TARGETS}
    top: dict[str, object] = {
        "infer": {"const": 1, "description": words_of(TOP)["infer"].help},
        "model": {
            "type": "object",
            "description": words_of(TOP)["model"].help,
            "minProperties": 1,
            "additionalProperties": {
                "type": "object", "properties": model, "required": ["source"], "additionalProperties": False,
            },
        },
        "targets": {"type": "object", "properties": targets, "additionalProperties": False},
        "hardware": _block("hardware"),
        "serve": _block("serve"),
    }  # fmt: skip
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "infc resolved spec, language 1",
        "type": "object",
        "properties": top,
        "required": ["infer", "model"],
        "additionalProperties": False,
    }


def _block(name: str) -> dict[str, object]:
    help = words_of(TOP)[name].help
    return {"type": "object", "description": help, "properties": _words(name), "additionalProperties": False}


def _words(block: str) -> dict[str, object]:
    return {
        word: _word(k)
        for word, k in words_of(block).items()
        if word != "drop" and (k.opens is None or word in ("use", "degrade"))
    }


def _word(keyword: Keyword) -> dict[str, object]:
    many = bool(keyword.key)
    out: dict[str, object] = {
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
        "description": keyword.help,
        "x-form": usage(keyword),
        "x-honoured": keyword.honoured,
    }
    if not many:
        out["maxItems"] = 1
    if keyword.default:
        out["x-default"] = keyword.default
    return out
