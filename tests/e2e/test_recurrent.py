"""Recurrent layers: of any length, in every form that torch has, against torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from infc.compiler.errors import Exit, InfcError
from infc.compiler.ir.ops.recurrence import Recurrence

from .support import answered, compare_with_torch, compiled, infc, write_spec

MODULES = '''
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Every(nn.Module):
    """Each form once, over a free length."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 8)
        self.lstm = nn.LSTM(8, 16, num_layers=2, bidirectional=True, batch_first=True, dropout=0.3)
        self.odd = nn.LSTM(8, 7, bias=False)
        self.gru = nn.GRU(8, 33, bidirectional=True, batch_first=True)
        self.bare = nn.GRU(8, 5, bias=False, num_layers=2)
        self.tanh = nn.RNN(8, 20, batch_first=True)
        self.relu = nn.RNN(8, 1, nonlinearity="relu", bidirectional=True, batch_first=True)

    def forward(self, ids):
        x = self.words(ids)
        every, (h, c) = self.lstm(x)
        odd = self.odd(x.transpose(0, 1))[0].transpose(0, 1)
        gru, last = self.gru(x)
        bare, ends = self.bare(x.transpose(0, 1))
        return {
            "every": every, "h": h.transpose(0, 1), "c": c.transpose(0, 1), "odd": odd, "gru": gru,
            "last": torch.cat([last[0], last[1]], -1), "bare": bare.transpose(0, 1), "ends": ends[1],
            "tanh": self.tanh(x)[0].mean(1), "relu": self.relu(x)[0],
        }


class States(nn.Module):
    """First states from outside, one that is learned, and weights with a norm of their own."""

    def __init__(self):
        super().__init__()
        self.lstm, self.gru, self.normed = nn.LSTM(4, 6, batch_first=True), nn.GRU(4, 6), nn.RNN(4, 6, batch_first=True)
        self.normed = parametrizations.weight_norm(self.normed, "weight_hh_l0")
        self.first = nn.Parameter(torch.randn(1, 1, 6))

    def forward(self, x, h, c):
        left, (_, last) = self.lstm(x, (h[None], c[None]))
        right = self.gru(x.transpose(0, 1), self.first.expand(1, x.shape[0], 6))[0].transpose(0, 1)
        return left + right, last[0], self.normed(x)[0]


class Projected(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 6, proj_size=3, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0]


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 6, batch_first=True)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0]
'''


def spec_of(name: str, folder: Path, *lines: str) -> Path:
    (folder / "modules.py").write_text(MODULES)
    return write_spec(folder, f'source torch("modules.py:{name}")', "dim batch in 1..40", *lines)


def test_every_form_agrees_with_torch_over_a_free_length(tmp_path: Path) -> None:
    spec = spec_of("Every", tmp_path, "input ids: int64[batch, tokens], range 0..49", "dim tokens in 1..30")
    with compiled(spec, tmp_path / "work") as built:
        placement = built.compiled.plan.placement
        assert placement.batchable
        recurrent = [n for n in placement.flat if n.op.name == "recurrence"]
        assert len(recurrent) == 12
        assert all(placement.flat[n] for n in recurrent)
        assert not any(n.op.state for n in recurrent if isinstance(n.op, Recurrence)), "zeros are no operands"
        compare_with_torch(built)
        rng = np.random.default_rng(0)
        rows = [{"ids": rng.integers(0, 50, (1 + n % 3, n))} for n in (1, 30, 7, 2, 19, 8, 3, 3, 11, 5, 30, 4)]
        for row, merged in zip(rows, built.two.run_batch(rows), strict=True):
            alone = built.one.run(row)
            for name, value in answered(merged).items():
                assert np.array_equal(value, alone[name]), f"{name} of {row['ids'].shape}"


@pytest.mark.full
def test_first_states_and_normed_weights(tmp_path: Path) -> None:
    lines = ("input x: float32[batch, 9, 4]", "input h: float32[batch, 6]", "input c: float32[batch, 6]")
    with compiled(spec_of("States", tmp_path, *lines), tmp_path / "work") as built:
        compare_with_torch(built)


@pytest.mark.filterwarnings("ignore:The tensor attributes")
def test_a_program_of_a_fixed_length_keeps_its_layer_whole(tmp_path: Path) -> None:
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(4, 6, batch_first=True, bidirectional=True)

        def forward(self, x: torch.Tensor) -> Any:
            return self.lstm(x)[0]

    batch = torch.export.Dim("batch", min=2, max=16)
    program = torch.export.export(Tagger().eval(), (torch.randn(6, 11, 4),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "tagger.pt2")
    spec = write_spec(tmp_path, 'source export("tagger.pt2")', "input x: float32[batch, 11, 4]", "dim batch in 2..16")
    with compiled(spec, tmp_path / "work") as built:
        assert sum(n.op.name == "recurrence" for n in built.compiled.plan.placement.flat) == 2
        compare_with_torch(built)


@pytest.mark.full
@pytest.mark.parametrize(
    "lines",
    [
        ("input ids: int64[batch, steps], range 0..49", "dim steps in 1..30"),
        ("input ids: int64[3, tokens], range 0..49", "dim tokens in 1..30"),
    ],
)
def test_other_names_and_a_fixed_batch(lines: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "modules.py").write_text(MODULES)
    batch = ("dim batch in 1..40",) if "batch" in lines[0] else ()
    spec = write_spec(tmp_path, 'source torch("modules.py:Every")', *batch, *lines)
    with compiled(spec, tmp_path / "work") as built:
        compare_with_torch(built)


@pytest.mark.full
def test_projections_are_unrolled_over_a_fixed_length(tmp_path: Path) -> None:
    with compiled(spec_of("Projected", tmp_path, "input x: float32[batch, 5, 4]"), tmp_path / "work") as built:
        compare_with_torch(built)


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "lines", "said"),
    [
        ("Projected", ("input x: float32[batch, tokens, 4]", "dim tokens in 1..9"), "with projections"),
        (
            "Packed",
            ("input x: float32[batch, tokens, 4]", "input lengths: int64[batch], range 1..9", "dim tokens in 9..12"),
            "a packed sequence's lengths",
        ),
    ],
)
def test_what_cannot_be_is_refused(name: str, lines: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(InfcError) as caught, compiled(spec_of(name, tmp_path, *lines), tmp_path / "work"):
        pass
    assert caught.value.exit_code == Exit.USAGE
    assert said in str(caught.value)


@pytest.mark.full
def test_int8_says_that_the_recurrence_stays_wide(tmp_path: Path) -> None:
    lines = ("input x: float32[batch, tokens, 4]", "dim tokens in 1..9", "search { precision int8 }")
    (tmp_path / "modules.py").write_text(MODULES.replace(", proj_size=3", ""))
    spec = write_spec(tmp_path, 'source torch("modules.py:Projected")', "dim batch in 1..4", *lines)
    done = infc("build", spec)
    assert done.returncode == 0, done.stderr
    assert "note: recurrence stays in float32 (1 step): it has no int8 kernel" in done.stdout + done.stderr
