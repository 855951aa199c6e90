"""A new bundle beside a baseline: figures of both, and whether the new one is worse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..errors import InfcError
from ..statistics.paired import LEAST_ROWS, pairs_for, ratio
from .verdict import digits

CONFIDENCE = 0.999
"""Of all claims together: so often is a new bundle that is no worse not called worse."""
MARGIN = 0.02
"""By how much more something may take before it is worse, where `--margin` does not say it."""
Word = Literal["worse", "not worse", "cannot tell", "shown"]
_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_SIZES = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))


@dataclass(frozen=True)
class Comparison:
    """One figure of both. `ratio` is above 1 where the new one is worse (of shares that tend to 1: of what they lack), within
    `low` and `high` at the level of this claim; None: it cannot be said. `word`: "shown" is no claim. `samples`: pairs, or rows."""

    what: str
    unit: str
    new: float | None
    old: float | None
    ratio: float | None
    low: float | None
    high: float | None
    word: Word
    note: str
    samples: int

    @property
    def worse(self) -> bool:
        """Whether the new bundle is worse in this."""
        return self.word == "worse"

    def as_json(self) -> dict[str, Any]:
        """A JSON object of the fields."""
        return {**asdict(self), "worse": self.worse}


@dataclass(frozen=True)
class Pairs:
    """A figure that each pair has of both, such that less is better. `rates`: it is one over what is shown. `judged` False:
    it is shown, and no claim. `unmeasured`: why there are no pairs, or fewer than were wanted."""

    what: str
    unit: str
    new: tuple[float, ...]
    old: tuple[float, ...]
    note: str = ""
    judged: bool = True
    rates: bool = False
    unmeasured: str = ""


@dataclass(frozen=True)
class Change:
    """A figure of rows. `error_new` and `error_old`: what is compared, less is better; `floor`: a rise that is rounding; `tests`:
    the probabilities of what was seen, were the new one no worse, in ways of their own; `half`: how far the rise may be off,
    for each level; `unknown`: why it cannot be told, or ""."""

    what: str
    new: float
    old: float
    error_new: float
    error_old: float
    floor: float
    tests: tuple[float, ...]
    rows: int
    half: tuple[float, ...] = ()
    note: str = ""
    unknown: str = ""
    equal: bool = False


@dataclass(frozen=True)
class Size:
    """Bytes, or the larger of a few; nan where both are the same and none is known. `least_new`: the least of those few;
    `judged` as in Pairs."""

    what: str
    new: float
    old: float
    note: str
    judged: bool = True
    samples: int = 1
    least_new: float = math.inf


Claim = Pairs | Change | Size


def claims_of(found: Sequence[Claim]) -> int:
    """How many statistical claims there are, among which the level is parted; at least 1."""
    return max(1, sum(isinstance(c, Change) and not c.equal or isinstance(c, Pairs) and c.judged for c in found))


def judge(claim: Claim, alpha: float, margin: float) -> Comparison:
    """The claim at its level."""
    if isinstance(claim, Pairs):
        return _of_pairs(claim, alpha, margin)
    if isinstance(claim, Change):
        return _of_change(claim, alpha, margin)
    over = 1.0 if math.isnan(claim.new) and math.isnan(claim.old) else _over(claim.new, claim.old)
    grown = over > 1 + margin and min(claim.least_new, claim.new) > claim.old
    word: Word = "shown" if not claim.judged else "worse" if grown else "not worse"
    return _comparison(claim.what, "B", claim.new, claim.old, (over, over, over), word, claim.note, claim.samples)


def _of_pairs(claim: Pairs, alpha: float, margin: float) -> Comparison:
    found = ratio(claim.new, claim.old, alpha)
    note, word = claim.note, _word(found.value, found.low, margin)
    if not claim.judged:
        word = "shown"
    elif word == "cannot tell":
        needed = pairs_for(alpha)
        few = f"{found.samples} pairs, and it takes {needed}" if found.samples < needed else "the pairs differ too much"
        note = "; ".join(filter(None, (note if found.samples else "", claim.unmeasured or few)))
    new, old = _middle(claim.new), _middle(claim.old)
    if claim.rates:
        new, old = _over(1, new), _over(1, old)
    return _comparison(
        claim.what, claim.unit, new, old, (found.value, found.low, found.high), word, note, found.samples
    )


def _word(value: float, low: float, margin: float) -> Word:
    """Worse where no less than the margin is left possible; where more is as likely as less, nothing can be told."""
    if low > 1 + margin:
        return "worse"
    return "not worse" if value <= 1 + margin else "cannot tell"


def _of_change(claim: Change, alpha: float, margin: float) -> Comparison:
    if claim.equal:
        return _comparison(
            claim.what, "", claim.new, claim.old, (1.0, 1.0, 1.0), "not worse", claim.note, claim.rows
        )  # fmt: skip
    rise = claim.error_new - claim.error_old
    matters = rise > max(claim.floor, margin * claim.error_old)
    shown = any(p <= alpha / len(claim.tests) for p in claim.tests)
    word: Word = "worse" if matters and shown else "cannot tell" if matters or claim.unknown else "not worse"
    note = claim.note
    if word == "cannot tell":
        note = f"{note}; {claim.unknown or 'so few rows changed that chance can do it'}"
    low = high = math.nan
    if claim.half and claim.error_old > 0:
        low, high = (
            _over(max(0.0, claim.error_new + side), claim.error_old) for side in (-claim.half[0], claim.half[0])
        )
    over = _over(claim.error_new, claim.error_old)
    return _comparison(claim.what, "", claim.new, claim.old, (over, low, high), word, note, claim.rows)


def _over(new: float, old: float) -> float:
    if new == old:
        return 1.0
    return new / old if old > 0 else math.inf


def _middle(values: Sequence[float]) -> float:
    ranked = sorted(values)
    return ranked[len(ranked) // 2] if ranked else math.nan


def _comparison(
    what: str, unit: str, new: float, old: float, over: tuple[float, float, float], word: Word, note: str, samples: int
) -> Comparison:
    value, low, high = (x if math.isfinite(x) else None for x in over)
    low = None if low == 0 else low
    a, b = (x if math.isfinite(x) else None for x in (new, old))
    return Comparison(what, unit, a, b, value, low, high, word, note, samples)


def headline(found: Sequence[Comparison]) -> str:
    """`WORSE than the baseline in 2 of 9: linear, latency p99`."""
    worse = [c.what for c in found if c.worse]
    claims = sum(c.word != "shown" for c in found)
    unknown = sum(c.word == "cannot tell" for c in found)
    more = f"; {unknown} cannot be told" if unknown else ""
    if worse:
        return f"WORSE than the baseline in {len(worse)} of {claims}: {', '.join(worse)}{more}"
    return f"not worse than the baseline in {claims - unknown} of {claims}{more}"


HEADER = ("against the baseline", "new", "old", "new ÷ old", "verdict", "how")


def rows(found: Sequence[Comparison]) -> list[tuple[str, ...]]:
    """A table's rows under HEADER."""
    return [
        (
            c.what,
            show(c.unit, c.new),
            show(c.unit, c.old),
            over_text(c),
            "WORSE" if c.worse else "" if c.word == "shown" else c.word,
            c.note,
        )
        for c in found
    ]


