"""What is wrong is refused where it stands, by name, with the right status; nothing crashes and nobody else is hurt."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infc.compiler.cli.main import main
from infc.compiler.errors import Exit
from infc.compiler.target import find_target
from infc.runtime import InferError, load
from infc.runtime.document import manifest_sum
from tests.frontends.families import save_family
from tests.server.serving import Server, environment, running

from .conftest import BundleOf, copy_example, link_or_copy
from .support import infc, refused, write_spec

Capture = pytest.CaptureFixture[str]
SOURCE = 'source huggingface("model")'


def build_refused(capfd: Capture, spec: Path, *said: str, exit_code: Exit = Exit.USAGE) -> str:
    """`infc build spec` in this process must end with exit_code, say all of that, and leave nothing behind."""
    before = sorted(p.name for p in spec.parent.iterdir())
    capfd.readouterr()
    code = main(["build", str(spec)])
    out, err = capfd.readouterr()
    assert (code, out) == (exit_code, ""), (code, out, err)
    assert "Traceback" not in err
    assert "error" in err
    for text in said:
        assert text in err, f"{text!r} is not in: {err}"
    assert sorted(p.name for p in spec.parent.iterdir()) == before
    return err


# ── model folders ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family("bert", tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def spec(saved: Path, tmp_path: Path) -> Path:
    """A spec over a copy of a saved BERT, to be broken."""
    shutil.copytree(saved, tmp_path / "model")
    return write_spec(tmp_path, SOURCE, "dim tokens in 1..16", "dim batch in 1..4")


def test_missing_weights(spec: Path, capfd: Capture) -> None:
    (spec.parent / "model" / "model.safetensors").unlink()
    build_refused(capfd, spec, "model", "safetensors")


@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, -1])
def test_truncated_weights(spec: Path, capfd: Capture, kept: float) -> None:
    path = spec.parent / "model" / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if 0 < kept < 1 else int(kept)])
    build_refused(capfd, spec, "model.safetensors")


def test_a_header_that_lies_about_its_length(spec: Path, capfd: Capture) -> None:
    path = spec.parent / "model" / "model.safetensors"
    path.write_bytes((1 << 60).to_bytes(8, "little") + path.read_bytes()[8:])
    build_refused(capfd, spec, "model.safetensors")


def test_a_shape_that_the_config_does_not_have(spec: Path, capfd: Capture) -> None:
    path = spec.parent / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"intermediate_size": 96}))
    build_refused(capfd, spec, "encoder.layer.0.intermediate.dense.", "64", "96")


def test_a_layer_that_the_checkpoint_does_not_have(spec: Path, capfd: Capture) -> None:
    path = spec.parent / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 3}))
    build_refused(capfd, spec, "encoder.layer.2.")


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "null", '{"architectures": ["NoSuchModel"]}', '{"a": 1}', "\udcff"]
)
def test_a_config_that_is_none(spec: Path, capfd: Capture, text: str | None) -> None:
    path = spec.parent / "model" / "config.json"
    if text is None:
        path.unlink()
    else:
        path.write_bytes(text.encode(errors="surrogateescape"))
    build_refused(capfd, spec, "config.json")


def test_no_folder(tmp_path: Path, capfd: Capture) -> None:
    build_refused(capfd, write_spec(tmp_path, SOURCE), "model")


@pytest.mark.parametrize("text", [None, "", "{}", "[1"])
def test_a_tokenizer_that_is_none(saved: Path, tmp_path: Path, capfd: Capture, text: str | None) -> None:
    shutil.copytree(saved, tmp_path / "model")
    if text is not None:
        (tmp_path / "model" / "tokenizer.json").write_text(text)
    task = ("task embed(pooling = mean, normalize = true)", "input text: string, up to 16 tokens")
    build_refused(capfd, write_spec(tmp_path, SOURCE, *task), "tokenizer.json")


def test_a_tokenizer_of_another_model(saved: Path, tmp_path: Path, examples: Path, capfd: Capture) -> None:
    shutil.copytree(saved, tmp_path / "model")
    (other,) = (examples / "minilm" / "models").glob("*/tokenizer.json")
    shutil.copy(other, tmp_path / "model")
    task = ("task embed(pooling = mean, normalize = true)", "input text: string, up to 16 tokens")
    build_refused(capfd, write_spec(tmp_path, SOURCE, *task), "tokenizer.json", "the id 120", "ends at 119")


# ── factories ────────────────────────────────────────────────────────────────────────────────────────────────────────

UNSUPPORTED = """
import torch
from torch import nn


