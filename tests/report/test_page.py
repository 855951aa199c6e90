"""The page itself: what is not there is said, what others wrote is text and nothing else, the same bundle gives the same bytes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infc.compiler.errors import Exit, InfcError
from infc.compiler.proof.loads import Load
from infc.compiler.report.drawing import draw_distribution, draw_ops
from infc.compiler.report.figures import CURVE_POINTS, curve_of, figures_of, quantile
from infc.compiler.report.limits import Bound, kinds_at_limit
from infc.compiler.report.page import render_report, write_report
from infc.compiler.report.profile import StepTime

from .bundles import BUILT, FINGERPRINT, SPEC, Run, full, latencies, make, scores
from .parsed import parse

EVIL = "</svg><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}$x^2$\u202e\x07"
BARE = SPEC[: SPEC.index("targets {")] + SPEC[SPEC.index("hardware {") :]


def rendered(folder: Path) -> str:
    return render_report(figures_of(folder))


def test_nothing_is_loaded_and_nothing_runs(tmp_path: Path) -> None:
    page = rendered(make(tmp_path / "b", answers=scores()))
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page
    for tag, attributes in parse(page).tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form", "img"), tag
        for key, value in attributes.items():
            assert not key.startswith("on"), key
            if key in ("href", "src", "xlink:href"):
                assert str(value).startswith("#"), value
    assert not re.search(r"url\((?!#)|@import", page)


def test_ids_are_unique_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    page = rendered(make(tmp_path / "b", answers=scores()))
    found = parse(page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for _, attributes in found.tags:
        for key in ("href", "xlink:href"):
            if key in attributes:
                assert str(attributes[key])[1:] in ids, attributes[key]
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(ids)


def test_every_figure_has_a_text_alternative_and_text_that_is_text(tmp_path: Path) -> None:
    page = rendered(make(tmp_path / "b", answers=scores()))
    figures = [a for tag, a in parse(page).tags if tag == "svg"]
    assert len(figures) == 9
    assert all(a["role"] == "img" and a["aria-label"] and a["viewbox"] for a in figures)
    assert page.count("<text") > 60
    assert "#0102" not in page, "a placeholder colour is left"


def test_the_same_bundle_gives_the_same_bytes_and_names_its_digest(tmp_path: Path) -> None:
    folder = make(tmp_path / "b", answers=scores())
    write_report(folder)
    first = (folder / "report.html").read_bytes()
    script = "import sys; from pathlib import Path; from infc.compiler.report.page import write_report; write_report(Path(sys.argv[1]))"
    shutil.copytree(folder, tmp_path / "elsewhere")
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "elsewhere")], check=True)
    assert (tmp_path / "elsewhere" / "report.html").read_bytes() == first
    assert figures_of(folder).digest.encode() in first


def test_what_others_wrote_is_text_and_nothing_else(tmp_path: Path) -> None:
    built: dict[str, Any] = json.loads(json.dumps(BUILT).replace("template:linear", "KERNEL"))
    built["ops"][0]["op"] = built["ops"][0]["provider"] = EVIL
    built["layers"][0] = {"layer": EVIL, "precision": EVIL, "reason": EVIL}
    built |= {
        "notes": [EVIL],
        "tail": {EVIL: EVIL},
        "islands": [{"steps": [EVIL], "why": EVIL}],
        "tools": {EVIL: EVIL},
        "precision": EVIL,
    }
    fingerprint = {**FINGERPRINT, "model_name": EVIL, EVIL: EVIL, "isa": [EVIL]}
    runs = [Run("look", Load(100.0), latencies(1, 20, 60), fingerprint=fingerprint, utc=EVIL)]
    page = rendered(make(tmp_path / "b", runs, answers=scores(), built=built, name=EVIL))
    tags = {tag for tag, _ in parse(page).tags}
    assert not tags & {"script", "img"}
    assert all(not key.startswith("on") for _, attributes in parse(page).tags for key in attributes)
    assert "alert(1)" in page
    assert "{{7*7}}" in page
    assert "$x^2$" in page
    assert "\u202e" not in page
    assert "\x07" not in page


def test_a_hostile_spec_is_text_too(tmp_path: Path) -> None:
    spec = SPEC.replace('"data/evaluate.npz"', '"data/<b>&x.npz"').replace(
        "accuracy    top1 >= 0.9 vs labels", 'accuracy    metric("<i>m&.py:fn") >= 0.5'
    )
    page = rendered(make(tmp_path / "b", spec=spec, answers=scores()))
    assert "&lt;i&gt;m&amp;.py" in page
    assert "i" not in {tag for tag, _ in parse(page).tags}


def test_a_bundle_without_targets_says_that_nothing_was_promised(tmp_path: Path) -> None:
    page = rendered(make(tmp_path / "b", [], spec=BARE))
    assert "Nothing was promised" in page
    assert "There is no evidence" in page
    assert 'id="targets"' not in page
    assert 'href="#latency"' not in page


def test_a_bundle_for_another_machine_says_that_nothing_was_measured(tmp_path: Path) -> None:
    built = {**BUILT, "ops": [{"op": "linear", "provider": "template:linear", "share": None, "steps": 3}]}
    page = rendered(make(tmp_path / "b", [], built=built))
    assert "There is no evidence: nothing was measured" in page
    assert "infc attach" in page
    assert "no times were taken" in page
    assert "not measured" in page


def test_targets_without_verdicts_are_not_judged(tmp_path: Path) -> None:
    assert "Not judged" in rendered(make(tmp_path / "b", [], judged=False))


def test_void_runs_are_shown_as_void(tmp_path: Path) -> None:
    page = rendered(make(tmp_path / "b", [Run("look", Load(100.0), latencies(1, 20, 60), lag=5e-3)]))
    assert "Every block is void" in page
    assert "is void as a whole" in page


def test_unknown_noise_is_unknown_and_not_zero(tmp_path: Path) -> None:
    page = rendered(make(tmp_path / "b", [Run("look", Load(100.0), latencies(1, 20, 60), steal=None, lag=None)]))
    numbers = parse(page).numbers
    assert "noise.0.steal" not in numbers
    assert "noise.0.lag_p99" not in numbers
    assert "Not read in every block: pressure, steal" in page


def test_loads_of_two_machines_are_told_apart(tmp_path: Path) -> None:
    other = {**FINGERPRINT, "model_name": "Another"}
    runs = [
        Run("look", Load(100.0), latencies(1, 20, 60)),
        Run("look", Load(100.0), latencies(2, 20, 80), fingerprint=other),
    ]
    page = rendered(make(tmp_path / "b", runs))
    numbers = parse(page).numbers
    assert (numbers["load.0.sent"], numbers["load.1.sent"]) == ("1200", "1600")
    assert (numbers["load.0.machine"], numbers["load.1.machine"]) == ("0", "1")


def test_a_load_that_nobody_answered_is_drawn(tmp_path: Path) -> None:
    refused = [np.full(60, np.inf) for _ in range(20)]
    numbers = parse(rendered(make(tmp_path / "b", [Run("look", Load(100.0), refused)]))).numbers
    assert numbers["load.0.ok"] == "0"
    assert numbers["load.0.curve.0.p50"] == "inf"


def test_a_single_request_and_a_single_start_are_drawn(tmp_path: Path) -> None:
    runs = [Run("look", Load(100.0), latencies(1, 1, 1)), Run("warm starts", starts=[0.2])]
    numbers = parse(rendered(make(tmp_path / "b", runs))).numbers
    assert numbers["start.warm.median"] == "0.2"
    assert "load.0.curve.0.p99" not in numbers


def test_the_page_stays_small_however_many_requests_there_are(tmp_path: Path) -> None:
    few = len(rendered(make(tmp_path / "few", [Run("look", Load(100.0), latencies(1, 20, 50))])))
    many = len(rendered(make(tmp_path / "many", [Run("look", Load(100.0), latencies(1, 20, 5000))])))
    assert many < few + 20_000
    assert len(rendered(make(tmp_path / "full", full(), answers=scores()))) < 300_000


def test_a_thousand_layers_are_cut_and_counted(tmp_path: Path) -> None:
    layers = [{"layer": f"layer.{i}", "precision": "int8", "reason": ""} for i in range(1000)]
    page = rendered(make(tmp_path / "b", [], built={**BUILT, "layers": layers}))
    assert parse(page).numbers["layers.int8"] == "1000"
    assert page.count("<bdi data-text>layer.") == 400
    assert "The others are in evidence/build.json" in page


def test_changed_evidence_makes_no_report(tmp_path: Path) -> None:
    folder = make(tmp_path / "b")
    path = folder / "evidence" / "001.json"
    path.write_bytes(path.read_bytes().replace(b'"seed": 1,', b'"seed": 2,'))
    with pytest.raises(InfcError, match="changed") as raised:
        write_report(folder)
    assert raised.value.exit_code == Exit.DAMAGED
    assert not (folder / "report.html").exists()


def test_a_link_in_a_bundle_is_replaced_and_not_followed(tmp_path: Path) -> None:
    folder = make(tmp_path / "b", [])
    (tmp_path / "precious").write_text("mine")
    (folder / "report.html").symlink_to(tmp_path / "precious")
    write_report(folder)
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (folder / "report.html").is_symlink()
    assert not list(folder.glob(".report*"))


def test_verdicts_of_another_spec_make_no_report(tmp_path: Path) -> None:
    folder = make(tmp_path / "b")
    spec = folder / "spec.infer"
    spec.write_text(spec.read_text().replace("  latency     max <= 100 ms\n", ""))
    with pytest.raises(InfcError, match="judges 12 targets, and its spec has 11"):
        write_report(folder)


def test_a_build_report_of_another_shape_is_damage(tmp_path: Path) -> None:
    with pytest.raises(InfcError, match="build.json") as raised:
        figures_of(make(tmp_path / "b", [], built={**BUILT, "ops": "many"}))
    assert raised.value.exit_code == Exit.DAMAGED


@pytest.mark.parametrize("n", [1, 2, 3, 99, 299, 300, 301, 5000])
def test_a_curve_keeps_its_ends_its_tail_and_the_share_above(n: int) -> None:
    values = np.random.default_rng(n).lognormal(size=n)
    curve = curve_of("x", values)
    assert len(curve.x) <= CURVE_POINTS
    assert (curve.x[0], curve.x[-1]) == (values.min(), values.max())
    assert set(np.sort(values)[-min(n, 100) :]) <= set(curve.x)
    for x, y in zip(curve.x, curve.y, strict=True):
        assert y == pytest.approx(np.mean(values > x))


def test_a_quantile_is_not_told_of_too_few() -> None:
    values = np.arange(1.0, 100.0)
    assert quantile(values, 0.99) is None
    assert quantile(np.append(values, 100.0), 0.99) == 99.0
    assert quantile(np.append(values, np.inf), 0.5) == 50.0


def test_markup_in_labels_is_drawn_as_it_is() -> None:
    curve = curve_of("x", np.array([1e-3, 2e-3]))
    assert "<script" not in draw_distribution("a", EVIL, [curve], [], EVIL[:20])
    from infc.compiler.report.built import OpTime

    svg = draw_ops("a", "x", [OpTime(op=r"$\frac{1}{2}$", provider="<b>", steps=1, share=1.0)])
    assert r"$\frac{1}{2}$ · &lt;b&gt;" in svg


def test_dark_is_for_screens_and_print_is_light(tmp_path: Path) -> None:
    page = rendered(make(tmp_path / "b", []))
    assert "@media screen and (prefers-color-scheme: dark)" in page
    assert len(re.findall(r"prefers-color-scheme", page)) == 1
    assert "@media print" in page


def test_kinds_at_limit_pool_the_steps_of_an_op_and_provider() -> None:
    steps = [
        StepTime("a", "linear", "t", 1, 4.0),
        StepTime("b", "linear", "t", 1, 4.0),
        StepTime("c", "add", "tvm", 1, 1.0),
    ]
    bounds = [Bound(3.0, "int8", 1.0), Bound(1.0, "weights from L3", 1.0), Bound(0.5, "values from L2", 1.0)]
    assert kinds_at_limit(steps, bounds) == {("linear", "t"): (0.5, "int8"), ("add", "tvm"): (0.5, "values from L2")}
