"""What a build says elsewhere: Markdown for a pull request, annotations at the spec's lines, the headline, the flags."""

from __future__ import annotations

import json

import pytest

from infc.compiler.cli.build import allowed_kinds, headline, joined, targets_table
from infc.compiler.errors import InfcError
from infc.compiler.proof.annotate import diagnostics_of
from infc.compiler.proof.verdict import Verdict, verdict_of
from infc.compiler.report.summary import plain, summary_markdown
from infc.dsl import check_text
from infc.dsl.machine import to_github, to_sarif
from infc.dsl.spec import Spec

TEXT = """infer 1
model m {
  source torch("m.py:f")
  input x: float32[batch, 4]
}
targets {
  latency p99 <= 20 ms
  memory <= 1 MiB
  cold_start <= 1 s
}
"""
REPORT = {"bytes": {"a": 1_500_000}, "precision": "float32"}


def outcome() -> tuple[Spec, list[Verdict]]:
    spec = check_text(TEXT, file="a.infer").spec
    assert spec is not None
    latency, memory, cold = spec.model.targets.items
    return spec, [
        verdict_of(
            latency, "met", confidence=0.95, value=0.003, low=0.0029, high=0.0031, samples=2000, note="x | <b>y</b>"
        ),
        verdict_of(memory, "missed", confidence=0.95, value=2e6, low=2e6, high=2e6, note="peak"),
        verdict_of(cold, "not proved", confidence=0.95, note="74 starts would decide it"),
    ]


def test_the_summary_is_a_table_and_its_text_is_text() -> None:
    _, verdicts = outcome()
    text = summary_markdown("a.infer", "d" * 64, verdicts, REPORT, frozenset())
    assert text.startswith("### a.infer: missed\n")
    assert "| latency p99 \\<= 20 ms | 3 ms (2.9 ms..3.1 ms) | met | x \\| \\<b\\>y\\</b\\> |" in text
    assert "```\nmemory <= 2 MB\n```" in text
    assert summary_markdown("a", "d", verdicts[::2], REPORT, frozenset({"cold_start"})).startswith(
        "### a: not proved (allowed)"
    )
    assert "nothing was promised" in summary_markdown("a", "d", [], REPORT, frozenset())
    assert plain("a\x1b[31m\nb") == "a\\x1b\\[31m b"


def test_annotations_point_at_the_bounds() -> None:
    spec, verdicts = outcome()
    found = diagnostics_of(spec, verdicts)
    assert [(d.code, d.span.line if d.span else 0) for d in found] == [("E0901", 8), ("W0901", 9)]
    github = to_github(found).splitlines()
    assert github[0].startswith("::error file=a.infer,line=8,col=13,")
    assert "relax it" in github[0]
    assert github[1].startswith("::warning file=a.infer,line=9,")
    log = json.loads(json.dumps(to_sarif(found, "0")))
    assert [r["ruleId"] for r in log["runs"][0]["results"]] == ["E0901", "W0901"]
    assert diagnostics_of(spec, []) == []


def test_the_first_line_says_the_verdict_and_what_was_allowed() -> None:
    _, verdicts = outcome()
    met, _, unproved = verdicts
    assert headline([met], frozenset()) == "met: 1 target"
    assert headline([met, met], frozenset()) == "met: all 2 targets"
    assert headline(verdicts, frozenset()) == "MISSED: 1 of 3 targets (memory <= 1 MiB)"
    assert headline([met, unproved], frozenset()) == "NOT PROVED: 1 of 2 targets (cold_start <= 1 s)"
    assert headline([unproved], frozenset({"cold_start"})).endswith(", which was allowed")
    assert not headline([unproved], frozenset({"latency"})).endswith("allowed")
    table = targets_table(verdicts).splitlines()
    assert table[0].split() == ["target", "measured", "verdict", "how"]
    assert "MISSED" in table[3]


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        (["x.infer", "--allow-unproved"], "all"),
        (["--allow-unproved", "x.infer"], "all"),
        (["--allow-unproved", "latency,throughput", "x.infer"], "latency,throughput"),
        (["--allow-unproved=memory", "x.infer"], "memory"),
    ],
)
def test_kinds_behind_the_flag_are_told_from_a_file(given: list[str], kinds: str) -> None:
    out = joined(given)
    assert [a for a in out if "x.infer" in a] == ["x.infer"]
    assert f"--allow-unproved={kinds}" in out


def test_a_kind_that_does_not_exist_is_named() -> None:
    assert allowed_kinds(None) == frozenset()
    assert "cost" in allowed_kinds("all")
    with pytest.raises(InfcError, match="'speed'"):
        allowed_kinds("latency,speed")
