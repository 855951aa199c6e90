"""`infc check`, `fmt`, `explain`, `new`: results on stdout, findings on stderr, exit codes, and what they import."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infc.compiler.cli.main import main
from infc.dsl import check_file, format_text, unsupported_statements
from infc.dsl.codes import CODES
from infc.dsl.explain import print_ast

from .samples import FRAUD

BROKEN = FRAUD.replace("}\n", "  targets { latency p99 <= 20 MiB }\n}\n")


@pytest.fixture
def specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one good and one broken spec, entered."""
    (tmp_path / "model.py").write_text("")
    (tmp_path / "good.infer").write_text(format_text(FRAUD)[0] or "")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "model.py").write_text("")
    (tmp_path / "sub" / "bad.infer").write_text(BROKEN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = main(list(argv))
    out, err = capsys.readouterr()
    return code, out, err


# ── check ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_check_says_so_when_nothing_is_wrong(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "check", "good.infer") == (0, "good.infer: no errors\n", "")
    assert run(capsys, "check", "-q", "good.infer") == (0, "", "")


def test_check_exits_2_and_prints_every_error_of_every_file_on_stderr(
    specs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "check", ".", "sub/bad.infer")
    assert (code, out) == (2, "")
    assert err.count("error[E0203]") == 1
    assert "--> sub/bad.infer:7:28" in err
    assert err.endswith("1 error\n")


def test_check_reads_stdin(specs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(BROKEN.encode())))
    code, _, err = run(capsys, "check", "-")
    assert code == 2
    assert "--> <stdin>:7:28" in err