class Spectrum(nn.Module):
    def forward(self, x):
        y = x * 2
        return torch.fft.rfft(y).abs()


def make():
    return Spectrum()


def breaks():
    raise RuntimeError("the weights are on the other laptop")
"""


def factory_spec(folder: Path, entry: str, *lines: str) -> Path:
    (folder / "model.py").write_text(UNSUPPORTED)
    return write_spec(folder, f'source torch("model.py:{entry}")', *(lines or ("input x: float32[batch, 8]",)))


def test_an_unsupported_op_is_named_with_its_source_line_and_a_rewrite(tmp_path: Path, capfd: Capture) -> None:
    err = build_refused(capfd, factory_spec(tmp_path, "make"), "fft", "model.py:9")
    assert "hint" in err or "help" in err


def test_a_factory_that_raises(tmp_path: Path, capfd: Capture) -> None:
    build_refused(capfd, factory_spec(tmp_path, "breaks"), "model.py:17", "the weights are on the other laptop")


# ── specs that build does not honour ─────────────────────────────────────────────────────────────────────────────────


def test_statements_that_build_does_not_honour_are_refused_by_name(bundle_of: BundleOf) -> None:
    spec = bundle_of("fraud").parent / "more.infer"
    text = (spec.parent / "fraud.infer").read_text().replace("precision float32", "precision int4\n  fusion auto")
    spec.write_text(text.replace("serve {", "serve { cache exact, 64 MiB;"))
    refused(infc("build", spec), Exit.USAGE, "more.infer:", "int4", "fusion", "cache")
    assert not (spec.parent / "more.bundle").exists()
    done = infc("build", spec, "--json")
    assert json.loads(done.stdout)["exit_code"] == Exit.USAGE


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["build", "no-such.infer"], "no-such.infer"),
        (["build"], "spec"),
        (["build", "examples/fraud/fraud.infer", "--use", "cpu { isa x87 }"], "x87"),
        (["build", "examples/fraud/fraud.infer", "--set", "targets.latency.p99=ten"], "ten"),
        (["build", "examples/fraud/fraud.infer", "--emit", "assembly"], "assembly"),
        (["build", "examples/fraud/fraud.infer", "-p", "frobnicate"], "frobnicate"),
        (["run", "no-such.bundle"], "no-such.bundle"),
        (["serve", "no-such.bundle"], "no-such.bundle"),
        (["explain", "no-such.bundle"], "no-such.bundle"),
    ],
)
def test_arguments_that_cannot_be_are_named(
    arguments: list[str], said: str, root: Path, examples: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = ended.code
    _, err = capfd.readouterr()
    assert code == Exit.USAGE, err
    assert said in err
    assert "Traceback" not in err


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────

ROW = [0.25] * 64


@pytest.fixture(scope="module")
def fraud(bundle_of: BundleOf) -> Path:
    return bundle_of("fraud")


@pytest.fixture(scope="module")
def server(fraud: Path) -> Iterator[Server]:
    with running(fraud / "serve", fraud) as found:
        yield found


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"features": [ROW[:63]]},
        {"features": ROW},
        {"features": [[ROW]]},
        {"features": [ROW] * 65},
        {"features": [[*ROW[:63], "x"]]},
        {"features": [[*ROW[:63], None]]},
        {"features": [[*ROW[:63], True]]},
        {"features": [[*ROW[:63], float("nan")]]},
        {"features": [[*ROW[:63], float("-inf")]]},
        {"features": [[*ROW[:63], 1e39]]},
        {"features": "all of them"},
    ],
)
def test_a_wrong_tensor_is_422_with_the_field(server: Server, body: dict[str, Any]) -> None:
    answer = server.post("/infer", body)
    assert answer.status == 422
    assert answer.json["error"]["field"].startswith("features")
    assert "features" in answer.json["error"]["message"] or "expected" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [1, 63]},
        {"shape": [64]},
        {"datatype": "FP64"},
        {"datatype": "INT64"},
        {"name": "feature"},
        {"data": ROW[:5]},
    ],
)
def test_a_wrong_tensor_of_the_inference_protocol_is_422(server: Server, change: dict[str, Any]) -> None:
    tensor = {"name": "features", "shape": [1, 64], "datatype": "FP32", "data": ROW} | change
    answer = server.post("/v2/models/fraud/infer", {"inputs": [tensor]})
    assert answer.status == 422
    assert "feature" in answer.body.decode()


def test_bad_requests_do_not_hurt_their_neighbours(server: Server) -> None:
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((24, 64)).astype(np.float32)
    alone = [server.post("/infer", {"features": [row.tolist()]}).json["outputs"]["score"][0][0] for row in rows]
    bad: list[Any] = [{"features": [ROW[:9]]}, {"features": [[*ROW[:63], float("nan")]]}, b"{", {"color": 1}, {}]

    def ask(number: int) -> tuple[int, Any]:
        if number % 3 == 0:
            answer = server.post("/infer", bad[number // 3 % len(bad)])
            return answer.status, None
        answer = server.post("/infer", {"features": [rows[number % 24].tolist()]})
        return answer.status, answer.json["outputs"]["score"][0][0]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(144)))
    for number, (status, value) in enumerate(answers):
        if number % 3 == 0:
            assert status in (400, 422)
        else:
            assert (status, value) == (200, alone[number % 24]), number
    assert server.metric("infc_accepted_total") == server.metric("infc_outcomes_total")


def test_a_body_too_large_is_413_and_the_server_goes_on(server: Server) -> None:
    answer = server.post("/infer", b'{"features": [[' + b"0.25," * (5 << 20) + b"0]]}")
    assert answer.status == 413
    assert server.post("/infer", {"features": [ROW]}).status == 200


def test_the_loader_names_input_and_reason(fraud: Path) -> None:
    good = np.zeros((2, 64), np.float32)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"features": good[:, :63]}, "features"),
        ({"features": good.astype(str)}, "features"),
        ({"features": np.full((1, 64), np.nan, np.float32)}, "features"),
        ({"features": np.zeros((65, 64), np.float32)}, "64"),
        ({}, "features"),
        ({"features": good, "color": good}, "color"),
    ]
    with load(fraud) as model:
        for inputs, said in wrong:
            with pytest.raises(InferError) as caught:
                model.run(inputs)
            assert caught.value.kind == "CALLER"
            assert said in caught.value.message
        assert model.run(features=good)["score"].shape == (2, 1)
    with pytest.raises(InferError, match="closed"):
        model.run(features=good)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--input", "features=missing.npy"], "missing.npy"),
        (["--input", "features"], "NAME=FILE"),
        (["--input", "colour=rows.npy"], "colour"),
        (["--input", "features=rows.txt"], ".npy and .json"),
        (["--input", "features=short.json"], "features"),
        (["--input", "features=words.json"], "words.json"),
        (["--input", "features=pickle.npy"], "pickle.npy"),
        ([], "features"),
        (["--text", "hello"], "text"),
    ],
)
def test_infc_run_names_what_is_wrong(
    fraud: Path, arguments: list[str], said: str, tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", np.zeros((1, 64), np.float32))
    np.save("pickle.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    Path("short.json").write_text("[[1, 2]]")
    Path("words.json").write_text('[["a", "b"]]')
    Path("rows.txt").write_text("1 2")
    code = main(["run", str(fraud), *arguments])
    out, err = capfd.readouterr()
    assert (code, out) == (Exit.USAGE, ""), err
    assert said in err
    assert "Traceback" not in err


# ── texts ────────────────────────────────────────────────────────────────────────────────────────────────────────────

LIMIT = 16


@pytest.fixture(scope="module")
def rejecting(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small embedder that rejects what is longer than 16 tokens."""
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("rejecting")
    shutil.copytree(saved, folder / "model")
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, **{f"w{i}": i + 4 for i in range(100)}}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.save(str(folder / "model" / "tokenizer.json"))
    task = ("task embed(pooling = mean, normalize = true)", f"input text: string, up to {LIMIT} tokens, reject")
    spec = write_spec(folder, SOURCE, *task)
    assert main(["build", str(spec), "-q"]) == Exit.OK
    return folder / "m.bundle"