def over_text(found: Comparison) -> str:
    """`1.1 (1.07..1.12)`; of accuracy and rates too it is how much worse the new one is."""
    if found.ratio is None:
        return "?"
    value = _factor(found.ratio)
    if found.low is None and found.high is None or found.low == found.high:
        return value
    low, high = ("?" if x is None else _factor(x) for x in (found.low, found.high))
    return f"{value} ({low}..{high})"


def _factor(value: float) -> str:
    return f"{value:.3f}" if value < 100 else f"{value:.3g}"


def show(unit: str, value: float | None) -> str:
    """A figure for people; "" where there is none."""
    if value is None:
        return ""
    scales = _TIMES if unit == "s" else _SIZES if unit == "B" else ()
    if not scales:
        return f"{digits(value, tends_to_one=True)} {unit}".rstrip()
    scale, word = next(((s, w) for s, w in scales if abs(value) >= s), scales[-1])
    return f"{digits(value / scale)} {word}"


def as_json(found: Sequence[Comparison], baseline: str, digest: str, margin: float) -> dict[str, Any]:
    """The `baseline` object of --json."""
    return {
        "bundle": baseline,
        "digest": digest,
        "margin": margin,
        "confidence": CONFIDENCE,
        "worse": [c.what for c in found if c.worse],
        "comparisons": [c.as_json() for c in found],
    }


def markdown(found: Sequence[Comparison]) -> str:
    """A section for a pull request: what is worse or cannot be told first, then the rest."""
    order = {"worse": 0, "cannot tell": 1, "not worse": 2, "shown": 3}
    lines = [f"**{_cell(headline(found))}**", "", f"| {' | '.join(HEADER)} |", f"|{' --- |' * len(HEADER)}"]
    for row in rows(sorted(found, key=lambda c: order[c.word])):
        lines.append(f"| {' | '.join(map(_cell, row))} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def too_few(rows_seen: int) -> str:
    """Why a mean of so few rows says nothing; "" where they are enough."""
    return "" if rows_seen >= LEAST_ROWS else f"{rows_seen} rows, and it takes {LEAST_ROWS}"


def margin_of(text: str) -> float:
    """`2%`, `2 %` or `0.02` as a share. Raises InfcError (exit 2)."""
    number = text.strip().removesuffix("%")
    try:
        value = float(number) / (100 if number != text.strip() else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise InfcError(f"--margin is a share from 0 to 100 %, not {text!r}", hint="write --margin 2%")
    return value
