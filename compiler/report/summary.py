"""A build's verdicts as Markdown, for a pull request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..proof.verdict import Verdict, binding, interval, overall

_WORDS = {"met": "met", "missed": "**missed**", "not proved": "*not proved*"}


def summary_markdown(
    name: str, digest: str, verdicts: Sequence[Verdict], report: Mapping[str, Any], allowed: frozenset[str]
) -> str:
    """The verdict, each target with its interval, what to relax, and what was built. What stands in a name or a note is text
    and no Markdown."""
    missed = binding(verdicts)
    word = overall(verdicts)
    head = f"### {plain(name)}: {word if verdicts else 'nothing was promised'}"
    if word == "not proved" and overall(verdicts, allowed) == "met":
        head += " (allowed)"
    lines = [head, ""]
    if verdicts:
        lines += ["| target | measured | verdict | how |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {plain(v.target)} | {plain(interval(v))} | {_WORDS[v.verdict]} | {plain(v.note)} |" for v in verdicts
        ]
        lines.append("")
    relaxed = [v.relaxed for v in missed if v.relaxed]
    if relaxed:
        lines += ["What would be met:", "", "```", *relaxed, "```", ""]
    size = sum(report["bytes"].values())
    lines.append(f"Model and weights {size / 1e6:,.1f} MB, {report['precision']}, digest `{digest[:12]}`.")
    return "\n".join(lines) + "\n"


def plain(text: str) -> str:
    """text with what Markdown or HTML would take for its own made plain, on one line."""
    escaped = re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", " ".join(text.split()))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in escaped)
