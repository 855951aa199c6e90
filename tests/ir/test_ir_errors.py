"""What every op refuses, and in which words."""

from __future__ import annotations

import pytest

from infc.compiler.ir.dims import sym
from infc.compiler.ir.graph import Op, OpError
from infc.compiler.ir.ops.argmax import Argmax
from infc.compiler.ir.ops.argmin import Argmin
from infc.compiler.ir.ops.argsort import Argsort
from infc.compiler.ir.ops.attention import Attention
from infc.compiler.ir.ops.cast import Cast
from infc.compiler.ir.ops.concat import Concat
from infc.compiler.ir.ops.conv import Conv
from infc.compiler.ir.ops.cumsum import Cumsum
from infc.compiler.ir.ops.embedding import Embedding
from infc.compiler.ir.ops.expand import Expand
from infc.compiler.ir.ops.flip import Flip
from infc.compiler.ir.ops.gather import Gather
from infc.compiler.ir.ops.group_norm import GroupNorm
from infc.compiler.ir.ops.index import Index
from infc.compiler.ir.ops.iota import Iota
from infc.compiler.ir.ops.l2_normalize import L2Normalize
from infc.compiler.ir.ops.layer_norm import LayerNorm
from infc.compiler.ir.ops.linear import Linear
from infc.compiler.ir.ops.log_softmax import LogSoftmax
from infc.compiler.ir.ops.map import Map
from infc.compiler.ir.ops.masked_mean import MaskedMean
from infc.compiler.ir.ops.matmul import Matmul
from infc.compiler.ir.ops.pad import Pad
from infc.compiler.ir.ops.permute import Permute
from infc.compiler.ir.ops.pool import Pool
from infc.compiler.ir.ops.recurrence import Recurrence
from infc.compiler.ir.ops.reduce import Reduce
from infc.compiler.ir.ops.reshape import Reshape
from infc.compiler.ir.ops.rms_norm import RmsNorm
from infc.compiler.ir.ops.slice import Slice
from infc.compiler.ir.ops.softmax import Softmax
from infc.compiler.ir.ops.take import Take
from infc.compiler.ir.ops.var import Var
from infc.compiler.ir.shapes import match_groups
from infc.compiler.ir.types import parse_type

ONE = ((0, 0),)
Q, K = "f32[batch,tokens,4,8]", "f32[batch,tokens,2,8]"

