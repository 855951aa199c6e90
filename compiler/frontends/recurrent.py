"""Recurrent layers kept whole while they are traced.

torch traces nn.LSTM, nn.GRU and nn.RNN step by step, which fixes their length. For the while, ops of ours stand where those
layers call torch's; `import_aten/recurrent.py` knows both. Projections are traced as torch does,
packed sequences refused.
"""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import torch
from torch.nn.modules import rnn
from torch.nn.utils import rnn as packing

from .errors import FrontendError
from .replaced import replaced

NAMES = ("lstm", "gru", "rnn_tanh", "rnn_relu")
"""What aten calls them, and we too."""
_LAYERS: Any = rnn
_PACKING: Any = packing


def _own(name: str) -> Callable[..., Any]:
    """infc::NAME, as torch.NAME in evaluation, with its first states in a list. Only ever traced."""
    results = ", ".join(["Tensor"] * (3 if name == "lstm" else 2))
    schema = "(Tensor x, Tensor[] hx, Tensor[] params, bool has_biases, int num_layers, bool bidirectional, bool batch_first)"

    def real(*arguments: Any) -> Any:
        raise NotImplementedError(f"infc::{name} is for tracing")

    def fake(
        x: torch.Tensor, hx: Sequence[torch.Tensor], params: Sequence[torch.Tensor], has_biases: bool, num_layers: int,
        bidirectional: bool, batch_first: bool,
    ) -> tuple[torch.Tensor, ...]:  # fmt: skip
        every = x.new_empty((x.shape[0], x.shape[1], hx[0].shape[2] * (2 if bidirectional else 1)))
        return every, *(torch.empty_like(state) for state in hx)

    made = torch.library.custom_op(f"infc::{name}", real, mutates_args=(), schema=f"{schema} -> ({results})")
    made.register_fake(fake)
    return made


OWN: dict[str, Callable[..., Any]] = {name: _own(name) for name in NAMES}


class _Functions:
    """torch._VF as a module of torch sees it, with some functions replaced."""

    def __init__(self, torchs: Any, replaced: Mapping[str, Callable[..., Any]]) -> None:
        self._torchs = torchs
        self._replaced = replaced

    def __getattr__(self, name: str) -> Any:
        return self._replaced.get(name) or getattr(self._torchs, name)


def _in_place_of(torchs: Callable[..., Any], own: Callable[..., Any]) -> Callable[..., Any]:
    """`own` with torchs's arguments; torchs where own does not do what they ask for."""

    def call(x: torch.Tensor, hx: Any, params: Any, *rest: Any) -> Any:
        states = list(hx) if isinstance(hx, (tuple, list)) else [hx]
        has_biases, layers, _dropout, train, bidirectional, batch_first = rest
        projected = any(s.shape[-1] != states[0].shape[-1] for s in states)
        if projected or train:
            if projected and isinstance(x.shape[1 if batch_first else 0], torch.SymInt):
                raise FrontendError(
                    "a recurrent layer with projections is unrolled, and its length is not fixed",
                    hint="leave `proj_size` out and add a linear layer, or fix the length in the spec",
                )
            return torchs(x, hx, params, *rest)
        return own(x, states, list(params), has_biases, layers, bidirectional, batch_first)

    return call


def _packed(*arguments: Any) -> Any:
    raise FrontendError(
        "a packed sequence's lengths are values of a tensor, and a program is traced once for all values",
        hint="leave out pack_padded_sequence and give the layer whole rows: each row of a request without padding, or of "
        "requests that are merged, runs at its own length",
    )


def kept_operators(program: Any) -> tuple[Any, ...]:
    """aten's ops of a recurrent layer, where the importer knows all that an exported program has of them; else ()."""
    for node in program.graph.nodes:
        if str(node.target) == "aten.lstm.input":
            h, c = (state.meta["val"] for state in node.args[1])
            if h.shape[-1] != c.shape[-1]:
                return ()
    return tuple(getattr(torch.ops.aten, name).input for name in NAMES)


@contextlib.contextmanager
def whole_recurrences() -> Generator[None]:
    """nn.LSTM, nn.GRU and nn.RNN call OWN for the while, and sequences are not packed."""
    own = {name: _in_place_of(getattr(torch, name), OWN[name]) for name in NAMES}
    packing_functions = _Functions(_PACKING._VF, {"_pack_padded_sequence": _packed})
    with replaced([rnn], "_VF", _Functions(_LAYERS._VF, own)), replaced([packing], "_VF", packing_functions):
        yield
