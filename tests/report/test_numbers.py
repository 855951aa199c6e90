"""Every number on a report is what its evidence gives, computed here a second time and otherwise."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import shlex
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from infc.compiler.proof.rejudge import differences, judge_again, open_bundle
from infc.compiler.report.page import write_report

from .bundles import make, scores
from .parsed import Parsed, parse

WORDS = re.compile(r"\bp(50|90|95|99(\.9)?)\b|\bsha256\b|\b(infc|serve) \w+|float32")
"""Digits that are names."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make(tmp_path_factory.mktemp("report") / "fraud.bundle", answers=scores())
    write_report(made)
    return made


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def parsed(page: str) -> Parsed:
    return parse(page)


def raw(block: dict[str, Any]) -> NDArray[np.float64]:
    """A block's latencies in seconds, straight from the document's bytes; inf: refused."""
    counts = np.frombuffer(zlib.decompress(base64.b64decode(block["latency"])), "<u8")
    return np.where(counts < 1 << 63, counts / 1e9, math.inf)


def documents(folder: Path) -> dict[str, dict[str, Any]]:
    index = json.loads((folder / "evidence" / "index.json").read_text())["files"]
    return {name: json.loads((folder / "evidence" / name).read_text()) | {"kind": index[name]["kind"]}
            for name in sorted(index) if index[name]["kind"]}  # fmt: skip


def quantile(values: NDArray[np.float64], q: float) -> float:
    """The definition: the least value such that a share q is at or below it."""
    return min(v for v in np.unique(values) if (values <= v).sum() >= q * len(values) - 1e-9)


def expected(folder: Path) -> dict[str, Any]:
    """Every named number of the page, from evidence/ and manifest.json."""
    return dict(_expected(folder))


def _expected(folder: Path) -> Iterator[tuple[str, Any]]:
    found = documents(folder)
    manifest_text = (folder / "manifest.json").read_bytes()
    manifest = json.loads(manifest_text)
    yield "digest", hashlib.sha256(manifest_text).hexdigest()
    yield "content.files", len(manifest["files"])
    yield "content.bytes", sum(file["bytes"] for file in manifest["files"])
    yield "memory.ceiling", manifest["memory"]["serving_bytes"]
    yield "memory.swapping", manifest["memory"]["swapping_bytes"]
    targets = json.loads((folder / "evidence" / "targets.json").read_text())
    yield "targets", len(targets)
    for word in ("met", "missed", "not proved"):
        yield f"targets.{word}", sum(t["verdict"] == word for t in targets)
    for i, target in enumerate(targets):
        if target["value"] is not None:
            yield f"target.{i}.value", target["value"]
            exact = target["low"] == target["high"] == target["value"]
            for key in () if exact else ("low", "high"):
                if target[key] is not None:
                    yield f"target.{i}.{key}", target[key]
            if not exact and (target["low"], target["high"]) != (None, None) and target["confidence"] < 1:
                yield f"target.{i}.confidence", target["confidence"]
        if target["samples"]:
            yield f"target.{i}.samples", target["samples"]
    for i, (name, group) in enumerate(loads(found).items()):
        yield from _load(f"load.{i}", name, group)
        yield f"memory.load.{i}.name", name
        yield f"memory.load.{i}", max(b["peak_rss_bytes"] for d in group for b in d["blocks"])
    full = [d for d in found.values() if d.get("fill")]
    for i, document in enumerate(full):
        fill = document["fill"]
        yield f"memory.fill.{i}.peak", fill["peak_rss_bytes"]
        yield f"memory.fill.{i}.requests", fill["requests"]
        yield f"memory.fill.{i}.rows", fill["rows"]
        for status, count in fill["statuses"].items():
            yield f"memory.fill.{i}.status.{status}", count
    for which, cold in (("warm", False), ("cold", True)):
        starts = [s for d in found.values() for s in d.get("starts", []) if s["cold"] == cold]
        times = np.array([s["s"] for s in starts])
        yield f"start.{which}.samples", len(times)
        yield f"start.{which}.median", quantile(times, 0.5)
        yield f"start.{which}.p95", quantile(times, 0.95)
        yield f"start.{which}.longest", times.max()
        if cold:
            yield "start.cold.pages_left", max(s["pages_left"] for s in starts)
    built = json.loads((folder / "evidence" / "build.json").read_text())
    for i, op in enumerate(built["ops"]):
        for key in ("steps", "share", "of_limit"):
            if op[key] is not None:
                yield f"op.{i}.{key}", op[key]
    for precision in {layer["precision"] for layer in built["layers"]}:
        yield f"layers.{precision}", sum(layer["precision"] == precision for layer in built["layers"])
    runs = {name: d for name, d in found.items() if d["kind"] != "accuracy"}
    for i, document in enumerate(runs.values()):
        yield from _noise(f"noise.{i}", document)
    for i, (name, document) in enumerate(found.items()):
        if name in runs:
            yield f"document.{i}.seed", document["seed"]
            yield f"document.{i}.command", shlex.join(["./serve", *document["command"]])
    each = [(s, d["rows"]) for d in found.values() if d["kind"] == "accuracy" for s in d["scores"]]
    for i, (score, rows) in enumerate(each):
        values = np.frombuffer(zlib.decompress(base64.b64decode(score["values"])), "<f8")
        yield f"score.{i}.rows", rows
        yield f"score.{i}.least", values.min()
        yield f"score.{i}.mean", values.mean()
        yield f"score.{i}.largest", values.max()
    machine = next(iter(runs.values()))["fingerprint"]
    for key in ("cores", "physical_cores", "memory_bytes"):
        yield f"machine.0.{key}", machine[key]


