"""Layers on top of each other: a later layer replaces the same key and otherwise adds; `drop` removes."""

from __future__ import annotations

from .diagnostics import Diagnostic
from .entries import Collected, Drop, Entry
from .keywords import TOP


def merge_entries(collected: Collected, found: list[Diagnostic]) -> list[Entry]:
    """The entries that hold, in the order in which their keys were first written."""
    merged: dict[tuple[str | None, str, str, tuple[str, ...]], Entry] = {}
    layers = sorted({e.layer.index for e in collected.entries} | {d.layer.index for d in collected.drops})
    for index in layers:
        for drop in (d for d in collected.drops if d.layer.index == index):
            _apply_drop(merged, drop, found)
        entries = [e for e in collected.entries if e.layer.index == index]
        replaced = {(e.model, e.block, e.word) for e in entries if e.keyword.whole}
        for identity in [i for i in merged if i[:3] in replaced]:
            del merged[identity]
        for entry in entries:
            merged[entry.identity] = entry
    return list(merged.values())


def _apply_drop(
    merged: dict[tuple[str | None, str, str, tuple[str, ...]], Entry], drop: Drop,
    found: list[Diagnostic],
) -> None:  # fmt: skip
    if drop.block == TOP:
        hit = [i for i in merged if i[1] == drop.word and drop.word != "model"]
    else:
        same = [i for i in merged if i[:3] == (drop.model, drop.block, drop.word)]
        hit = [i for i in same if not drop.key or drop.key in (" ".join(i[3]).strip(), i[3][0] if i[3] else "")]
    for identity in hit:
        del merged[identity]
    if not hit:
        there = sorted(
            {" ".join(p for p in (i[2], *i[3]) if p and not p.startswith("#")) for i in merged if i[1] == drop.block}
        )
        help = (f"earlier layers have: {', '.join(there)}",) if there else ("drop removes what an earlier layer wrote",)
        what = f"{drop.word} {drop.key}".strip()
        found.append(Diagnostic("E0706", f"no earlier layer has `{what}`", drop.span, "", (), help))
