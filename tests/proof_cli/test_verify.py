"""`infc verify`: what is damaged is found, and each claim is held against fresh load on this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from platform import machine
from typing import ClassVar, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from infc.compiler.bundle.evidence import write_evidence
from infc.compiler.bundle.manifest import Manifest
from infc.compiler.cli.main import main
from infc.compiler.proof import noise
from infc.compiler.proof import run as prover
from infc.compiler.proof.admit import digest_of
from infc.compiler.proof.loads import Load
from infc.compiler.proof.rejudge import open_bundle
from infc.runtime import InferError
from tests.server.bundles import WEIGHTS, digests, write_manifest

from .conftest import MakeClaimed
from .support import Json, Made, even, looked, spec_text, top1

EASY = "latency p50 <= 10 s; bundle_size <= 1 GiB"


def short(*_: object) -> tuple[int, float]:
    """Blocks of a look, and the seconds of each."""
    return 8, 0.1


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks of eight short blocks: enough for the claims of these tests, which hold by far or not at all."""
    monkeypatch.setattr(prover, "plan_blocks", short)
    monkeypatch.setattr(prover, "LEAST_WARMUP_S", 0.05)
    monkeypatch.setattr(prover, "RESTART_S", 0.1)
    for limit in ("MOST_LAG_S", "MOST_STEAL", "MOST_FOREIGN"):  # how busy the machine is decides no test
        monkeypatch.setattr(noise, limit, 1e9)


@pytest.fixture(scope="module")
def easy(claimed: MakeClaimed) -> Made:
    """A bundle whose claims hold on any machine."""
    return claimed(EASY, looked(even(0.004)))


def answered(made: Made) -> list[tuple[str, Json]]:
    """Evidence of accuracy."""
    return [("accuracy", top1(made))]


def copy(made: Made, tmp_path: Path) -> Path:
    """The bundle, to be changed."""
    return Path(shutil.copytree(made.folder, tmp_path / "copy"))


def test_quick_measures_nothing(easy: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(easy.folder), "--quick"]) == 0
    out, err = capsys.readouterr()
    assert "evidence whole (1 documents), not signed" in out
    assert "latency p50 <= 10 s" in out
    assert "proving" not in err
    assert main(["verify", str(easy.folder), "--quick", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["schema"], said["replayed"], said["signature"]) == ("infc.verify/1", None, "not signed")
    assert [t["verdict"] for t in said["targets"]] == ["met", "met"]


@pytest.mark.usefixtures("quick_looks")
def test_claims_that_hold_are_exit_0(easy: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(easy.folder), "--json"]) == 0
    found = {r["target"]: r for r in json.loads(capsys.readouterr().out)["replayed"]}
    assert {r["holds"] for r in found.values()} == {"holds"}
    now = found["latency p50 <= 10 s"]["now"]
    assert now["samples"] < 100_000
    assert 0 < now["value"] < 10
    assert [d.name for d in open_bundle(easy.folder).documents] == ["001.json"], "what was measured is not kept"


@pytest.mark.usefixtures("quick_looks")
def test_a_claim_that_does_not_hold_is_exit_3(claimed: MakeClaimed, capsys: pytest.CaptureFixture[str]) -> None:
    made = claimed("latency p50 <= 1 ns; latency max <= 10 s", looked(even(0.0)))
    assert main(["verify", str(made.folder)]) == 3
    out = capsys.readouterr().out
    assert out.splitlines()[1] == "1 of 2 claims hold, 1 does not"
    assert "DOES NOT HOLD" in out
    assert "no request was answered within" in out


def test_what_the_budget_does_not_take_cannot_be_told(easy: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(easy.folder), "--budget", "0.2"]) == 4
    out = capsys.readouterr().out
    assert out.splitlines()[1] == "1 of 2 claims hold, 1 cannot be told"
    assert "requests would decide it" in out


