"""Tiny models built twice, the second time with a fault that was planted."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from infc.compiler.build import build
from infc.compiler.codegen.plan import Plan
from infc.compiler.driver import Request
from infc.compiler.target import Rendered
from infc.targets.cpu.target import TARGET

MODEL = """
import numpy as np
import torch
from pathlib import Path

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(64, 256)
        self.norm = torch.nn.LayerNorm(256)
        self.second = torch.nn.Linear(256, 256)
        self.last = torch.nn.Linear(256, 10)
    def forward(self, x):
        h = torch.nn.functional.gelu(self.norm(self.first(x)))
        return self.last(torch.softmax(self.second(h), -1) * 16)

def make():
    torch.manual_seed(0)
    net = Net()
    with np.load(Path(__file__).with_name("weights.npz")) as found:
        net.load_state_dict({name: torch.from_numpy(found[name]) for name in found.files})
    return net.eval()
"""
ROWS = 2000

CLASSIFIER = """
import numpy as np
import torch
from pathlib import Path

def make():
    net = torch.nn.Linear(64, 10)
    with np.load(Path(__file__).with_name("weights.npz")) as found:
        net.load_state_dict({name: torch.from_numpy(found[name]) for name in found.files})
    return net.eval()
"""
Array = NDArray[Any]


@dataclass(frozen=True)
class Clouds:
    """Rows [rows, 64] of ten normal clouds with their labels, the weights [10, 64] and bias of the best classifier, and the
    same weights with noise."""

    x: Array
    labels: Array
    weights: Array
    damaged: Array
    bias: Array

    def write(self, place: Path, *, damaged: bool) -> None:
        """The classifier's weights."""
        weights = self.damaged if damaged else self.weights
        np.savez(place / "weights.npz", weight=weights.astype(np.float32), bias=self.bias.astype(np.float32))


def clouds(seed: int, apart: float, noise: float, rows: int = ROWS) -> Clouds:
    """`apart`: from the middle, in spreads of a cloud; `noise`: in shares of the weights' spread."""
    draw = np.random.default_rng(seed)
    means: Array = draw.normal(size=(10, 64))
    means *= apart / np.linalg.norm(means, axis=1, keepdims=True)
    labels = draw.integers(0, 10, rows)
    x: Array = means[labels] + draw.normal(size=(rows, 64))
    damaged: Array = means + noise * means.std() * draw.normal(size=means.shape)
    return Clouds(x.astype(np.float32), labels, means, damaged, -0.5 * (means**2).sum(1))


def spec_text(targets: str = "", data: str = "", traffic: str = "items 8") -> str:
    """The spec of the model above."""
    return f"""infer 1
model net {{
  source torch("model.py:make")
  input  x: float32[batch, 64]
  output logits: float32[batch, 10]
  dim    batch in 1..16
}}
{f"data {{ evaluate {data} }}" if data else ""}
traffic {{ {traffic} }}
{f"targets {{ {targets} }}" if targets else ""}
hardware {{ use cpu {{ cores 1 }} }}
search {{ budget 20 s }}
serve {{ protocols kserve }}
"""


def write_weights(folder: Path) -> None:
    """Weights of the model."""
    draw = np.random.default_rng(0)
    shapes = {
        "first.weight": (256, 64), "first.bias": (256,), "norm.weight": (256,), "norm.bias": (256,),
        "second.weight": (256, 256), "second.bias": (256,), "last.weight": (10, 256), "last.bias": (10,),
    }  # fmt: skip
    weights = {name: draw.normal(0, shape[-1] ** -0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    weights["norm.weight"] += 1
    np.savez(folder / "weights.npz", **weights)  # pyright: ignore[reportArgumentType]


def write_model(folder: Path, text: str) -> Path:
    """The spec's path."""
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(MODEL)
    write_weights(folder)
    spec = folder / "net.infer"
    spec.write_text(text)
    return spec


def built(spec: Path, name: str) -> Path:
    """A bundle without a cache."""
    return build(Request(spec, output=spec.parent / f"{name}.bundle", jobs=1)).bundle


@contextmanager
def slower(op: str, tenths: int) -> Generator[None]:
    """Builds within have kernels of `op` that take so many tenths more: each step spins until it did."""
    plain = type(TARGET).render

    def render(self: object, plan: Plan, *args: object, **kwargs: object) -> Rendered:
        found = plain(self, plan, *args, **kwargs)  # type: ignore[arg-type]
        steps = [s.index for s in plan.steps if s.op.name == op]
        assert steps
        chosen = " || ".join(f"step == {index}" for index in steps)
        spin = f"if ({chosen}) {{ uint64_t end = at + (at - since) * {tenths} / 10; while ((at = rt_now()) < end) {{}} }}\n"
        before = "    e->times[step].nanoseconds += at - since;\n"
        name = next(n for n, text in found.sources.items() if before in text)
        text = found.sources[name].replace(before, f"    {spin}{before}")
        return replace(found, sources={**found.sources, name: text})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(TARGET), "render", render)
        yield
