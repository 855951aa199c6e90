"""What `check` accepts and `build` does not honour yet is refused by name, and nothing else is."""

from __future__ import annotations

import pytest

from infc.dsl import Diagnostic, check_text, unsupported_statements
from infc.dsl.keywords import KEYWORDS

from .samples import EMBEDDINGS, EVERYTHING, FRAUD

EMBED = 'infer 1\nmodel m { source huggingface("hf"); task embed; input text: string, up to 9 tokens }\n'
EVALUATE = 'data { evaluate jsonl("e.jsonl", field = "text") }\n'


def refused(text: str) -> list[Diagnostic]:
    spec = check_text(text).spec
    assert spec is not None, check_text(text).errors
    return unsupported_statements(spec)


@pytest.mark.parametrize(
    "text",
    [
        FRAUD,
        EMBED,
        FRAUD + "traffic { rate 5 req/s, steady }",
        FRAUD
        + "targets { latency p99 <= 9 ms; latency max <= 1 s; throughput >= 3 items/s; memory <= 1 GiB; bundle_size <= 1 GB }",
        FRAUD + "targets { cost <= 1 USD per 1M requests; cold_start <= 1 s; confidence 99 % }",
        EMBED + EVALUATE + "targets { accuracy cosine >= 0.9999 vs float32; accuracy mse <= 1 vs float32 }",
        EMBED + EVALUATE + "targets { accuracy top1 >= 0.9 vs float32; accuracy max_abs_error <= 1 vs float32 }",
        FRAUD + "hardware { use cpu { isa aarch64-neon, cores 2, memory 1 GiB, price 1 USD/h } }",
        FRAUD + 'hardware { use "aws:c7a.large" }',
        FRAUD + "traffic { rate 5 items/s, burst 2x for 1 s every 9 s; items 1..4 }",
        FRAUD + "traffic { offline }",
        FRAUD + "targets { latency p75 <= 9 ms; latency p99 <= 9 ms at 5 req/s, steady; cold_start cold <= 1 s }",
        FRAUD + EVALUATE + "targets { accuracy auc >= 0.9 vs labels; accuracy top5 >= 0.9 vs float32 }",
        FRAUD + EVALUATE + 'targets { accuracy metric("m.py:f") >= 0.9 }',
        FRAUD + 'hardware { use cpu { cores 1 }; accept cpu "AMD EPYC 9R14" }',
        FRAUD + "search { precision float32; budget 20 s; seed 3 }",
        FRAUD + "search { precision float32 }",
        FRAUD + 'search { precision int8; keep "head.*" bfloat16; keep "a" float32 }',
        FRAUD + "serve { protocols openai; queue 9 requests, deadline 1 s }",
        'infer 1\nmodel m { source export("m.pt2"); version "2"; alias "a" }',
    ],
)
def test_what_build_honours_is_not_refused(text: str) -> None:
    assert refused(text) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (FRAUD.replace('torch("model.py:make")', 'onnx("m.onnx")'), "source onnx"),
        (FRAUD.replace('torch("model.py:make")', 'jax("m.py:f")'), "source jax"),
        (EMBED.replace("task embed", "task generate"), "task generate"),
        (FRAUD.replace("float32[batch, 64]", "image(jpeg)"), "image input"),
        (FRAUD + "traffic { rate 9 tok/s }", "tok/s"),
        (FRAUD + "targets { throughput >= 9 tok/s }", "tok/s"),
        (FRAUD + "targets { latency p99 <= 9 ms at 9 tok/s }", "tok/s"),
        (EMBED + EVALUATE.replace(" }", ", seed 1 }"), "`seed` of data"),
        (FRAUD + EVALUATE + "targets { accuracy perplexity <= 9 vs float32 }", "accuracy perplexity"),
        (FRAUD + "targets { memory device <= 1 GiB }", "`memory device`"),
        (FRAUD + 'hardware { use cuda "h200" }', "use cuda"),
        (FRAUD + "hardware { use cpu { cores 1 }; use cpu { cores 2 } }", "a second `use`"),
        (FRAUD + "hardware { use cpu { count 2 } }", "`count`"),
        (FRAUD + "search { precision float32, int8 }", "a choice of precisions"),
        (FRAUD + "search { precision int8(group = 32) }", "`group` of int8"),
        (FRAUD + "search { precision float8 }", "precision float8"),
        (FRAUD + 'search { keep "a*" int4 }', "precision int4"),
        *(
            (FRAUD + f"search {{ {line} }}", f"`{line.split()[0]}`")
            for line in ("fusion auto", "batch 1..4", "wait 0..1 ms", "instances 1", "threads 2",
                         "prune up to 3 %", "objective minimize cost")
        ),
        (FRAUD + "serve { cache exact, 1 MiB }", "`cache`"),
        (FRAUD + 'serve { tenants header "x" }', "`tenants`"),
        (FRAUD + "serve { degrade { to variant float32 when queue > 9 % for 1 s, back below 1 % for 1 s } }", "`degrade`"),
        (EVERYTHING, "several models"),
        (EVERYTHING, "`ttft`"),
        (EVERYTHING, "a rise"),
    ],
)  # fmt: skip
def test_what_build_does_not_honour_is_refused_by_name_and_place(text: str, name: str) -> None:
    found = refused(text)
    assert any(name in d.title for d in found), [d.title for d in found]
    assert all(d.code == "E0801" and d.span is not None for d in found)


def test_every_statement_of_the_first_example_that_is_not_honoured_is_named() -> None:
    titles = " ".join(d.title for d in refused(EMBEDDINGS))
    words = (
        "use cuda",
        "a second `use`",
        "`count`",
        "a choice of precisions",
        "precision int4",
        "`fusion`",
        "`batch`",
        "`instances`",
        "`objective`",
        "`cache`",
        "`degrade`",
        "`tenants`",
    )
    assert [w for w in words if w not in titles] == []


def test_every_word_of_the_table_is_honoured_or_refused() -> None:
    """A word that the table says is not honoured must be one that the tests above see refused."""
    not_honoured = {k.word for k in KEYWORDS if k.honoured is False} - {"to"}  # `to` stands inside `degrade`
    seen = " ".join(d.title for text in (EMBEDDINGS, EVERYTHING) for d in refused(text))
    seen += " ".join(d.title for d in refused(FRAUD + "search { fusion auto; batch 1; instances 1 }"))
    assert [w for w in sorted(not_honoured) if f"`{w}`" not in seen] == []