def test_what_was_not_proved_is_shown_and_not_replayed(
    claimed: MakeClaimed, capsys: pytest.CaptureFixture[str]
) -> None:
    made = claimed("latency p99.9 <= 10 s", looked(even(0.004)))
    assert main(["verify", str(made.folder)]) == 0
    out, err = capsys.readouterr()
    assert "nothing is claimed, 1 target of the spec not proved in the bundle" in out
    assert "proving" not in err


def test_without_targets_nothing_is_claimed(claimed: MakeClaimed, capsys: pytest.CaptureFixture[str]) -> None:
    made = claimed("")
    assert main(["verify", str(made.folder)]) == 0
    assert "nothing is claimed: the spec has no targets" in capsys.readouterr().out


def test_accuracy_cannot_be_told_without_the_rows(claimed: MakeClaimed, capsys: pytest.CaptureFixture[str]) -> None:
    made = claimed("accuracy top1 >= 50 % vs float32", answered, data='npz("rows.npz")')
    assert main(["verify", str(made.folder)]) == 4
    assert "the rows are not in the bundle: give --data SPEC" in capsys.readouterr().out


def test_another_machine_cannot_tell(claimed: MakeClaimed, capsys: pytest.CaptureFixture[str]) -> None:
    large = {"memory_bytes": 1 << 50}

    def there(made: Made) -> list[tuple[str, Json]]:
        return [("look", made.document(Load(), even(0.004), fingerprint={**made.about.fingerprint, **large}))]

    made = claimed("latency max <= 10 s", there, hardware="cores 1, memory 1000000 GiB")
    assert main(["verify", str(made.folder), "--budget", "0.1"]) == 4
    assert "and the spec declares" in capsys.readouterr().out


# ── damage ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def damaged(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["verify", str(folder), "--quick"]) == 7
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err


def test_changed_content_is_exit_7(easy: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copy(easy, tmp_path)
    weights = folder / "models/0/variants/0/weights.bin"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert "weights.bin is damaged" in damaged(folder, capsys)


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("001.json", "{}", "001.json has changed"),
        ("001.json", None, "001.json is absent"),
        ("002.json", "{}", "002.json is not in the index"),
        ("index.json", None, "index.json cannot be read"),
        ("index.json", "[]", "index.json cannot be read"),
    ],
)  # fmt: skip
def test_changed_evidence_is_exit_7(
    easy: Made, tmp_path: Path, name: str, text: str | None, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(easy, tmp_path)
    path = folder / "evidence" / name
    path.unlink() if text is None else path.write_text(text)
    assert part in damaged(folder, capsys)


def reindexed(folder: Path, change: Callable[[list[tuple[str, bytes]], dict[str, bytes]], object]) -> None:
    """The evidence changed on purpose: its index fits."""
    opened = open_bundle(folder)
    documents, others = [(d.kind, d.data) for d in opened.documents], dict(opened.others)
    change(documents, others)
    write_evidence(folder, documents, others)


def embellish(_: object, others: dict[str, bytes]) -> None:
    """Verdicts that are better than their evidence."""
    others["targets.json"] = others["targets.json"].replace(b'"value": 0.00', b'"value": 0.0000')


def test_verdicts_that_the_evidence_does_not_give_are_exit_7(
    easy: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(easy, tmp_path)

    reindexed(folder, embellish)
    said = damaged(folder, capsys)
    assert "does not give its verdicts: latency p50 <= 10 s: value is" in said
    reindexed(folder, lambda documents, _: documents.clear())
    assert "latency p50 <= 10 s is not proved, and targets.json says met" in damaged(folder, capsys)
    reindexed(folder, lambda _, others: others.pop("targets.json"))
    assert "targets.json is absent" in damaged(folder, capsys)
    reindexed(folder, lambda _, others: others.update({"targets.json": b'[{"target": 1}]'}))
    assert "targets.json is no list of verdicts" in damaged(folder, capsys)


def test_verdicts_by_other_rules_are_judged_again_and_said(
    easy: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(easy, tmp_path)

    reindexed(folder, embellish)
    index = folder / "evidence" / "index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "rules": 0}))
    assert main(["verify", str(folder), "--quick", "--json"]) == 0
    told = capsys.readouterr()
    assert "judged it by other rules; by those of this one latency p50 <= 10 s: value is" in told.err
    assert json.loads(told.out)["targets"][0]["value"] > 1e-3, "what is shown is what the evidence gives"


def test_evidence_of_another_bundle_is_exit_7(easy: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copy(easy, tmp_path)
    other = easy.document(Load(), even(0.004), subject=easy.subject(model="0" * 64))
    reindexed(folder, lambda documents, _: documents.append(("look", json.dumps(other).encode())))
    assert "002.json is not of this bundle: the manifest describes its models otherwise" in damaged(folder, capsys)


# ── what a user gets wrong ───────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_no_bundle_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 2
    assert "is no bundle: it has no manifest.json" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "absent"), "--quick"]) == 2


@pytest.mark.parametrize("budget", ["0", "-1", "soon", "nan"])
def test_a_budget_is_seconds(easy: Made, budget: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(easy.folder), f"--budget={budget}"]) == 2
    assert "expected seconds" in capsys.readouterr().err


