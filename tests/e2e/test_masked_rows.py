"""Queries that see no key: torch's answer for each way in which people hide keys, and bundles that start."""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infc.compiler import driver
from infc.compiler.build import build
from infc.compiler.driver import Request, optimize
from infc.compiler.errors import Exit, InfcError
from infc.compiler.frontends import Imported
from infc.runtime import load

from .support import Array, agree, write_spec

MODEL = '''
import math, torch, torch.nn.functional as F
from torch import nn

LEAST = torch.finfo(torch.float32).min
NEVER = float("-inf")


def sdpa(q, k, v, keep, mask):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def boolean(q, k, v, keep):
    return sdpa(q, k, v, keep, (keep != 0)[:, None, None, :].expand(-1, -1, q.shape[2], -1))


def penalty(fill):
    return lambda q, k, v, keep: sdpa(q, k, v, keep, torch.where((keep != 0)[:, None, None, :], 0.0, fill))


def filled(fill, finish=lambda w: w):
    def attend(q, k, v, keep):
        scores = (q @ k.transpose(-1, -2) / 8 ** 0.5).masked_fill((keep == 0)[:, None, None, :], fill)
        return finish(scores.softmax(-1)) @ v
    return attend


def added(fill, size=1.0):
    def attend(q, k, v, keep):
        scores = (q * size) @ k.transpose(-1, -2) / 8 ** 0.5
        return (scores + ((1.0 - keep.float()) * fill)[:, None, None, :]).softmax(-1) @ v
    return attend


def chosen(fill):
    def attend(q, k, v, keep):
        scores = q @ k.transpose(-1, -2) / 8 ** 0.5
        return (scores + torch.where((keep != 0)[:, None, None, :], 0.0, fill)).softmax(-1) @ v
    return attend


def biased(fill):
    """A bias that differs from key to key under the mask, as relative positions are."""
    def attend(q, k, v, keep):
        at = torch.arange(k.shape[2], device=q.device, dtype=torch.float32)
        scores = q @ k.transpose(-1, -2) / 8 ** 0.5 - (at[None, :] - at[:, None]).abs()
        return scores.masked_fill((keep == 0)[:, None, None, :], fill).softmax(-1) @ v
    return attend


WAYS = {
    "boolean": boolean,
    "penalty_1e9": penalty(-1e9), "penalty_least": penalty(LEAST), "penalty_never": penalty(NEVER),
    "filled_1e9": filled(-1e9), "filled_least": filled(LEAST), "filled_never": filled(NEVER),
    "filled_1e4": filled(-1e4), "nan_to_num": filled(NEVER, torch.nan_to_num),
    "added_1e4": added(-1e4), "added_1e9": added(-1e9), "added_least": added(LEAST), "added_large": added(-1e9, 200.0),
    "chosen_1e9": chosen(-1e9), "chosen_never": chosen(NEVER),
    "biased_least": biased(LEAST), "biased_never": biased(NEVER),
}


class Every(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.qkv = nn.Linear(16, 48)
        self.multihead = nn.MultiheadAttention(16, 2, batch_first=True)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0), 2, enable_nested_tensor=False
        )

    def forward(self, x, keep):
        b, n, _ = x.shape
        q, k, v = (t.view(b, n, 2, 8).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        found = {name: way(q, k, v, keep) for name, way in WAYS.items()}
        found["multihead"] = self.multihead(x, x, x, key_padding_mask=keep == 0, need_weights=False)[0]
        found["encoder"] = self.encoder(x, src_key_padding_mask=keep == 0)
        return found


def make():
    return Every()
'''
NAN_IN_TORCH = {"filled_never", "chosen_never", "biased_never"}
KEEP = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0], [0, 1, 0, 1, 1], [1, 1, 1, 1, 1]])


def spec(folder: Path) -> Path:
    path = write_spec(
        folder,
        'source torch("model.py:make")',
        "input x: float32[batch, tokens, 16]",
        "input keep: int64[batch, tokens], range 0..1",
        "dim batch in 1..8",
        "dim tokens in 1..16",
    )
    (folder / "model.py").write_text(MODEL)
    return path


def in_torch(x: Array, keep: Array) -> dict[str, Array]:
    scope: dict[str, Any] = {}
    exec(compile(MODEL, "model.py", "exec"), scope)  # noqa: S102 - the text above
    # with gradients: without, torch's fused paths of encoder and multihead give NaN where their plain ones give numbers
    found = scope["make"]().eval()(torch.from_numpy(x), torch.from_numpy(keep))
    return {name: value.detach().numpy() for name, value in found.items()}


def test_each_way_to_hide_keys_gives_torchs_answer_and_the_bundle_starts(tmp_path: Path) -> None:
    outcome = build(Request(spec(tmp_path), jobs=2))
    assert outcome.exit_code == Exit.OK, "its known answers, some of rows without a key, were asked by the build"
    x = np.random.default_rng(0).standard_normal((4, 5, 16)).astype(np.float32)
    want = in_torch(x, KEEP)
    with load(outcome.bundle, threads=2) as model:
        got = model.run({"x": x, "keep": KEEP})
    for name, value in want.items():
        some = [0, 2, 3] if name in NAN_IN_TORCH else [0, 1, 2, 3]
        assert np.isnan(value[1]).all() == (name in NAN_IN_TORCH), name
        agree(got[name][some], value[some], name)
        if name in NAN_IN_TORCH:
            assert not got[name][1].any(), name


def test_a_build_that_computes_something_else_says_where_and_leaves_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The known answers are asked also where the spec promises nothing."""

    def planted(imported: Imported, request: Request) -> Imported:
        after = optimize(imported, request)
        (name,) = (n for n in after.graph.weights if n.startswith("1.weight"))
        weight = after.graph.weights[name]
        wrong = replace(weight, load=lambda: weight.load() + np.float32(0.5))
        return replace(after, graph=after.graph.replace(weights={**after.graph.weights, name: wrong}))

    monkeypatch.setattr(driver, "optimize", planted)
    path = write_spec(tmp_path, 'source torch("model.py:make")', "input input: float32[batch, 8]")
    (tmp_path / "model.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 4))\n"
    )
    said = r"does not give its known answers: .* element \d+ is .*; the first value that differs: 1 \(layer_norm"
    with pytest.raises(InfcError, match=said) as caught:
        build(Request(path, jobs=2))
    assert caught.value.exit_code == Exit.UNMET
    assert not list(tmp_path.glob("*.bundle*"))
    assert not list(tmp_path.glob(".*.bundle*"))
