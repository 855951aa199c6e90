"""Recurrent layers: torch's ops of a whole stack of layers, and the ones of ours that they are traced as."""

from __future__ import annotations

from ...ir.graph import Node
from ...ir.ops.leaf import Constant, Input
from .scope import Scope, Unsupported, Value, aten, static, tensor

MOVES = ("expand", "reshape", "slice", "permute")


def _is_zeros(node: Node) -> bool:
    while node.op.mnemonic in MOVES:
        node = node.operands[0]
    return isinstance(node.op, Constant) and node.op.value == 0


def _state(s: Scope, stacked: Node, number: int) -> Node:
    """[B, H] of layer and direction `number` of [layers * directions, B, H]."""
    return s.reshape(s.slice(stacked, 0, number, number + 1), stacked.type.shape[1:])


def _biases(s: Scope, kind: str, from_input: Node, from_hidden: Node) -> tuple[Node, Node | None]:
    """(what the product with the input adds, the gru's own bias)."""
    if kind != "gru":
        return s.map("add", from_input, from_hidden), None
    hidden = static(from_hidden.type.shape[0], "the hidden size") // 3
    zeros = s.expand(s.constant(0.0, "float32"), (hidden,))
    both = s.op("concat", s.slice(from_hidden, 0, 0, 2 * hidden), zeros, axis=0)
    return s.map("add", from_input, both), s.slice(from_hidden, 0, 2 * hidden, 3 * hidden)


def _fixed(weight: Node) -> None:
    """Raises Unsupported where the recurrent weights are computed from an input."""
    waiting = [weight]
    while waiting:
        node = waiting.pop()
        if isinstance(node.op, Input):
            raise Unsupported("a recurrent layer whose weights are computed from an input")
        waiting += node.operands


def _layers(
    s: Scope, kind: str, x: Node, states: list[Node], params: list[Node], has_biases: bool, layers: int,
    bidirectional: bool, batch_first: bool,
) -> tuple[Node, ...]:  # fmt: skip
    """(every step of the last layer, the last h of each layer and direction, the last c where there is one and it is
    used)."""
    directions = 2 if bidirectional else 1
    each = len(params) // max(layers * directions, 1)
    if layers < 1 or each * layers * directions != len(params) or each != (4 if has_biases else 2):
        raise Unsupported(
            f"recurrent layers ({layers}, {directions} directions) with {len(params)} weights",
            "use nn.LSTM, nn.GRU or nn.RNN without `proj_size`",
        )
    zeros = all(_is_zeros(state) for state in states)
    wants_cells = kind == "lstm" and s.used[2]
    value = x if batch_first else s.permute(x, (1, 0, 2))
    lasts: list[list[Node]] = [[], []]
    for layer in range(layers):
        outs: list[Node] = []
        for direction in range(directions):
            number = layer * directions + direction
            w_input, w_hidden, *biases = params[number * each : (number + 1) * each]
            _fixed(w_hidden)
            width = w_hidden.type.shape[1]
            extra: list[Node] = []
            added, own = _biases(s, kind, *biases) if biases else (None, None)
            gates = s.op("linear", value, w_input, *([added] if added else []), bias=added is not None)
            if own is not None:
                extra.append(own)
            if not zeros:
                extra += [_state(s, state, number) for state in states]
            both = s.op(
                "recurrence", gates, w_hidden, *extra, kind=kind, reverse=direction == 1, bias=own is not None,
                state=not zeros, cells=wants_cells,
            )  # fmt: skip
            parts = [s.slice(both, 2, k * width, (k + 1) * width) for k in range(2 if wants_cells else 1)]
            outs.append(parts[0])
            steps = both.type.shape[1]
            at = (0, 1) if direction == 1 else (steps - 1, steps)
            for kept, part in zip(lasts, parts, strict=False):
                kept.append(s.reshape(s.slice(part, 1, *at), (1, both.type.shape[0], width)))
        value = s.op("concat", *outs, axis=2) if len(outs) > 1 else outs[0]
    out = value if batch_first else s.permute(value, (1, 0, 2))
    return out, *(s.op("concat", *kept, axis=0) if len(kept) > 1 else kept[0] for kept in lasts if kept)


def _register(name: str, kind: str) -> None:
    """Rows for torch's op and for ours of that name."""

    def own(
        s: Scope, x: Value, hx: Value, params: Value, has_biases: Value, layers: Value, bidirectional: Value,
        batch_first: Value,
    ) -> tuple[Value, ...]:  # fmt: skip
        assert isinstance(params, list)
        found = _layers(
            s, kind, tensor(x), [tensor(h) for h in (hx if isinstance(hx, list) else [hx])], [tensor(p) for p in params],
            bool(has_biases), static(layers, "the number of layers"), bool(bidirectional), bool(batch_first),
        )  # fmt: skip
        return (*found, *[None] * (len(s.results) - len(found)))

    def torchs(
        s: Scope, x: Value, hx: Value, params: Value, has_biases: Value, layers: Value, dropout: Value, train: Value,
        bidirectional: Value, batch_first: Value,
    ) -> tuple[Value, ...]:  # fmt: skip
        if train and dropout:
            raise Unsupported("a recurrent layer that drops out", "call `.eval()` before exporting")
        return own(s, x, hx, params, has_biases, layers, bidirectional, batch_first)

    aten(f"infc.{name}")(own)
    aten(f"{name}.input")(torchs)


for _name, _kind in (("lstm", "lstm"), ("gru", "gru"), ("rnn_tanh", "tanh"), ("rnn_relu", "relu")):
    _register(_name, _kind)
