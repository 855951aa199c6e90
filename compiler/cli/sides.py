"""What a bundle, a lock or a document of evidence says, by sections of named values; and two of them beside each other."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from ...runtime.document import open_regular
from ..errors import InfcError

Kind = Literal["bundle", "lock", "evidence"]
Values = Mapping[str, str]
SECTIONS = (
    "targets", "measured", "load", "machine", "subject", "settings", "inputs", "tools", "choices", "tuning", "layers", "ops",
    "sizes",
)  # fmt: skip
"""In the order in which they are shown."""
ALWAYS = ("targets", "measured")
"""Sections whose rows are shown where they are equal, too."""
MOST_BYTES = 512 << 20
CONFIDENCE = 0.95
QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))
DIGITS_OF_DIGEST = 12


@dataclass(frozen=True)
class Side:
    """One of the two: its kind, and what it has; a section that its kind does not have is absent."""

    kind: Kind
    sections: Mapping[str, Values] = field(default_factory=dict[str, Values])


@dataclass(frozen=True)
class Row:
    """One value of both; "" where a side has it not."""

    name: str
    a: str
    b: str

    @property
    def equal(self) -> bool:
        """Whether both say the same."""
        return self.a == self.b


@dataclass(frozen=True)
class Section:
    """The rows to show, how many others are equal, and `why` it could not be compared, or ""."""

    name: str
    rows: tuple[Row, ...] = ()
    equal: int = 0
    why: str = ""

    @property
    def equal_all(self) -> bool:
        """Whether nothing differs."""
        return all(row.equal for row in self.rows)


def compare(a: Side, b: Side) -> list[Section]:
    """Each section in which either has anything; of different kinds the values that both name."""
    return [_compare(name, a, b) for name in SECTIONS if a.sections.get(name) or b.sections.get(name)]


def _compare(name: str, a: Side, b: Side) -> Section:
    for side, letter in ((a, "A"), (b, "B")):
        if name not in side.sections:
            return Section(name, why=f"{letter} is {_article(side.kind)}, which has none")
    one, two = a.sections[name], b.sections[name]
    names = dict.fromkeys([*one, *two]) if a.kind == b.kind else [key for key in one if key in two]
    rows = [Row(key, one.get(key, ""), two.get(key, "")) for key in names]
    shown = tuple(row for row in rows if name in ALWAYS or not row.equal)
    return Section(name, shown, len(rows) - len(shown))


def _article(kind: Kind) -> str:
    return "evidence" if kind == "evidence" else f"a {kind}"


def read_side(path: Path) -> Side:
    """Raises InfcError: exit 2 for what is no bundle, lock or evidence, 7 for a damaged one."""
    if path.is_dir():
        return _of_bundle(path)
    try:
        with open_regular(path.resolve()) as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        said = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise InfcError(f"{path} cannot be read: {said}", hint=_WANTED) from None
    if data.lstrip()[:1] == b"{":
        from ..proof.rejudge import read_document

        try:
            return Side("evidence", _of_document(read_document(data, path).said))
        except InfcError as error:
            raise InfcError(error.message, hint=_WANTED) from None
    try:
        found = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise InfcError(f"{path} is no lock: {str(error).splitlines()[0]}", hint=_WANTED) from None
    if not isinstance(found.get("inputs"), dict) or not isinstance(found.get("tools"), dict):
        raise InfcError(f"{path} is no lock: it does not name inputs and tools", hint=_WANTED)
    return Side("lock", of_lock(found))


_WANTED = "infc diff takes bundles (folders), locks (NAME.infer.lock) and documents of evidence (evidence/NNN.json)"


# ── locks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def of_lock(lock: Mapping[str, Any]) -> dict[str, Values]:
    """Inputs, tools, choices and tuning; digests are cut, since people read them."""
    layers: dict[str, str] = {}
    choices: dict[str, str] = {}
    for name, value in _flat(lock.get("choice", {})).items():
        if name.endswith("layers"):
            for layer in cast(list[str], value):
                key, _, precision = str(layer).rpartition("=")
                layers[key] = precision
        else:
            choices[name] = _shown(value)
    return {
        "inputs": {key: _shown(value)[:DIGITS_OF_DIGEST] for key, value in _flat(lock.get("inputs", {})).items()},
        "tools": _tools(lock.get("tools", {})),
        "choices": choices,
        "tuning": {key: _shown(value) for key, value in _flat(lock.get("tuning", {})).items()},
        "layers": layers,
    }


def _tools(found: Mapping[str, Any]) -> dict[str, str]:
    """Versions; a digest instead of one is cut."""
    return {key: v if len(v := _shown(value)) < 40 else v[:DIGITS_OF_DIGEST] for key, value in found.items()}


def _flat(table: Any, prefix: str = "") -> dict[str, Any]:
    """A table's values by dotted names."""
    found: dict[str, Any] = {}
    for key, value in (cast(dict[str, Any], table) if isinstance(table, dict) else {}).items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


