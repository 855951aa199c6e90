"""Diagnostics for machines: JSON, GitHub annotations, SARIF 2.1.0."""

from __future__ import annotations

from collections.abc import Iterable

from .codes import CODES
from .diagnostics import Diagnostic
from .span import Span


def to_json(diagnostic: Diagnostic) -> dict[str, object]:
    """One diagnostic as data; lines and columns from 1, `end` after the last character."""
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "title": diagnostic.title,
        "span": _place(diagnostic.span),
        "label": diagnostic.label,
        "labels": [{"span": _place(label.span), "text": label.text} for label in diagnostic.labels],
        "help": list(diagnostic.help),
    }


def _place(span: Span | None) -> dict[str, object] | None:
    return None if span is None else {"file": span.file, "line": span.line, "col": span.col, "end": span.end}


def to_github(diagnostics: Iterable[Diagnostic]) -> str:
    """Workflow commands, one a line: `::error file=x.infer,line=3,col=5,endColumn=9,title=E0203::...`."""
    out = ""
    for d in diagnostics:
        properties = [f"title={_escape(d.code, True)}"]
        if d.span is not None:
            properties = [
                f"file={_escape(d.span.file, True)}", f"line={d.span.line}", f"col={d.span.col}",
                f"endColumn={d.span.end}", *properties,
            ]  # fmt: skip
        message = "\n".join([d.title, *([d.label] if d.label else []), *(f"help: {h}" for h in d.help)])
        out += f"::{d.severity} {','.join(properties)}::{_escape(message, False)}\n"
    return out


def _escape(text: str, property: bool) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if property else text


def to_sarif(diagnostics: Iterable[Diagnostic], version: str) -> dict[str, object]:
    """A SARIF 2.1.0 log with one run (OASIS standard, 2020-03-27)."""
    found = list(diagnostics)
    used = sorted({d.code for d in found})
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "infc",
                        "version": version,
                        "rules": [
                            {
                                "id": code,
                                "shortDescription": {"text": CODES[code].title},
                                "fullDescription": {"text": CODES[code].text},
                                "defaultConfiguration": {"level": "warning" if code.startswith("W") else "error"},
                            }
                            for code in used
                        ],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(d, used) for d in found],
            }
        ],
    }


def _result(d: Diagnostic, used: list[str]) -> dict[str, object]:
    text = ". ".join([d.title, *([d.label] if d.label else []), *d.help])
    result: dict[str, object] = {
        "ruleId": d.code,
        "ruleIndex": used.index(d.code),
        "level": d.severity,
        "message": {"text": text},
        "locations": [] if d.span is None else [{"physicalLocation": _physical(d.span)}],
    }
    if d.labels:
        result["relatedLocations"] = [
            {"physicalLocation": _physical(label.span), "message": {"text": label.text}} for label in d.labels
        ]
    return result


def _physical(span: Span) -> dict[str, object]:
    region = {"startLine": span.line, "startColumn": span.col, "endColumn": span.end}
    return {"artifactLocation": {"uri": span.file.replace("\\", "/").replace(" ", "%20")}, "region": region}
