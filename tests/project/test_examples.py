"""The examples: their specs are clean and formatted, build honours every statement, and their scripts make what they say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from infc.dsl import check_file, format_text, unsupported_statements

ROOT = Path(__file__).resolve().parents[2]
SPECS = sorted((ROOT / "examples").glob("*/*.infer"))


def test_there_are_three() -> None:
    assert [p.stem for p in SPECS] == ["digits", "fraud", "minilm"]


@pytest.mark.parametrize("spec", SPECS, ids=lambda p: p.stem)
def test_a_spec_is_clean(spec: Path, examples: Path) -> None:
    result = check_file(str(examples / spec.stem / spec.name))
    assert result.diagnostics == ()
    assert result.spec is not None
    assert list(unsupported_statements(result.spec)) == []
    assert format_text(spec.read_text())[0] == spec.read_text()


def run_script(source: Path, folder: Path) -> str:
    shutil.copytree(source.parent, folder, ignore=shutil.ignore_patterns("models", "data", "*.bundle", "__pycache__"))
    done = subprocess.run([sys.executable, folder / source.name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_minilm_prepares_model_and_sentences(tmp_path: Path) -> None:
    folder = tmp_path / "minilm"
    assert "10 files copied" in run_script(ROOT / "examples" / "minilm" / "prepare.py", folder)
    rows = [json.loads(line)["text"] for line in (folder / "data" / "evaluate.jsonl").read_text().splitlines()]
    words = [len(text.split()) for text in rows]
    assert len(rows) == 256
    assert min(words) <= 2
    assert max(words) > 180
    again = subprocess.run([sys.executable, folder / "prepare.py"], capture_output=True, text=True, check=True)
    assert "0 files copied" in again.stdout


def test_minilm_without_its_package_says_how_to_get_it(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "examples" / "minilm" / "prepare.py", tmp_path / "prepare.py")
    code = "import sys, runpy; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]; runpy.run_path(sys.argv[1], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "prepare.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 6
    assert "pip install 'infc[examples]'" in done.stderr


@pytest.mark.parametrize(
    ("name", "script", "data", "shape"),
    [("fraud", "train.py", "features", (2048, 64)), ("digits", "train.py", "image", (397, 1, 8, 8))],
)
def test_training_gives_a_model_that_is_any_good(
    name: str, script: str, data: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    out = run_script(ROOT / "examples" / name / script, tmp_path / name)
    arrays = np.load(tmp_path / name / "data" / "evaluate.npz")
    assert arrays[data].shape == shape
    assert arrays[data].dtype == np.float32
    assert (tmp_path / name / "models" / f"{name}.safetensors").is_file()
    quality = (
        float(out.partition("AUC ")[2].split()[0]) if name == "fraud" else float(out.split("%")[0].split()[-1]) / 100
    )
    assert quality > 0.95, out


def test_a_factory_without_weights_says_what_to_run(tmp_path: Path) -> None:
    for name in ("fraud", "digits"):
        (tmp_path / name).mkdir()
        shutil.copyfile(ROOT / "examples" / name / "model.py", tmp_path / name / "model.py")
        done = subprocess.run(
            [sys.executable, "-c", "import model; model.make()"],
            cwd=tmp_path / name, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "run train.py first" in done.stderr