def loads(found: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Documents by what they asked, named as a report names them; the declared one is the first."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for document in found.values():
        if document.get("blocks"):
            load = document["load"]
            steady = ", steady" if load["arrival"] == "steady" else ""
            name = (
                f"{load['rate']:g} req/s{steady}"
                if load["mode"] == "open"
                else f"{load['connections']} requests at a time"
            )
            groups.setdefault(name, []).append(document)
    return groups


def good(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Blocks that were sent in time, as the evidence of these tests has them: all of a run, or none."""
    return [b for b in document["blocks"] if b["lag_p99_s"] <= 1e-3]


def _load(at: str, name: str, group: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    blocks = [b for d in group for b in good(d)]
    seconds = sum(b["elapsed_s"] for b in blocks)
    yield f"{at}.name", name
    yield f"{at}.runs", len(group)
    yield f"{at}.blocks", sum(len(d["blocks"]) for d in group)
    yield f"{at}.void", sum(len(d["blocks"]) - len(good(d)) for d in group)
    yield f"{at}.sent", sum(len(raw(b)) for b in blocks)
    yield f"{at}.ok", sum(int(np.isfinite(raw(b)).sum()) for b in blocks)
    yield f"{at}.seconds", seconds
    yield f"{at}.answered", sum(int(np.isfinite(raw(b)).sum()) for b in blocks) / seconds
    yield f"{at}.answered_rows", sum(b["rows"] for b in blocks) / seconds
    if group[0]["load"]["rate"] is not None:
        yield f"{at}.wanted", group[0]["load"]["rate"]
    errors = [b["errors"] for b in blocks]
    for status in {s for e in errors for s in e}:
        yield f"{at}.error.{status}", sum(e.get(status, 0) for e in errors)
    for i, kind in enumerate(dict.fromkeys(d["kind"] for d in group)):
        values = np.concatenate([raw(b) for d in group if d["kind"] == kind for b in good(d)])
        yield f"{at}.curve.{i}.samples", len(values)
        yield f"{at}.curve.{i}.failed", int(np.isinf(values).sum())
        yield f"{at}.curve.{i}.longest", values.max()
        for q, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)):
            if len(values) * (1 - share) >= 1 - 1e-6:
                yield f"{at}.curve.{i}.{q}", quantile(values, share)


def _noise(at: str, document: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    blocks, before = document["blocks"], document["before"]
    yield f"{at}.jitter", before["jitter_p99_s"]
    for key in ("steal", "foreign", "pressure"):
        known = [x[key] for x in (before, *blocks) if x[key] is not None]
        if known:
            yield f"{at}.{key}", max(known)
    if not blocks:
        return
    yield f"{at}.load", next(iter(loads({"": document})))
    yield f"{at}.blocks", len(blocks)
    yield f"{at}.faults", len(blocks) - len(good(document))
    yield f"{at}.connections", max(b["connections_most"] for b in blocks)
    for name, key in (
        ("lag_p99", "lag_p99_s"),
        ("lag_max", "lag_max_s"),
        ("server_cpu", "server_cpu"),
        ("generator_cpu", "generator_cpu"),
    ):
        yield f"{at}.{name}", max(b[key] for b in blocks)
    if not good(document):
        lag = max(b["lag_p99_s"] for b in blocks)
        why = f"the load was sent {lag * 1e3:.2g} ms late (p99), and 1 ms is allowed"
        yield f"{at}.void", f"{len(blocks)} of {len(blocks)} blocks are void: {why}"


def test_every_number_is_recomputed_from_the_evidence(folder: Path, parsed: Parsed) -> None:
    wanted = expected(folder)
    assert sorted(parsed.numbers) == sorted(wanted)
    for name, value in wanted.items():
        if isinstance(value, str):
            assert parsed.numbers[name] == value, name
        else:
            assert float(parsed.numbers[name]) == pytest.approx(float(value), rel=1e-12, abs=0), name


def test_no_digit_stands_outside_of_a_named_number_or_a_copied_text(parsed: Parsed) -> None:
    loose = [text for text in parsed.rest if re.search(r"\d", WORDS.sub("", text))]
    assert not loose


def test_copied_texts_stand_in_the_evidence_manifest_or_spec(folder: Path, parsed: Parsed) -> None:
    known = said(folder)
    for text in parsed.copied:
        assert text in known or any(text in longer for longer in known), text


@cache
def said(folder: Path) -> frozenset[str]:
    """Every string and key of the bundle's JSON files."""

    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for key, inner in value.items():  # pyright: ignore[reportUnknownVariableType]
                yield str(key)  # pyright: ignore[reportUnknownArgumentType]
                yield from walk(inner)
        elif isinstance(value, list):
            for inner in value:  # pyright: ignore[reportUnknownVariableType]
                yield from walk(inner)
        elif isinstance(value, str):
            yield value

    files = [folder / "manifest.json", *(folder / "evidence").glob("*.json")]
    return frozenset(text for file in files for text in walk(json.loads(file.read_text())))


def test_what_is_written_is_the_number_to_four_digits(parsed: Parsed) -> None:
    units = {"s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9, "%": 0.01, "B": 1, "GB": 1e9, "MB": 1e6, "KB": 1e3, "kB": 1e3}
    units |= {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10}
    checked = 0
    for name, text in parsed.shown.items():
        match = re.fullmatch(r"([\d,.]+(?:e[+-]?\d+)?) ?([a-zA-Zµ%]*)(/s| per .*)?", text)
        if match is None or parsed.numbers[name] == text:
            continue
        written = float(match[1].replace(",", "")) * units.get(match[2], 1)
        value = float(parsed.numbers[name])
        assert written == pytest.approx(value, rel=1e-3), (name, text)  # the ends of intervals are rounded away
        checked += 1
    assert checked > 150


def test_the_verdicts_are_those_that_the_evidence_gives(folder: Path) -> None:
    bundled = open_bundle(folder)
    again = judge_again(bundled, bundled.documents)
    assert not differences(bundled.stored, again)
    assert {v.verdict for v in again} == {"met", "missed", "not proved"}


def test_the_drawn_curve_is_the_share_of_recorded_latencies_that_took_longer(folder: Path, page: str) -> None:
    """Read back from the path of the first figure, its axes from the places of their labels."""
    group = loads(documents(folder))["100 req/s"]
    values = np.concatenate([raw(b) for d in group for b in good(d)])
    figure = page[page.index("<svg") : page.index("</svg>")]
    labels = {
        text: (float(x), float(y))
        for x, y, text in re.findall(r'<text [^>]*x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)</text>', figure)
    }
    lines = re.findall(r'<path d="([^"]+)"[^>]*stroke: var\(--one\)', figure)
    points = np.array([[float(x), float(y)] for x, y in re.findall(r"[ML] ([\d.]+) ([\d.]+)", max(lines, key=len))])
    across = (labels["100 ms"][0] - labels["1 ms"][0]) / math.log(100)
    times = 1e-3 * np.exp((points[:, 0] - labels["1 ms"][0]) / across)
    grid = [
        (float(y), float(z))
        for y, z in re.findall(r'd="M [\d.]+ ([\d.]+) +L [\d.]+ ([\d.]+) [^>]*var\(--grid\)', figure)
    ]
    levels = sorted({y for y, z in grid if y == z})  # the lines across: all, p50, p90, ...
    down = (levels[4] - levels[2]) / math.log(1e-3 / 0.1)
    shares = 0.1 * np.exp((points[:, 1] - levels[2]) / down)
    assert len(points) <= 400
    for q in (0.5, 0.9, 0.99, 0.999):
        drawn = np.interp(-math.log(1 - q), -np.log(shares), np.log(times))
        assert math.exp(drawn) == pytest.approx(quantile(values, q), rel=0.02), q