def test_other_settings_than_those_of_the_evidence_are_named(
    easy: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INFC__QUEUE", "7")
    assert main(["verify", str(easy.folder)]) == 2
    err = capsys.readouterr().err
    assert "queue = 256, and here it is 7" in err
    assert "unset INFC__QUEUE" in err


def test_a_machine_that_cannot_run_it_is_exit_6(easy: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copy(easy, tmp_path)
    (folder / "serve").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(200))
    relist(folder)
    write_evidence(folder, [], {})
    assert main(["bench", str(folder), "--duration", "1"]) == 6
    err = capsys.readouterr().err
    assert "cannot be started here" in err
    assert "it runs on linux" in err


def relist(folder: Path) -> None:
    """The manifest, as if a build had written what there is."""
    manifest: Json = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["files"]:
        path = folder / entry["path"]
        entry |= {"bytes": path.stat().st_size, "sha256": digests(path)}
    write_manifest(folder, manifest)


def test_a_cpu_that_lacks_a_feature_is_exit_6(claimed: MakeClaimed, capsys: pytest.CaptureFixture[str]) -> None:
    made = claimed("latency p50 <= 10 s", looked(even(0.004)))
    manifest: Json = json.loads((made.folder / "manifest.json").read_text())
    manifest["models"][0]["variants"][0]["cpu_features"] = ["avx2" if machine() == "aarch64" else "sve"]
    write_manifest(made.folder, manifest)
    subject = made.subject(model=digest_of(manifest["models"]))
    isa = [*made.about.fingerprint["isa"], "avx2", "sve"]
    document = made.document(Load(), even(0.004), subject=subject, fingerprint={**made.about.fingerprint, "isa": isa})
    reindexed(made.folder, lambda documents, _: documents.__setitem__(0, ("look", json.dumps(document).encode())))
    assert main(["verify", str(made.folder), "--quick"]) == 0
    assert main(["verify", str(made.folder)]) == 6
    err = capsys.readouterr().err
    assert "this bundle is not for this machine" in err
    assert "it runs on linux" in err


def test_data_without_rows_is_named(easy: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.py").write_text("")
    (tmp_path / "s.infer").write_text(spec_text(""))
    assert main(["verify", str(easy.folder), "--data", str(tmp_path / "s.infer")]) == 2
    assert "declares no rows" in capsys.readouterr().err
    assert main(["verify", str(easy.folder), "--data", str(tmp_path / "absent.infer")]) == 2


@pytest.mark.usefixtures("quick_looks")
def test_texts_are_replayed_from_the_rows_without_an_import(
    claimed: MakeClaimed, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = claimed("latency p50 <= 10 s", looked(even(0.004)), kind="embed")
    (tmp_path / "rows.jsonl").write_text('{"text": "hello"}\n{"text": "world"}\n')
    (tmp_path / "model.py").write_text("")
    (tmp_path / "s.infer").write_text(spec_text("", data='jsonl("rows.jsonl")'))
    seen: list[str] = []
    real = prover.ask_serve

    def spy(folder: Path, manifest: Manifest, arguments: list[str], env: dict[str, str]) -> str:
        if "--requests" in arguments:
            seen.append(Path(arguments[arguments.index("--requests") + 1]).read_text())
        return real(folder, manifest, arguments, env)

    monkeypatch.setattr(prover, "ask_serve", spy)
    assert main(["verify", str(made.folder), "--data", str(tmp_path / "s.infer")]) == 0
    assert "holds" in capsys.readouterr().out
    assert set(seen) == {'{"text": "hello"}\n{"text": "world"}\n'}


def test_the_commands_load_nothing_heavy(easy: Made) -> None:
    """They work in the base install: NumPy and pydantic, no framework, no template engine."""
    code = (
        "import sys\nclass No:\n  def find_spec(self, name, *_):\n"
        "    if name.split('.')[0] in ('torch','torch_mlir','tvm','jinja2','transformers','ziglang','tokenizers'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, No())\n"
        "from infc.compiler.cli.main import main\n"
        "import infc.compiler.cli.attach, infc.compiler.cli.bench, infc.compiler.cli.diff\n"
        "assert main(['diff', sys.argv[1], sys.argv[1]]) == 0\n"
        "sys.exit(main(['verify', sys.argv[1], '--quick']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, easy.folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


MODEL = f"""import torch
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.tensor({WEIGHTS.tolist()}))
    def forward(self, features):
        return features @ self.weights[:, None]
def make():
    return Model()
"""


class Loaded:
    """The model of a bundle in this process, which the C fixture is not made for."""

    error: ClassVar[InferError | None] = None

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, request: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        if self.error is not None:
            raise self.error
        return {"score": request["features"] @ WEIGHTS[:, None]}


@pytest.mark.usefixtures("quick_looks")
def test_accuracy_is_replayed_on_the_rows_of_a_spec(
    claimed: MakeClaimed, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = "accuracy top1 >= 50 % vs float32; latency p50 <= 10 s"
    monkeypatch.setattr("infc.compiler.proof.answers.load", Loaded)

    def documents(made: Made) -> list[tuple[str, Json]]:
        return [("accuracy", top1(made)), ("look", made.document(Load(), even(0.004)))]

    made = claimed(targets, documents, data='npz("rows.npz")', model=MODEL.encode())
    np.savez(tmp_path / "rows.npz", features=np.random.default_rng(3).standard_normal((60, 8)).astype(np.float32))
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "s.infer").write_text(spec_text("", data='npz("rows.npz")'))
    assert main(["verify", str(made.folder), "--data", str(tmp_path / "s.infer"), "--json"]) == 0
    found = {r["target"]: r for r in json.loads(capsys.readouterr().out)["replayed"]}
    assert found["accuracy top1 >= 0.5 vs float32"]["now"]["samples"] == 60
    assert {r["holds"] for r in found.values()} == {"holds"}
    monkeypatch.setattr(Loaded, "error", InferError("CALLER", 0, "features[0] is out of range"))
    assert main(["verify", str(made.folder), "--data", str(tmp_path / "s.infer")]) == 2
    assert "rows.npz: the bundle does not take a row: features[0] is out of range" in capsys.readouterr().err


def test_another_model_is_no_reference(
    claimed: MakeClaimed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = claimed("accuracy top1 >= 50 % vs float32", answered, data='npz("rows.npz")', model=MODEL.encode())
    np.savez(tmp_path / "rows.npz", features=np.zeros((60, 8), np.float32))
    (tmp_path / "model.py").write_text(MODEL + "# changed")
    (tmp_path / "s.infer").write_text(spec_text("", data='npz("rows.npz")'))
    assert main(["verify", str(made.folder), "--data", str(tmp_path / "s.infer")]) == 4
    assert "model.py is not what the bundle was made from" in capsys.readouterr().out