# ── bundles ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_bundle(folder: Path) -> Side:
    from ..proof.admit import manifest_settings, subject_of
    from ..proof.rejudge import open_bundle
    from ..proof.verdict import interval
    from .output import format_bytes

    bundled = open_bundle(folder)
    found: dict[str, Values] = {}
    path = folder / "infer.lock"
    try:
        found |= of_lock(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError:
        pass  # a bundle without one says nothing of its inputs
    except ValueError as error:
        raise InfcError(f"{path} is no lock: {error}") from None
    report = bundled.report
    ops = cast(list[dict[str, Any]], report.get("ops", []))
    if ops:
        found["ops"] = {
            f"{op.get('op')} by {op.get('provider')}": _share(op.get("share"), op.get("steps")) for op in ops
        }
    if report.get("layers") and not found.get("layers"):
        found["layers"] = {str(item["layer"]): str(item["precision"]) for item in report["layers"]}
    found["sizes"] = {file.path: format_bytes(file.bytes) for file in bundled.manifest.files}
    found["sizes"] = {
        **found["sizes"],
        "memory ceiling": format_bytes(bundled.manifest.memory.serving_bytes),
        "content in all": format_bytes(sum(file.bytes for file in bundled.manifest.files)),
    }
    found["subject"] = {key: digest[:DIGITS_OF_DIGEST] for key, digest in subject_of(bundled).items()}
    found["settings"] = {key: _shown(value) for key, value in sorted(manifest_settings(bundled.manifest).items())}
    found["targets"] = {_claim(v.target): f"{v.target}: {interval(v)}, {v.verdict}" for v in bundled.stored or ()}
    return Side("bundle", found)


def _claim(target: str) -> str:
    """A target without its bound, so that two bounds stand beside each other: `latency p99`, `latency p50 at 20 req/s`."""
    words = target.split(" at ")
    head = words[0].split(" <= ")[0].split(" >= ")[0]
    versus = f" vs {words[0].split(' vs ')[1]}" if " vs " in words[0] else ""
    return " at ".join([head + versus, *words[1:]])


def _share(share: Any, steps: Any) -> str:
    known = f"{share:.1%} of the time" if isinstance(share, int | float) else "not timed"
    return f"{known}, {steps} steps"


# ── evidence ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_document(said: Any) -> dict[str, Values]:
    from ..proof.document import Run

    return _of_run(said) if isinstance(said, Run) else _of_answers(said)


def _of_run(run: Any) -> dict[str, Values]:
    from ..proof.document import Run
    from ..proof.rejudge import load_said

    assert isinstance(run, Run)
    requests, subject = run.load.requests, run.subject
    return {
        "measured": _measured(run),
        "load": {
            "load": str(load_said(run.load)),
            "requests": f"{requests.count} {'of a file' if requests.source == 'file' else 'generated'}",
            "digest of the requests": requests.digest[:DIGITS_OF_DIGEST],
            "blocks": f"{len(run.blocks)} of {run.block_s:g} s",
            "seed": str(run.seed),
        },
        "machine": {key: _shown(value) for key, value in sorted(run.fingerprint.items())},
        "subject": {
            **{path: digest[:DIGITS_OF_DIGEST] for path, digest in sorted(subject.files.items())},
            "models": subject.model[:DIGITS_OF_DIGEST],
        },
        "settings": {
            "cores": str(subject.cores),
            **{key: _shown(value) for key, value in sorted(subject.settings.items())},
        },
        "tools": _tools(run.tools),
    }


def _measured(run: Any) -> dict[str, str]:
    """Each figure of a run with its interval at CONFIDENCE, in words."""
    from ..proof.document import Run
    from ..proof.noise import clean
    from ..statistics.means import mean
    from ..statistics.order import percentile
    from .bench import time_text
    from .output import format_bytes

    assert isinstance(run, Run)
    side = (1 - CONFIDENCE) / 2
    found: dict[str, str] = {}
    latencies = [block.latencies for block in run.blocks if block.sent]
    for name, q in QUANTILES if latencies else ():
        seen = percentile(latencies, q, side, side)
        low, high = (time_text(x) if math.isfinite(x) and x > 0 else "?" for x in (seen.low, seen.high))
        value = time_text(seen.value) if math.isfinite(seen.value) else "no answer"
        found[f"latency {name}"] = f"{value} ({low}..{high})"
    if latencies:
        largest = max(float(part.max()) for part in latencies)
        found["latency max"] = time_text(largest) if math.isfinite(largest) else "no answer"
    if run.blocks:
        rate = mean([block.ok / block.elapsed_s for block in run.blocks], side, side)
        found["answered a second"] = f"{rate.value:.4g} ({max(rate.low, 0.0):.4g}..{rate.high:.4g})"
        found["requests"] = f"{sum(b.ok for b in run.blocks):,} of {sum(b.sent for b in run.blocks):,} answered"
        peaks = [b.peak_rss_bytes for b in run.blocks if b.peak_rss_bytes is not None]
        found["memory under load"] = format_bytes(max(peaks)) if peaks else "unknown"
        found["void"] = clean(run, None).void or "no"
    if run.starts:
        cold = "cold" if run.starts[0].cold else "warm"
        seen = percentile([[start.s] for start in run.starts], 0.95, side, side)  # pyright: ignore[reportArgumentType]
        high = time_text(seen.high) if math.isfinite(seen.high) else "?"
        found[f"{cold} start p95"] = f"{time_text(seen.value)} ({time_text(seen.low)}..{high})"
    if run.fill is not None and run.fill.peak_rss_bytes is not None:
        found["memory with the queue full"] = format_bytes(run.fill.peak_rss_bytes)
    return found


def _of_answers(answers: Any) -> dict[str, Values]:
    from ..proof.agreement import ENDS, interval_of
    from ..proof.answers import Answers
    from ..proof.verdict import digits
    from ..statistics.bootstrap import Sides

    assert isinstance(answers, Answers)
    side = (1 - CONFIDENCE) / 2
    measured: dict[str, str] = {}
    for scores in answers.scores:
        name = " ".join(filter(None, (f"accuracy {scores.metric}", scores.versus and f"vs {scores.versus}")))
        try:
            found = interval_of(scores, answers, Sides(side, side, *ENDS.get(scores.metric, (None, None))), ">=")
            low, high = (digits(x) if math.isfinite(x) else "?" for x in (found.low, found.high))
            said = digits(found.value) if low == high else f"{digits(found.value)} ({low}..{high})"
        except ValueError as error:
            said = f"undefined: {error}"
        measured[f"{name}, {scores.output}"] = said
    return {
        "measured": {**measured, "rows": f"{answers.rows:,}"},
        "subject": {"files of the models": answers.subject[:DIGITS_OF_DIGEST], "isa": answers.isa},
        "load": {"data": answers.data[:DIGITS_OF_DIGEST]},
    }