def test_color_is_used_only_when_asked_for(
    specs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b[" not in run(capsys, "check", "sub/bad.infer")[2]
    assert "\x1b[1;31merror[E0203]" in run(capsys, "check", "--color", "always", "sub/bad.infer")[2]
    assert "\x1b[" not in run(capsys, "check", "--color=never", "sub/bad.infer")[2]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in run(capsys, "check", "sub/bad.infer")[2]
    code, _, err = run(capsys, "check", "--color", "sometimes", "good.infer")
    assert code == 2
    assert "sometimes" in err


@pytest.mark.parametrize("options", [["--json"], ["--format", "json"]])
def test_json_is_one_document_with_schema_and_exit_code(
    specs: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    code, out, err = run(capsys, "check", *options, ".")
    document: Any = json.loads(out)
    assert (code, document["exit_code"], document["schema"], err) == (2, 2, "infc.check/1", "")
    good, bad = document["files"]
    assert (good["file"], good["ok"], good["diagnostics"]) == ("good.infer", True, [])
    (found,) = bad["diagnostics"]
    assert found["code"] == "E0203"
    assert found["span"] == {"file": "sub/bad.infer", "line": 7, "col": 28, "end": 34}
    assert found["help"] == ["did you mean `20 ms`?"]


def test_bad_arguments_are_a_document_too(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "check", "--json")
    document: Any = json.loads(out)
    assert (code, document["exit_code"]) == (2, 2)


def test_github_format_is_a_workflow_command_a_line(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "check", "--format", "github", "sub/bad.infer")
    assert code == 2
    assert out.startswith("::error file=sub/bad.infer,line=7,col=28,endColumn=34,title=E0203::latency needs a time")
    assert out.count("\n") == 1


def test_sarif_names_rule_place_and_level(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "check", "--format", "sarif", "sub/bad.infer")
    document: Any = json.loads(out)
    assert document["version"] == "2.1.0"
    (result,) = document["runs"][0]["results"]
    assert (result["ruleId"], result["level"]) == ("E0203", "error")
    region = result["locations"][0]["physicalLocation"]["region"]
    assert region == {"startLine": 7, "startColumn": 28, "endColumn": 34}
    (rule,) = document["runs"][0]["tool"]["driver"]["rules"]
    assert rule["id"] == "E0203"


def test_resolved_prints_a_spec_with_origins(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(
        capsys, "check", "good.infer", "--resolved", "--set", "search.budget=9 s", "--use", "cpu { cores 3 }"
    )
    assert code == 0
    assert "budget 9 s" in out
    assert "# --set" in out
    (specs / "again.infer").write_text(out)
    again = check_file(specs / "again.infer").spec
    assert again is not None
    assert again.hardware[0].cores == 3


def test_resolved_as_json_fits_its_schema(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document: Any = json.loads(run(capsys, "check", "good.infer", "--resolved", "--json")[1])
    schema: Any = json.loads(run(capsys, "check", "--schema")[1])
    resolved = document["files"][0]["resolved"]
    assert resolved["model"]["fraud"]["source"] == ['torch("model.py:make")']
    model = schema["properties"]["model"]["additionalProperties"]
    assert set(resolved["model"]["fraud"]) <= set(model["properties"])
    assert set(model["required"]) <= set(resolved["model"]["fraud"])
    assert model["properties"]["targets"]["properties"]["latency"]["x-form"].startswith(
        "latency <percentile> <= <time>"
    )


def test_explain_lists_what_holds_and_what_is_a_default(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "check", "good.infer", "--explain")
    assert code == 0
    rows = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    assert "good.infer:3" in rows["source"]
    assert "default" in rows["confidence"]
    assert "95 %" in rows["confidence"]
    assert "not honoured by build yet" in rows["cache"]


def test_explain_says_where_the_limit_of_a_text_comes_from(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (specs / "m").mkdir()
    for name, said in {
        "config.json": {"max_position_embeddings": 512},
        "sentence_bert_config.json": {"max_seq_length": 128},
    }.items():
        (specs / "m" / name).write_text(json.dumps(said))
    spec = specs / "text.infer"
    spec.write_text('infer 1\n\nmodel m {\n  source  huggingface("m")\n  task    embed\n  input   text: string\n}\n')
    _, out, _ = run(capsys, "check", "text.infer", "--explain")
    dims = [line for line in out.splitlines() if line.startswith("  dim")]
    assert "batch in 1..64 " in dims[0]
    assert "tokens in 1..128 " in dims[1]
    assert " max_seq_length of sentence_bert_config.json " in dims[1]
    (specs / "m" / "sentence_bert_config.json").write_text('{"max_seq_length": "all"}')
    code, out, _ = run(capsys, "check", "text.infer", "--explain")
    assert (code, "max_seq_length is 'all', and a count is needed" in out) == (0, True)
    spec.write_text(spec.read_text().replace("string", "string, up to 64 tokens"))
    _, out, _ = run(capsys, "check", "text.infer", "--explain")
    assert [line.split("default")[0].strip() for line in out.splitlines() if line.startswith("  dim")] == [
        "dim          batch in 1..64, tokens in 1..64"
    ]


def test_the_ast_is_printed_a_statement_a_line(specs: Path) -> None:
    lines = print_ast(specs / "sub" / "bad.infer").splitlines()
    assert lines[1:3] == ["model fraud {  # 2:1", '  source torch("model.py:make")  # 3:3']
    assert "    latency p99 <= 20 MiB  # 7:13" in lines


def test_missing_files_are_errors_unless_told_otherwise(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (specs / "model.py").unlink()
    assert run(capsys, "check", "good.infer")[0] == 2
    assert run(capsys, "check", "good.infer", "--no-files")[0] == 0


def test_allow_path_and_profile_are_taken(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = FRAUD.replace("model.py", "../model.py") + "profile ci { serve { queue 3 requests } }\n"
    (specs / "sub" / "far.infer").write_text(text)
    assert run(capsys, "check", "sub/far.infer")[0] == 2
    code, out, _ = run(capsys, "check", "sub/far.infer", "--allow-path", ".", "--profile", "ci", "--resolved")
    assert code == 0
    assert "queue 3 requests" in out


def test_a_folder_without_specs_is_named(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (specs / "empty").mkdir()
    code, _, err = run(capsys, "check", "empty")
    assert code == 2
    assert "there is no .infer file in empty" in err


# ── fmt ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_fmt_writes_checks_and_shows(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = specs / "sub" / "bad.infer"  # a wrong value is no reason not to format
    before = path.read_text()
    assert run(capsys, "fmt", "--check", "sub")[0] == 2
    code, out, _ = run(capsys, "fmt", "--diff", "sub")
    assert code == 0
    assert "+  targets  { latency p99 <= 20 MiB }" in out
    assert path.read_text() == before
    assert run(capsys, "fmt", "sub")[0] == 0
    assert path.read_text() != before
    assert run(capsys, "fmt", "--check", ".")[0] == 0
    assert sorted(p.name for p in path.parent.iterdir()) == ["bad.infer", "model.py"]


def test_fmt_leaves_a_broken_file_alone(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = specs / "x.infer"
    path.write_text("model   m {\n")
    code, _, err = run(capsys, "fmt", "x.infer")
    assert code == 2
    assert "E0104" in err
    assert path.read_text() == "model   m {\n"


def test_fmt_reads_stdin_and_writes_stdout(
    specs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"infer   1")))
    assert run(capsys, "fmt", "-")[:2] == (0, "infer 1\n")


# ── explain CODE ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_explained(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exit_code, out, _ = run(capsys, "explain", code.lower())
    assert exit_code == 0
    assert code in out
    assert len(out) > 60


def test_an_unknown_code_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "explain", "E203")
    assert code == 2
    assert "E0203" in err
    assert "E0101" in run(capsys, "explain")[1]


# ── new ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_new_writes_a_spec_that_checks_and_that_build_honours(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "new", "churn")
    assert code == 0
    assert out.splitlines()[0] == "churn/churn.infer"
    result = check_file("churn/churn.infer")
    assert result.spec is not None
    assert result.diagnostics == ()
    assert unsupported_statements(result.spec) == []
    assert run(capsys, "fmt", "--check", "churn")[0] == 0
    code, _, err = run(capsys, "new", "churn")
    assert code == 2
    assert "churn exists already" in err


def test_new_from_a_model_folder_copies_what_a_build_reads(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = specs / "hf"
    (source / "1_Pooling").mkdir(parents=True)
    (source / "config.json").write_text('{"max_position_embeddings": 512, "vocab_size": 30}')
    (source / "sentence_bert_config.json").write_text('{"max_seq_length": 256}')
    for name in ("model.safetensors", "tokenizer.json", "modules.json", "1_Pooling/config.json", "pytorch_model.bin"):
        (source / name).write_text("{}")
    assert run(capsys, "new", "mine", "--from", "hf")[0] == 0
    result = check_file("mine/mine.infer")
    assert result.spec is not None
    assert (result.spec.model.task.kind, result.spec.model.inputs[0].limit_tokens) == ("embed", 256)
    assert (specs / "mine" / "model" / "1_Pooling" / "config.json").exists()
    assert not (specs / "mine" / "model" / "pytorch_model.bin").exists(), "pickles are not copied"
    assert run(capsys, "fmt", "--check", "mine")[0] == 0
    assert run(capsys, "new", "raw", "--from", "hf", "--task", "tensor")[0] == 0
    raw = check_file("raw/raw.infer").spec
    assert raw is not None
    assert raw.model.data.evaluate is not None
    assert run(capsys, "fmt", "--check", "raw")[0] == 0


def test_new_says_which_task_it_took(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = specs / "hf"
    source.mkdir()
    (source / "config.json").write_text('{"architectures": ["BertModel"]}')
    (source / "model.safetensors").write_text("{}")
    assert "\ntask tensor, as the folder was saved\n" in "\n" + run(capsys, "new", "a", "--from", "hf")[2]
    assert (
        "hf has no tokenizer.json and none of vocab.txt, "
        in run(capsys, "new", "c", "--from", "hf", "--task", "embed")[2]
    )
    (source / "spiece.model").write_text("{}")
    assert "saved; `--task embed` makes embeddings of texts" in run(capsys, "new", "b", "--from", "hf")[2]
    assert "as the folder was saved" not in run(capsys, "new", "d", "--from", "hf", "--task", "tensor")[2]


@pytest.mark.parametrize(
    ("labels", "kind", "inputs"),
    [
        ({"0": "LABEL_0"}, "rerank", ["query", "document"]),
        ({"0": "sad", "1": "glad"}, "classify", ["text"]),
        (None, "classify", ["text"]),
        ({"0": "ENTAILMENT", "1": "neutral", "2": "contradiction"}, "classify", ["premise", "hypothesis"]),
        ({"0": "O", "1": "B-PER"}, "tag", ["text"]),
    ],
)
def test_new_from_a_classifier_has_its_task(
    specs: Path, capsys: pytest.CaptureFixture[str], labels: dict[str, str] | None, kind: str, inputs: list[str]
) -> None:
    source = specs / "hf"
    source.mkdir()
    saved = "BertForTokenClassification" if kind == "tag" else "BertForSequenceClassification"
    config: dict[str, object] = {"architectures": [saved], "max_position_embeddings": 512}
    (source / "config.json").write_text(json.dumps(config | ({} if labels is None else {"id2label": labels})))
    (source / "tokenizer_config.json").write_text('{"model_max_length": 128}')
    for name in ("model.safetensors", "tokenizer.json"):
        (source / name).write_text("{}")
    assert run(capsys, "new", "mine", "--from", "hf")[0] == 0
    result = check_file("mine/mine.infer")
    assert result.spec is not None
    assert result.diagnostics == ()
    assert result.spec.model.task.kind == kind
    assert [(line.name, line.limit_tokens) for line in result.spec.model.inputs] == [(name, 128) for name in inputs]
    rows = [json.loads(line) for line in (specs / "mine/data/evaluate.jsonl").read_text().splitlines()]
    assert all(list(row) == inputs and len(set(row.values())) == len(inputs) for row in rows)
    assert run(capsys, "fmt", "--check", "mine")[0] == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["new", "x", "--task", "embed"], "needs a model"),
        (["new", "x", "--task", "rerank"], "needs a model"),
        (["new", "x", "--from", "nowhere"], "no config.json"),
        (["new", "1x"], "cannot name a model"),
    ],
)
def test_new_refuses_by_name(specs: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str) -> None:
    code, _, err = run(capsys, *argv)
    assert code == 2
    assert message in err


# ── what is imported ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_check_imports_nothing_heavy(specs: Path, root: Path) -> None:
    heavy = "torch torch_mlir tvm jax pydantic numpy lark regex transformers socket asyncio"
    script = (
        "import sys; from infc.compiler.cli.main import main\n"
        "code = main(['check', 'good.infer', '--use', 'aws:c7a.large'])\n"
        f"print(sorted(set('{heavy}'.split()) & set(sys.modules))); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=specs,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