def test_a_text_that_is_too_long_is_rejected_with_limit_and_length(rejecting: Path) -> None:
    with running(rejecting / "serve", rejecting) as server:
        fits, long = "w1 " * (LIMIT - 2), "w1 " * (LIMIT - 1)
        assert server.post("/v1/embeddings", {"model": "m", "input": fits}).status == 200
        answer = server.post("/v1/embeddings", {"model": "m", "input": ["w1", long]})
        assert answer.status == 422
        message = answer.json["error"]["message"]
        assert str(LIMIT) in message
        assert str(LIMIT + 1) in message
        assert answer.json["error"]["param"] == "input[1]"
    done = infc("run", rejecting, "--text", long)
    refused(done, Exit.USAGE, str(LIMIT), str(LIMIT + 1))


# ── another CPU ──────────────────────────────────────────────────────────────────────────────────────────────────────


def foreign_variants() -> list[str]:
    """Variants of this machine's architecture that it cannot execute."""
    target = find_target("cpu")
    arch = target.platform(target.resolve(None)).arch
    return [v.name for v in target.variants() if target.platform(v.name).arch == arch and not target.runs_here(v.name)]


@pytest.mark.skipif(not foreign_variants(), reason="this CPU runs every variant of its architecture")
def test_a_bundle_for_another_cpu_says_what_is_missing_and_never_dies_of_a_signal(
    examples: Path, tmp_path: Path
) -> None:
    variant = foreign_variants()[-1]
    spec = copy_example(examples, "fraud", tmp_path / "fraud")
    done = infc("build", spec, "--use", f"cpu {{ isa {variant}, cores 1 }}")
    assert done.returncode == Exit.OK, done.stderr
    bundle = tmp_path / "fraud" / "fraud.bundle"
    features = find_target("cpu").platform(variant).features
    np.save(tmp_path / "rows.npy", np.zeros((1, 64), np.float32))
    for arguments in (["check"], ["--port", "0"], ["run", "--input", f"features={tmp_path / 'rows.npy'}"]):
        done = subprocess.run(
            [bundle / "serve", *arguments], capture_output=True, text=True, timeout=60, env=environment(), check=False
        )
        assert done.returncode == Exit.MISSING, (arguments, done.returncode, done.stderr)
        assert any(feature in done.stderr for feature in features), done.stderr
    with pytest.raises(InferError) as caught:
        load(bundle)
    assert any(feature in caught.value.message for feature in features)
    done = infc("run", bundle, "--input", f"features={tmp_path / 'rows.npy'}")
    assert done.returncode in (Exit.USAGE, Exit.MISSING)
    assert any(feature in done.stderr for feature in features)


def test_a_bundle_moved_to_another_architecture_is_refused_by_name(fraud: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(fraud, tmp_path / "bundle", copy_function=link_or_copy))
    document = json.loads((bundle / "manifest.json").read_text())
    document["platform"]["arch"] = "riscv64"
    data = json.dumps(document).encode()
    for name, new in (("manifest.json", data), ("manifest.sha256", manifest_sum(data).encode())):
        (bundle / name).unlink()
        (bundle / name).write_bytes(new)
    done = subprocess.run(
        [fraud / "serve", "check", "--bundle", bundle], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == Exit.MISSING, done.stderr
    assert "riscv64" in done.stderr
