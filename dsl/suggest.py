"""`did you mean`: the nearest known name by edit distance."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name nearest to `word`, when it is near enough to be a slip: a third of its letters, at least one.

    Optimal string alignment distance (a swap of neighbours counts one); letters of the other case count a tenth.
    """
    best: str | None = None
    best_distance = max(1.0, len(word) / 3)
    for name in known:
        if abs(len(name) - len(word)) > best_distance:
            continue
        distance = _distance(word, name)
        if distance < best_distance or (distance == best_distance and best is None):
            best, best_distance = name, distance
    return best


def _distance(a: str, b: str) -> float:
    rows: list[list[float]] = [[float(j) for j in range(len(b) + 1)]]
    for i, x in enumerate(a, 1):
        row = [float(i)]
        for j, y in enumerate(b, 1):
            change = 0.0 if x == y else 0.1 if x.lower() == y.lower() else 1.0
            cost = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + change)
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, rows[-2][j - 2] + 1)
            row.append(cost)
        rows.append(row)
    return rows[-1][-1]


def listed(names: Iterable[str], last: str = "or") -> str:
    """`a, b or c`."""
    items = list(names)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}" if items else ""


def hint(word: str, known: Iterable[str], what: str = "known") -> tuple[str, ...]:
    """Help lines: the nearest name when there is one, else the names that there are."""
    names = list(known)
    found = nearest(word, names)
    if found is not None:
        return (f"did you mean `{found}`?",)
    if not names:
        return ()
    shown = names if len(names) <= 16 else [*names[:15], "..."]
    return (f"{what}: {', '.join(shown)}",)
