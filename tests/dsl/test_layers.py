"""Layers: include, let, profile, drop, --set, --use; and what `--resolved` makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from infc.dsl import CheckResult, Spec, check_file, check_text
from infc.dsl.resolved import write_resolved
from infc.dsl.spec import CostTarget, Dim, LatencyTarget, MemoryTarget, Precision, Queue, Rate

from .samples import EMBEDDINGS, EVERYTHING, FRAUD

TARGETS = "targets { latency p99 <= 20 ms at 5 req/s, steady; latency p50 <= 9 ms; memory <= 1 GiB }\n"


def spec_of(result: CheckResult) -> Spec:
    assert result.spec is not None, [f"{d.span}: {d.title}" for d in result.errors]
    return result.spec


def bounds(spec: Spec) -> dict[str, float]:
    return {t.statistic if isinstance(t, LatencyTarget) else t.kind: t.bound for t in spec.model.targets.items}


def write(folder: Path, **files: str) -> Path:
    (folder / "model.py").write_text("")
    for name, text in files.items():
        path = folder / f"{name}.infer"
        path.write_text(text if text.startswith("infer") else "infer 1\n" + text)
    return folder / "main.infer"


def test_a_later_layer_replaces_the_same_key_and_otherwise_adds(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        base=TARGETS,
        main='include "base.infer"\n' + FRAUD[8:] + "targets { latency p99 <= 30 ms; bundle_size <= 1 GB }",
    )
    assert bounds(spec_of(check_file(main))) == {"p99": 0.03, "p50": 0.009, "memory": 1 << 30, "bundle_size": 10**9}


def test_use_input_and_protocols_are_replaced_whole(tmp_path: Path) -> None:
    base = (
        "model fraud { input a: float32[batch, 1]; input b: float32[batch, 1] }\n"
        "hardware { use cpu { cores 1 }; use cpu { cores 2 } }\nserve { protocols kserve, openai; queue 8 requests }\n"
    )
    text = 'include "base.infer"\n' + FRAUD[8:] + "hardware { use cpu { cores 4 } }\nserve { protocols openai }\n"
    spec = spec_of(check_file(write(tmp_path, base=base, main=text)))
    assert [i.name for i in spec.model.inputs] == ["features"]
    assert [h.cores for h in spec.hardware] == [4]
    assert spec.serve.protocols == ("openai",)
    assert spec.serve.queue.requests == 8


def test_an_included_file_in_another_folder_has_paths_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "net.py").write_text("")
    (tmp_path / "shared" / "base.infer").write_text('infer 1\nmodel fraud { source torch("net.py:make") }\n')
    main = write(tmp_path, main='include "shared/base.infer"\nmodel fraud { input x: float32[batch, 2] }\n')
    spec = spec_of(check_file(main))
    assert spec.model.source.path == str(tmp_path / "shared" / "net.py")
    assert 'torch("shared/net.py:make")' in spec.resolved
    assert [Path(f).name for f in spec.files] == ["main.infer", "base.infer"]


def test_a_file_that_is_included_twice_counts_once(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        a='include "c.infer"',
        b='include "c.infer"',
        c=TARGETS,
        main='include "a.infer"\ninclude "b.infer"\n' + FRAUD[8:],
    )
    assert len(spec_of(check_file(main)).model.targets.items) == 3


def test_a_profile_holds_only_when_it_is_asked_for() -> None:
    text = (
        FRAUD + TARGETS + "profile ci { targets { drop latency p50; memory <= 2 GiB }; serve { queue 4 requests } }\n"
    )
    assert bounds(spec_of(check_text(text))) == {"p99": 0.02, "p50": 0.009, "memory": 1 << 30}
    spec = spec_of(check_text(text, profile="ci"))
    assert bounds(spec) == {"p99": 0.02, "memory": 2 << 30}
    assert (spec.profile, spec.serve.queue.requests) == ("ci", 4)


def test_drop_removes_a_word_a_key_or_a_block() -> None:
    text = (
        FRAUD
        + TARGETS
        + "serve { queue 4 requests }\nprofile a { targets { drop latency } }\nprofile b { drop serve; drop targets }\n"
    )
    assert set(bounds(spec_of(check_text(text, profile="a")))) == {"memory"}
    spec = spec_of(check_text(text, profile="b"))
    assert spec.model.targets.items == ()
    assert spec.serve.queue == Queue(requests=256)


def test_dropping_a_model_leaves_the_others() -> None:
    text = EVERYTHING + "profile less { drop model pictures; drop model table }\n"
    assert [m.name for m in spec_of(check_text(text, profile="less")).models] == ["words", "pairs"]


def test_a_let_stands_for_its_value_and_later_layers_change_it() -> None:
    text = 'infer 1\nlet p = 20 ms\nlet n = 3\nlet where = "model.py:make"\nlet q = p\n' + FRAUD[8:].replace(
        '"model.py:make"', "where"
    )
    text += "targets { latency p99 <= q; latency p50 <= n ms }\nprofile slow { let p = 40 ms }\n"
    assert bounds(spec_of(check_text(text))) == {"p99": 0.02, "p50": 0.003}
    assert bounds(spec_of(check_text(text, profile="slow")))["p99"] == 0.04
    assert bounds(spec_of(check_text(text, sets=["p=50 ms"])))["p99"] == 0.05
    assert "let" not in spec_of(check_text(text)).resolved


def test_set_replaces_the_bound_and_keeps_the_rest() -> None:
    spec = spec_of(check_text(FRAUD + TARGETS, sets=['targets.latency["p99"]=10ms']))
    target = spec.model.targets.items[0]
    assert isinstance(target, LatencyTarget)
    assert (target.bound, target.arrival) == (0.01, "steady")
    assert target.at_rate is not None
    span = target.at("bound")
    assert span is not None
    assert (span.file, span.col) == ("--set", 24)


CHANGES: list[tuple[str, Callable[[Spec], bool]]] = [
    ("targets.latency[p99.9]=10 ms", lambda s: s.model.targets.items[-1].bound == 0.01),
    ("targets.memory=2 GiB", lambda s: MemoryTarget(bound=2 << 30) in s.model.targets.items),
    ('targets.memory["device"]=3 GiB', lambda s: MemoryTarget(place="device", bound=3 << 30) in s.model.targets.items),
    ("targets.throughput=5 req/s", lambda s: s.model.targets.items[-1].bound == 5),
    ("targets.cost=1 USD", lambda s: CostTarget(bound=1.0) in s.model.targets.items),
    ("search.budget=30 s", lambda s: s.model.search.budget_s == 30),
    ("search.precision=float32, int8", lambda s: s.model.search.precisions[1] == Precision(kind="int8")),
    ("fraud.traffic.rate=80 req/s", lambda s: s.model.traffic.rate == Rate(value=80.0)),
    ("traffic.rate=80 req/s", lambda s: s.model.traffic.rate == Rate(value=80.0)),
    ('model.version="7"', lambda s: s.model.version == "7"),
    ('model.alias="other"', lambda s: s.model.alias == "other"),
    ("model.dim[batch]=1..8", lambda s: s.model.dim("batch") == Dim(name="batch", lo=1, hi=8)),
    ("serve.queue=12 requests", lambda s: s.serve.queue == Queue(requests=12, deadline_s=0.5)),
    ("serve.queue.deadline=1 s", lambda s: s.serve.queue == Queue(requests=8, deadline_s=1)),
    ("serve.protocols=openai", lambda s: s.serve.protocols == ("openai",)),
]


@pytest.mark.parametrize(("setting", "check"), CHANGES, ids=[setting for setting, _ in CHANGES])
def test_set_changes_one_value(setting: str, check: Callable[[Spec], bool]) -> None:
    text = FRAUD + TARGETS + "serve { queue 8 requests, deadline 500 ms }\n"
    assert check(spec_of(check_text(text, sets=[setting])))


def test_use_replaces_the_whole_hardware_block() -> None:
    text = FRAUD + 'hardware { use cpu { cores 8 }; use cuda "h200"; accept cpu "x" }\n'
    spec = spec_of(check_text(text, use="cpu { isa aarch64-neon, cores 2 }"))
    assert [(h.kind, h.isa, h.cores) for h in spec.hardware] == [("cpu", "aarch64-neon", 2)]
    assert spec.accepts == ()
    assert spec_of(check_text(FRAUD, use="aws:c7g.large")).hardware[0].isa == "aarch64-i8mm"
    assert spec_of(check_text(FRAUD, use='cuda "h100" { count 2 }')).hardware[0].count == (2, 2)


@pytest.mark.parametrize(
    "text", [EMBEDDINGS, FRAUD, EVERYTHING, FRAUD + TARGETS], ids=["embeddings", "fraud", "everything", "targets"]
)
@pytest.mark.parametrize("origins", [False, True])
def test_the_resolved_text_is_a_valid_spec_that_says_the_same(text: str, origins: bool) -> None:
    first = check_text(text)
    resolved = write_resolved(list(first.entries), list(first.models), origins)
    again = check_text(resolved)
    spec, other = spec_of(first), spec_of(again)
    assert (spec.models, spec.hardware, spec.serve, spec.bundle_targets, spec.accepts) == (
        other.models, other.hardware, other.serve, other.bundle_targets, other.accepts,
    )  # fmt: skip
    assert other.resolved == spec.resolved


def test_each_resolved_line_says_where_it_was_written(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        base=TARGETS,
        main='include "base.infer"\n' + FRAUD[8:] + "profile ci { serve { queue 4 requests } }\n",
    )
    result = check_file(main, profile="ci", sets=["targets.memory=3 GiB"], use="cpu { cores 1 }")
    lines = write_resolved(list(result.entries), list(result.models), True).splitlines()

    def origin(start: str) -> str:
        return next(line.split("#")[1].strip() for line in lines if line.strip().startswith(start))

    assert origin("latency p99") == f"{tmp_path}/base.infer:2"
    assert origin("source") == f"{main}:4"
    assert origin("memory") == "--set"
    assert origin("use cpu") == "--use"
    assert origin("queue").endswith("(profile ci)")
