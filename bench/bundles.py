"""infc's bundles: a spec for each model and precision, built by `infc build`. A build that is refused is a row that says why."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from .cases import FOLDER, ROOT
from .models import LONGEST, MLP, artifacts, model_folder

NOT_MET = 4
"""`infc build`'s exit code for a bundle whose targets are not proved."""


def bundle_folder(model: str, precision: str) -> Path:
    """Where the bundle of a model in a precision lies."""
    return FOLDER / f"{model}-{precision}.bundle"


def build_bundle(model: str, precision: str) -> str:
    """Builds the bundle; "" where that went well, else why not, in one line."""
    output = bundle_folder(model, precision)
    spec = output.with_suffix(".infer")
    spec.write_text(spec_text(model, precision), encoding="utf-8")
    allowed = [arg for path in (model_folder(model), artifacts(model)) for arg in ("--allow-path", str(path))]
    command = [sys.executable, "-m", "infc", "build", str(spec), "-o", str(output), *allowed, "--json", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode in (0, NOT_MET):
        return ""
    return f"infc build refused it (exit {done.returncode}): {reason_of(done.stdout, done.stderr)}"


def reason_of(stdout: str, stderr: str) -> str:
    """What the build says was wrong: the diagnostics of its JSON, else its message."""
    try:
        error: dict[str, Any] = json.loads(stdout)["error"]
    except (ValueError, KeyError, TypeError):
        return " ".join((stderr.strip() or stdout.strip()).split())[:300]
    found = [f"{d['title']}{': ' + d['label'] if d['label'] else ''}" for d in error.get("diagnostics", ())]
    return "; ".join(dict.fromkeys(found))[:300] or " ".join(str(error.get("message", "")).split())[:300]


def spec_text(name: str, precision: str) -> str:
    """The .infer file of a model in a precision, its files by absolute paths."""
    search = f"search {{\n  precision {precision}\n}}\n"
    if name == "mlp":
        source = json.dumps(f"{model_folder(name) / 'model.py'}:make")
        return (
            f"infer 1\n\nmodel mlp {{\n  source  torch({source})\n"
            f"  input   features: float32[batch, {MLP[0]}]\n  output  score: float32[batch, {MLP[-1]}]\n"
            f"  dim     batch in 1..64\n}}\n\n{search}"
        )
    calibrate = json.dumps(str(artifacts(name) / "calibrate.jsonl"))
    data = f'data {{\n  calibrate jsonl({calibrate}, field = "text"), rows 256\n}}\n\n' if precision == "int8" else ""
    return (
        f"infer 1\n\nmodel {name.replace('-', '_')} {{\n  source  huggingface({json.dumps(str(model_folder(name)))})\n"
        "  task    embed(pooling = mean, normalize = true)\n"
        f"  input   text: string, up to {LONGEST} tokens, truncate\n}}\n\n{data}{search}"
    )