CASES: list[tuple[Op, str, str]] = [
    (Map("add"), "f32[batch,3] f32[tokens,3]", "add: dimensions batch and tokens differ and neither is 1"),
    (Map("add"), "f32[2] f32[3]", "([2] and [3])"),
    (Map("add"), "f32[2] i64[2]", "add takes operands of one dtype, not float32, int64; cast them first"),
    (Map("nothing"), "f32[2]", "no primitive is called 'nothing'"),
    (Cast("float32"), "f32[2] f32[2]", "cast takes 1 operand here, not 2"),
    (Cast("float64"), "f32[2]", "cast: no dtype is called 'float64'; known: float32, int64, int32, bool"),  # pyright: ignore[reportArgumentType]
    (Reshape((3,)), "f32[batch,3]", "reshape: f32[batch,3] has 3*batch elements, [3] has 3; they must be equal"),
    (Reshape((-1,)), "f32[3]", "reshape: a dimension is -1; it must not be negative"),
    (Permute((0, 0)), "f32[2,3]", "permute: perm (0, 0) must hold each of 0..1 once, for f32[2,3]"),
    (Expand((4, 2)), "f32[3]", "expand: dimensions 3 and 2 differ"),
    (Expand((3,)), "f32[1,3]", "expand: x f32[1,3] does not broadcast to [3]"),
    (Expand((1,)), "f32[3]", "expand: x f32[3] does not broadcast to [1]"),
    (Slice(2, 0, 1), "f32[2,3]", "slice: axis 2 is not in 0..1 of f32[2,3]"),
    (Slice(0, -1, 1), "f32[2]", "slice: start is -1; it must not be negative"),
    (Slice(0, 0, 3), "f32[2]", "slice: 0:3 is not within axis 0 of f32[2]"),
    (Slice(0, 2, 1), "f32[2]", "slice: 2:1 is not within axis 0 of f32[2]"),
    (Slice(0, 0, 2, 0), "f32[2]", "slice: step is 0; it must be at least 1"),
    (Concat(0), "", "concat takes at least one operand"),
    (Concat(0), "f32[2,3] f32[2,4]", "concat: f32[2,4] does not fit f32[2,3] (only axis 0 may differ)"),
    (Concat(0), "f32[2] i32[2]", "concat: i32[2] does not fit f32[2]"),
    (Concat(1), "f32[2]", "concat: axis 1 is not in 0..0 of f32[2]"),
    (Pad((1,), (1, 1), 0.0), "f32[2,3]", "pad: low and high need 2 amounts each for f32[2,3], not 1, 2"),
    (Pad((-1,), (0,), 0.0), "f32[2]", "pad: an amount is -1; it must not be negative"),
    (Pad((1,), (0,), 0.5), "i64[2]", "pad: value 0.5 does not fit i64[2]"),
    (Flip((0, 0)), "f32[2]", "flip: axes (0, 0) name one axis twice"),
    (Iota((3,), 1), "", "iota: axis 1 is not in 0..0 of i64[3]"),
    (Iota((3,), 0, dtype="bool"), "", "iota: dtype must be float32 or int64 or int32, not bool"),
    (Iota((3,), 0, start=0.5), "", "iota: start 0.5 and step 1 must be integers for int64"),
    (Iota((-3,), 0), "", "iota: a dimension is -3"),
    (Gather(0), "f32[2,3] f32[2,3]", "gather: index must be int64 or int32, not f32[2,3]"),
    (Gather(0), "f32[2,3] i64[2]", "gather: index i64[2] must have the rank of x f32[2,3]"),
    (Gather(0), "f32[2,3] i64[2,4]", "gather: dimension 1 of index i64[2,4] is not within that of x f32[2,3]"),
    (Gather(0), "f32[2,batch] i64[2,tokens]", "gather: dimension 1 of index"),
    (Take(0), "f32[2] b1[2]", "take: index must be int64 or int32, not b1[2]"),
    (Take(1), "f32[2] i64[2]", "take: axis 1 is not in 0..0"),
    (Embedding(), "f32[5] i64[2]", "embedding: weight must be [rows, features], not f32[5]"),
    (Embedding(), "f32[5,2] f32[2]", "embedding: ids must be int64 or int32, not f32[2]"),
    (Index((0, 2)), "f32[2,3,4] i64[1] i64[1]", "index: axes (0, 2) must be adjacent and ascending"),
    (Index((0, 1)), "f32[2,3] i64[2] i64[3]", "index: dimensions 2 and 3 differ"),
    (Index((0,)), "f32[2,3] f32[2]", "index: an index must be int64 or int32, not f32[2]"),
    (Reduce("median", (0,)), "f32[2]", "reduce: no kind is called 'median'; known: sum, prod, max"),
    (Reduce("mean", (0,)), "i64[2]", "reduce mean: x must be float32, not i64[2]"),
    (Reduce("any", (0,)), "f32[2]", "reduce any: x must be bool, not f32[2]"),
    (Reduce("sum", (1,)), "f32[2]", "reduce: axis 1 is not in 0..0 of f32[2]"),
    (Argmax(0), "b1[2]", "argmax: x must be float32 or int64 or int32, not b1[2]"),
    (Argmax(0), "f32[0]", "argmax: axis 0 of f32[0] is empty"),
    (Argmin(1), "f32[2]", "argmin: axis 1 is not in 0..0"),
    (Argsort(0, 2), "b1[2]", "argsort: x must be float32 or int64 or int32, not b1[2]"),
    (Argsort(1, 2), "f32[2]", "argsort: axis 1 is not in 0..0 of f32[2]"),
    (Argsort(0, -1), "f32[2]", "argsort: count is -1; it must not be negative"),
    (Argsort(0, 3), "f32[2]", "argsort: 3 elements are more than axis 0 of f32[2] has"),
    (Cumsum(0), "b1[2]", "cumsum: x must be float32 or int64 or int32"),
    (Softmax(0), "i64[2]", "softmax: x must be float32, not i64[2]"),
    (LogSoftmax(3), "f32[2]", "log_softmax: axis 3 is not in 0..0"),
    (Var((0,)), "i32[2]", "var: x must be float32, not i32[2]"),
    (LayerNorm(), "f32[2,3] f32[3]", "layer_norm takes 3 operands here, not 2"),
    (LayerNorm(), "f32[2,3] f32[2] f32[3]", "layer_norm: weight f32[2] must have shape [3]"),
    (LayerNorm(), "i64[2,3] f32[3] f32[3]", "layer_norm: x must be float32"),
    (LayerNorm(weight=False, bias=False), "f32[]", "layer_norm: x needs a last axis, f32[] has none"),
    (LayerNorm(weight=False, bias=False, residual=True), "f32[2,3] f32[3]", "residual f32[3] must have shape [2,3]"),
    (RmsNorm(), "f32[2,3] f32[2]", "rms_norm: weight f32[2] must have shape [3]"),
    (RmsNorm(weight=False), "f32[]", "rms_norm: x needs a last axis"),
    (GroupNorm(2, weight=False, bias=False), "f32[2]", "group_norm: x must be [N, C, ...], not f32[2]"),
    (GroupNorm(2, weight=False, bias=False), "f32[2,3]", "group_norm: 3 channels of f32[2,3] do not divide into 2"),
    (GroupNorm(1, bias=False), "f32[2,3] f32[2]", "group_norm: weight or bias f32[2] must have shape [3]"),
    (L2Normalize(), "f32[]", "l2_normalize: x needs a last axis"),
    (L2Normalize(), "i64[3]", "l2_normalize: x must be float32"),
    (MaskedMean(), "f32[2,3] b1[2,3]", "masked_mean: x must be [batch, tokens, features], not f32[2,3]"),
    (MaskedMean(), "f32[2,3,4] b1[2,4]", "masked_mean: mask b1[2,4] must have shape [2,3]"),
    (MaskedMean(), "f32[2,3,4] i64[2,3]", "masked_mean: mask must be bool, not i64[2,3]"),
    (Linear(), "f32[2,3]", "linear takes 2 operands here, not 1"),
    (Linear(), "f32[2,3] i64[4,3]", "linear takes x in float32 and other operands in float32, not f32[2,3], i64[4,3]"),
    (Linear(), "f32[2,3] f32[4,5]", "linear: x f32[2,3] does not fit weight f32[4,5]"),
    (Linear(bias=True), "f32[2,3] f32[4,3] f32[3]", "linear: bias f32[3] does not fit weight f32[4,3]"),
    (Linear(residual=True), "f32[2,3] f32[4,3] f32[4]", "linear: residual f32[4] does not fit the result f32[2,4]"),
    (Linear(activation="swish"), "f32[2,3] f32[4,3]", "linear: no activation is called 'swish'; known: relu"),
    (Matmul(), "f32[3] f32[3,2]", "matmul: a f32[3] and b f32[3,2] must be matrices or batches of them"),
    (Matmul(), "f32[2,3] i64[3,2]", "matmul: a f32[2,3] and b i64[3,2] must be of one dtype"),
    (Matmul(), "b1[2,3] b1[3,2]", "matmul: a must be float32 or int64 or int32"),
    (Matmul(), "f32[2,3] f32[4,2]", "matmul: the inner dimensions 3 of a f32[2,3] and 4 of b f32[4,2] differ"),
    (Matmul(), "f32[batch,2,3] f32[tokens,3,2]", "matmul: dimensions batch and tokens differ"),
    (Conv((1,), ONE, (1,)), "f32[1,2] f32[3,2]", "conv: x f32[1,2] and weight f32[3,2] must have one or two spatial"),
    (Conv((1, 1), ONE, (1,)), "f32[1,2,5] f32[3,2,1]", "need 1 entries each"),
    (Conv((0,), ONE, (1,)), "f32[1,2,5] f32[3,2,1]", "conv: stride (0,) and dilation (1,) must be at least 1"),
    (Conv((1,), ((-1, 0),), (1,)), "f32[1,2,5] f32[3,2,1]", "padding ((-1, 0),) at least 0"),
    (Conv((1,), ONE, (1,)), "f32[1,2,5] f32[3,2,tokens]", "must have fixed extents of at least 1"),
    (Conv((1,), ONE, (1,), 2), "f32[1,3,5] f32[4,1,1]", "conv: x f32[1,3,5] and weight f32[4,1,1] do not fit with 2"),
    (Conv((1,), ONE, (2,)), "f32[1,2,4] f32[3,2,3]", "conv: a window of 5 does not fit into 4 + 0 + 0"),
    (Conv((1,), ONE, (1,), bias=True), "f32[1,2,4] f32[3,2,3] f32[2]", "conv: bias f32[2] must have shape [3]"),
    (Conv((1,), ONE, (1,), residual=True), "f32[1,2,4] f32[3,2,3] f32[1,3,4]", "must have shape [1,3,2]"),
    (Conv((1,), ONE, (1,), activation="x"), "f32[1,2,4] f32[3,2,3]", "conv: no activation is called 'x'"),
    (Conv((1,), ONE, (1,)), "f32[1,2,4] i64[3,2,3]", "conv: an operand must be float32"),
    (Pool("min", (2,), (1,), ONE, (1,)), "f32[1,2,4]", "pool: no kind is called 'min'; known: max, avg"),
    (Pool("avg", (2,), (1,), ONE, (1,)), "i64[1,2,4]", "pool avg: x must be float32"),
    (Pool("max", (2,), (1,), ONE, (1,)), "f32[1,2]", "pool: x f32[1,2] must be [N, C, *spatial]"),
    (
        Pool("max", (2,), (1,), ((2, 0),), (1,)),
        "f32[1,2,4]",
        "pool: padding (2, 0) must be smaller than the window of 2",
    ),
    (Pool("avg", (2,), (1,), ONE, (2,)), "f32[1,2,4]", "pool avg takes no dilation, not (2,)"),
    (Pool("max", (2,), (2,), ONE, (1,), ceil_mode=True), "f32[1,2,tokens]", "ceil_mode with stride 2 needs a fixed"),
    (Recurrence("rnn"), "f32[2,3,4] f32[4,4]", "recurrence: no kind is called 'rnn'; known: lstm, gru, tanh, relu"),
    (
        Recurrence("lstm", bias=True),
        "f32[2,3,8] f32[8,2] f32[2]",
        "recurrence: lstm has its bias in x, only gru takes one",
    ),
    (Recurrence("gru", cells=True), "f32[2,3,6] f32[6,2]", "recurrence: gru has no cells, only lstm"),
    (Recurrence("lstm", state=True), "f32[2,3,8] f32[8,2] f32[2,2]", "recurrence takes 4 operands here, not 3"),
    (Recurrence("tanh"), "f32[2,3,8] i64[8,8]", "recurrence: each operand must be float32, not i64[8,8]"),
    (Recurrence("tanh"), "f32[2,3,8] f32[8,tokens]", "weight must be [gates * hidden, hidden] with fixed extents"),
    (Recurrence("lstm"), "f32[2,3,8] f32[8,4]", "recurrence: weight f32[8,4] must have shape [16,4]"),
    (Recurrence("lstm"), "f32[2,8] f32[8,2]", "recurrence: x must be [batch, steps, gates * hidden], not f32[2,8]"),
    (Recurrence("lstm"), "f32[2,3,9] f32[8,2]", "recurrence: x f32[2,3,9] must have shape [2,3,8]"),
    (Recurrence("gru", bias=True), "f32[2,3,6] f32[6,2] f32[6]", "recurrence: bias f32[6] must have shape [2]"),
    (Recurrence("tanh", state=True), "f32[2,3,8] f32[8,8] f32[3,8]", "a first state f32[3,8] must have shape [2,8]"),
    (Attention(1.0), f"{Q} {K}", "attention takes 3 operands here, not 2"),
    (Attention(1.0), f"f32[batch,4,8] {K} {K}", "attention: q must be [batch, tokens, heads, features]"),
    (Attention(1.0), f"{Q} {K} i64[batch,tokens,2,8]", "attention: v must be float32"),
    (Attention(1.0), f"{Q} f32[batch,tokens,2,4] {K}", "do not fit"),
    (Attention(1.0), f"{Q} f32[batch,tokens,3,8] f32[batch,tokens,3,8]", "4 query heads must be a multiple of 3 key"),
    (Attention(1.0, empty="mean"), f"{Q} {K} {K}", "empty=mean must be zeros, mean or low, the last two with a mask"),
    (
        Attention(1.0, mask=True, empty="low"),
        f"{Q} {K} {K} b1[batch,tokens]",
        "low=0.0 must be a finite number below 0",
    ),
    (
        Attention(1.0, mask=True, empty="low", low=float("-inf")),
        f"{Q} {K} {K} b1[batch,tokens]",
        "low=-inf must be a finite",
    ),
    (Attention(1.0, window=(-1, 0)), f"{Q} {K} {K}", "attention: window (-1, 0) must not be negative"),
    (Attention(1.0, mask=True), f"{Q} {K} {K} i64[batch,tokens]", "attention: mask must be bool"),
    (
        Attention(1.0, mask=True),
        f"{Q} {K} {K} b1[batch,4]",
        "attention: mask b1[batch,4] must have shape [batch,tokens]",
    ),
    (Attention(1.0, bias=True), f"{Q} {K} {K} f32[1,1,1,1,1]", "does not broadcast to [batch,4,tokens,tokens]"),
    (Attention(1.0, bias=True), f"{Q} {K} {K} b1[1,4,tokens,tokens]", "attention: bias must be float32"),
]


@pytest.mark.parametrize(
    ("op", "types", "message"), CASES, ids=[f"{op.name}-{k}" for k, (op, _, _) in enumerate(CASES)]
)
def test_refused(op: Op, types: str, message: str) -> None:
    with pytest.raises(OpError) as caught:
        op.infer(*(parse_type(text) for text in types.split()))
    assert message in str(caught.value)


def test_every_op_but_concat_refuses_a_wrong_count() -> None:
    for op in {type(op): op for op, _, _ in CASES if not isinstance(op, Concat)}.values():
        with pytest.raises(OpError):
            op.infer(*[parse_type("f32[2,3]")] * 9)


def test_shapes_of_different_sizes_have_no_groups() -> None:
    with pytest.raises(OpError, match="differ in their element counts"):
        match_groups((2, 3), (sym("batch"),))
