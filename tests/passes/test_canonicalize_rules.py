"""Each rule of canonicalize: the graph before, the graph after, and equal bits on random inputs."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest
from pass_models import random_inputs, same_bits

from infc.compiler.ir.graph import Graph, Weight
from infc.compiler.ir.interpret import run
from infc.compiler.ir.printer import parse_graph, print_graph
from infc.compiler.ir.types import TensorType
from infc.compiler.ir.verify import verify
from infc.compiler.passes.canonicalize import RULES, Canonicalize

HEAD = "graph test {batch_dim=batch, length_dim=tokens}\ndims batch=1..8, tokens=1..16\n"
INPUTS = {
    "x": "%x: f32[batch,tokens,6] = input() {input=x}",
    "y": "%y: f32[batch,tokens,6] = input() {input=y}",
    "r": "%r: f32[batch,6] = input() {input=r, nan=true}",
    "v": "%v: f32[6] = input() {input=v}",
    "n": "%n: i64[batch,tokens] = input() {input=n, minimum=0, maximum=3}",
    "m": "%m: i64[batch,tokens] = input() {input=m, default=1, minimum=0, maximum=1, mask=true}",
    "s": "%s: i32[batch,tokens] = input() {input=s, minimum=-2, maximum=2}",
}
ARRAYS = {
    "w": np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4),
    "t": np.linspace(-1, 1, 20, dtype=np.float32).reshape(4, 5),
    "g": np.linspace(0.5, 1.5, 6, dtype=np.float32),
    "l": np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6),
    "h": np.linspace(-1, 2, 30, dtype=np.float32).reshape(1, 2, 1, 5, 1, 3),
}
WEIGHTS = {name: Weight(TensorType("float32", a.shape), lambda a=a: a) for name, a in ARRAYS.items()}


@dataclass(frozen=True)
class Case:
    """Lines of a graph before and after; the last line of each is the output."""

    rule: str
    before: str
    after: str


CASES = [
    Case(
        "drop_identity",
        "%1: f32[batch,tokens,6] = reshape(%x) {shape=[batch, tokens, 6]}\n"
        "%2: f32[batch,tokens,6] = expand(%1) {shape=[batch, tokens, 6]}",
        "%x",
    ),
    Case("drop_identity_permute", "%1: f32[batch,tokens,6] = permute(%x) {perm=[0, 1, 2]}", "%x"),
    Case("drop_full_slice", "%1: f32[batch,tokens,6] = slice(%x) {axis=1, start=0, stop=tokens}", "%x"),
    Case("drop_empty_pad", "%1: f32[batch,6] = pad(%r) {low=[0, 0], high=[0, 0], value=1.0}", "%r"),
    Case("drop_single_concat", "%1: f32[batch,6] = concat(%r) {axis=1}", "%r"),
    Case("drop_identity_cast", "%1: f32[batch,6] = cast(%r) {dtype=float32}", "%r"),
    Case(
        "merge_reshapes",
        "%1: f32[batch,tokens,2,3] = reshape(%x) {shape=[batch, tokens, 2, 3]}\n"
        "%2: f32[batch,tokens,3,2] = reshape(%1) {shape=[batch, tokens, 3, 2]}",
        "%1: f32[batch,tokens,3,2] = reshape(%x) {shape=[batch, tokens, 3, 2]}",
    ),
    Case(
        "merge_permutes",
        "%1: f32[tokens,6,batch] = permute(%x) {perm=[1, 2, 0]}\n%2: f32[batch,6,tokens] = permute(%1) {perm=[2, 1, 0]}",
        "%1: f32[batch,6,tokens] = permute(%x) {perm=[0, 2, 1]}",
    ),
    Case(
        "permute_of_ones",
        "%1: f32[batch,1,6] = reshape(%r) {shape=[batch, 1, 6]}\n%2: f32[1,batch,6] = permute(%1) {perm=[1, 0, 2]}",
        "%1: f32[1,batch,6] = reshape(%r) {shape=[1, batch, 6]}",
    ),
    Case(
        "merge_expands",
        "%1: f32[2,6] = expand(%v) {shape=[2, 6]}\n%2: f32[batch,2,6] = expand(%1) {shape=[batch, 2, 6]}",
        "%1: f32[batch,2,6] = expand(%v) {shape=[batch, 2, 6]}",
    ),
    Case(
        "merge_slices",
        "%1: f32[batch,4] = slice(%r) {axis=1, start=1, stop=5}\n%2: f32[batch,2] = slice(%1) {axis=1, start=1, stop=4, step=2}",
        "%1: f32[batch,2] = slice(%r) {axis=1, start=2, stop=5, step=2}",
    ),
    Case(
        "slice_of_reshape",
        "%1: f32[batch,tokens,3,2] = reshape(%x) {shape=[batch, tokens, 3, 2]}\n"
        "%2: f32[batch,tokens,1,2] = slice(%1) {axis=2, start=1, stop=2}",
        "%1: f32[batch,tokens,2] = slice(%x) {axis=2, start=2, stop=4}\n"
        "%2: f32[batch,tokens,1,2] = reshape(%1) {shape=[batch, tokens, 1, 2]}",
    ),
    Case(
        "slice_of_permute",
        "%1: f32[6,batch,tokens] = permute(%x) {perm=[2, 0, 1]}\n"
        "%2: f32[2,batch,tokens] = slice(%1) {axis=0, start=1, stop=3}\n"
        "%3: f32[batch,tokens,2] = permute(%2) {perm=[1, 2, 0]}",
        "%1: f32[batch,tokens,2] = slice(%x) {axis=2, start=1, stop=3}",
    ),
    Case(
        "drop_ones_of_permute",
        "%1: f32[batch,tokens,1,6] = reshape(%x) {shape=[batch, tokens, 1, 6]}\n"
        "%2: f32[1,batch,6,tokens] = permute(%1) {perm=[2, 0, 3, 1]}\n"
        "%3: f32[batch,6,tokens] = reshape(%2) {shape=[batch, 6, tokens]}",
        "%1: f32[batch,6,tokens] = permute(%x) {perm=[0, 2, 1]}",
    ),
    Case(
        "slice_of_concat",
        "%1: f32[batch,tokens,12] = concat(%x, %y) {axis=2}\n%2: f32[batch,tokens,3] = slice(%1) {axis=2, start=7, stop=10}",
        "%1: f32[batch,tokens,3] = slice(%y) {axis=2, start=1, stop=4}",
    ),
    Case(
        "merge_concats",
        "%1: f32[batch,tokens,12] = concat(%x, %y) {axis=2}\n%2: f32[batch,tokens,18] = concat(%1, %x) {axis=2}",
        "%1: f32[batch,tokens,18] = concat(%x, %y, %x) {axis=2}",
    ),
    Case(
        "concat_of_slices",
        "%1: f32[batch,2] = slice(%r) {axis=1, start=0, stop=2}\n%2: f32[batch,3] = slice(%r) {axis=1, start=2, stop=5}\n"
        "%3: f32[batch,5] = concat(%1, %2) {axis=1}",
        "%1: f32[batch,5] = slice(%r) {axis=1, start=0, stop=5}",
    ),
    Case(
        "sink_reshape",
        "%1: f32[batch,tokens,2,3] = reshape(%x) {shape=[batch, tokens, 2, 3]}\n%2: f32[batch,tokens,2,3] = mul(%1, f32(0.5))",
        "%1: f32[batch,tokens,6] = mul(%x, f32(0.5))\n%2: f32[batch,tokens,2,3] = reshape(%1) {shape=[batch, tokens, 2, 3]}",
    ),
    Case(
        "sink_permute",
        "%1: f32[batch,6,tokens] = permute(%x) {perm=[0, 2, 1]}\n%2: f32[batch,6,tokens] = gelu(%1)",
        "%1: f32[batch,tokens,6] = gelu(%x)\n%2: f32[batch,6,tokens] = permute(%1) {perm=[0, 2, 1]}",
    ),
    Case(
        "sink_two_permutes",
        "%1: f32[batch,6,tokens] = permute(%x) {perm=[0, 2, 1]}\n%2: f32[batch,6,tokens] = permute(%y) {perm=[0, 2, 1]}\n"
        "%3: f32[batch,6,tokens] = add(%1, %2)",
        "%1: f32[batch,tokens,6] = add(%x, %y)\n%2: f32[batch,6,tokens] = permute(%1) {perm=[0, 2, 1]}",
    ),
    Case(
        "sink_two_reshapes",
        "%1: f32[batch*tokens,6] = reshape(%x) {shape=[batch*tokens, 6]}\n%2: f32[batch*tokens,6] = reshape(%y) {shape=[batch*tokens, 6]}\n"
        "%3: f32[batch*tokens,6] = max(%1, %2)",
        "%1: f32[batch,tokens,6] = max(%x, %y)\n%2: f32[batch*tokens,6] = reshape(%1) {shape=[batch*tokens, 6]}",
    ),
    Case(
        "sink_matrix_reshapes",
        "%1: f32[batch,tokens,2,3] = reshape(%x) {shape=[batch, tokens, 2, 3]}\n%2: f32[batch,2,tokens,3] = permute(%1) {perm=[0, 2, 1, 3]}\n"
        "%3: f32[batch*2,tokens,3] = reshape(%2) {shape=[batch*2, tokens, 3]}\n"
        "%4: f32[batch*2,tokens,tokens] = matmul(%3, %3) {transpose_b=true}",
        "%1: f32[batch,tokens,2,3] = reshape(%x) {shape=[batch, tokens, 2, 3]}\n%2: f32[batch,2,tokens,3] = permute(%1) {perm=[0, 2, 1, 3]}\n"
        "%3: f32[batch,2,tokens,tokens] = matmul(%2, %2) {transpose_b=true}\n"
        "%4: f32[batch*2,tokens,tokens] = reshape(%3) {shape=[batch*2, tokens, tokens]}",
    ),
    Case(
        "sink_softmax_reshape",
        "%1: f32[batch*tokens,6] = reshape(%x) {shape=[batch*tokens, 6]}\n%2: f32[batch*tokens,6] = softmax(%1) {axis=1}",
        "%1: f32[batch,tokens,6] = softmax(%x) {axis=2}\n%2: f32[batch*tokens,6] = reshape(%1) {shape=[batch*tokens, 6]}",
    ),
    Case(
        "sink_last_axis",
        "%1: f32[batch*tokens,6] = reshape(%x) {shape=[batch*tokens, 6]}\n%2: f32[batch*tokens,1] = reduce(%1) {kind=max, axes=[1], keepdims=true}",
        "%1: f32[batch,tokens,1] = reduce(%x) {kind=max, axes=[2], keepdims=true}\n"
        "%2: f32[batch*tokens,1] = reshape(%1) {shape=[batch*tokens, 1]}",
    ),
    Case(
        "sink_last_axis",
        "%1: f32[batch*tokens,6] = reshape(%x) {shape=[batch*tokens, 6]}\n%2: f32[batch*tokens,2] = slice(%1) {axis=1, start=1, stop=3}",
        "%1: f32[batch,tokens,2] = slice(%x) {axis=2, start=1, stop=3}\n"
        "%2: f32[batch*tokens,2] = reshape(%1) {shape=[batch*tokens, 2]}",
    ),
    Case(
        "sink_last_gather",
        "%1: f32[batch*tokens,6] = reshape(%x) {shape=[batch*tokens, 6]}\n%2: i64[batch*tokens,2] = argsort(%1) {axis=1, count=2, descending=true}\n"
        "%3: f32[batch*tokens,2] = gather(%1, %2) {axis=1}",
        "%1: i64[batch,tokens,2] = argsort(%x) {axis=2, count=2, descending=true}\n"
        "%2: f32[batch,tokens,2] = gather(%x, %1) {axis=2}\n"
        "%3: f32[batch*tokens,2] = reshape(%2) {shape=[batch*tokens, 2]}",
    ),
    Case(
        "sink_merged_rows",
        "%1: f32[batch*tokens,6] = reshape(%x) {shape=[batch*tokens, 6]}\n%2: f32[batch*tokens,1] = slice(%1) {axis=1, start=0, stop=1}\n%3: f32[batch*tokens,6] = mul(%1, %2)",
        "%1: f32[batch,tokens,1] = slice(%x) {axis=2, start=0, stop=1}\n%2: f32[batch,tokens,6] = mul(%x, %1)\n"
        "%3: f32[batch*tokens,6] = reshape(%2) {shape=[batch*tokens, 6]}",
    ),
    Case(
        "sink_row_reshape",
        "%1: f32[batch*tokens,6] = reshape(%x) {shape=[batch*tokens, 6]}\n"
        "%2: f32[batch*tokens,6] = layer_norm(%1, @g) {bias=false}\n"
        "%3: f32[batch,tokens,6] = reshape(%2) {shape=[batch, tokens, 6]}",
        "%1: f32[batch,tokens,6] = layer_norm(%x, @g) {bias=false}",
    ),
    Case(
        "sink_ids_reshape",
        "%1: i64[batch*tokens] = reshape(%n) {shape=[batch*tokens]}\n%2: f32[batch*tokens,5] = embedding(@t, %1)",
        "%1: f32[batch,tokens,5] = embedding(@t, %n)\n%2: f32[batch*tokens,5] = reshape(%1) {shape=[batch*tokens, 5]}",
    ),
    Case(
        "sink_expand",
        "%1: i64[3] = iota() {shape=[3], axis=0}\n%2: i64[batch,3] = expand(%1) {shape=[batch, 3]}\n"
        "%3: f32[batch,3,5] = embedding(@t, %2)",
        "%1: i64[3] = iota() {shape=[3], axis=0}\n%2: f32[3,5] = embedding(@t, %1)\n"
        "%3: f32[batch,3,5] = expand(%2) {shape=[batch, 3, 5]}",
    ),
    Case(
        "sink_expand_cast",
        "%1: f32[batch,6] = expand(%v) {shape=[batch, 6]}\n%2: i64[batch,6] = cast(%1) {dtype=int64}",
        "%1: i64[6] = cast(%v) {dtype=int64}\n%2: i64[batch,6] = expand(%1) {shape=[batch, 6]}",
    ),
    Case(
        "drop_operand_expands",
        "%1: f32[batch,tokens,6] = expand(%v) {shape=[batch, tokens, 6]}\n%2: f32[batch,tokens,6] = add(%x, %1)",
        "%1: f32[batch,tokens,6] = add(%x, %v)",
    ),
    Case(
        "drop_leading_ones",
        "%1: f32[1,1,6] = reshape(%v) {shape=[1, 1, 6]}\n%2: f32[batch,tokens,6] = add(%x, %1)",
        "%1: f32[batch,tokens,6] = add(%x, %v)",
    ),
    Case(
        "scalar_operands",
        "%1: f32[1,1] = reshape(f32(0.5)) {shape=[1, 1]}\n%2: f32[batch,6] = div(%r, %1)",
        "%1: f32[batch,6] = div(%r, f32(0.5))",
    ),
    Case("constants_right", "%1: f32[batch,6] = mul(f32(3.0), %r)", "%1: f32[batch,6] = mul(%r, f32(3.0))"),
    Case("drop_neutral", "%1: f32[batch,6] = mul(%r, f32(1.0))\n%2: f32[batch,6] = sub(%1, f32(0.0))", "%r"),
    Case(
        "absorb",
        "%1: b1[batch,tokens] = ne(%n, i64(0))\n%2: b1[batch,tokens] = and(%1, b1(false))",
        "%1: b1[batch,tokens] = expand(b1(false)) {shape=[batch, tokens]}",
    ),
    Case("drop_double", "%1: f32[batch,6] = neg(%r)\n%2: f32[batch,6] = neg(%1)", "%r"),
    Case(
        "drop_same",
        "%1: b1[batch,tokens] = ne(%n, i64(2))\n%2: b1[batch,tokens] = and(%1, %1)",
        "%1: b1[batch,tokens] = ne(%n, i64(2))",
    ),
    Case("constant_where", "%1: f32[batch,6] = where(b1(true), %r, f32(2.0))", "%r"),
    Case(
        "where_not",
        "%1: b1[batch,6] = lt(%r, f32(0.0))\n%2: b1[batch,6] = not(%1)\n%3: f32[batch,6] = where(%2, %r, f32(1.0))",
        "%1: b1[batch,6] = lt(%r, f32(0.0))\n%2: f32[batch,6] = where(%1, f32(1.0), %r)",
    ),
    Case(
        "negate_comparison",
        "%1: b1[batch,tokens] = lt(%n, i64(2))\n%2: b1[batch,tokens] = not(%1)",
        "%1: b1[batch,tokens] = ge(%n, i64(2))",
    ),
    Case(
        "merge_bounds",
        "%1: f32[batch,6] = max(%r, f32(-1.0))\n%2: f32[batch,6] = max(%1, f32(0.5))",
        "%1: f32[batch,6] = max(%r, f32(0.5))",
    ),
    Case(
        "merge_casts",
        "%1: i64[batch,tokens] = cast(%s) {dtype=int64}\n%2: f32[batch,tokens] = cast(%1) {dtype=float32}",
        "%1: f32[batch,tokens] = cast(%s) {dtype=float32}",
    ),
    Case(
        "constant_cast",
        "%1: f32[] = cast(i64(3)) {dtype=float32}\n%2: f32[batch,6] = mul(%r, %1)",
        "%1: f32[batch,6] = mul(%r, f32(3.0))",
    ),
    Case("cast_to_bool", "%1: b1[batch,tokens] = cast(%n) {dtype=bool}", "%1: b1[batch,tokens] = ne(%n, i64(0))"),
    Case(
        "compare_cast_bool",
        "%1: b1[batch,tokens] = ne(%n, i64(2))\n%2: f32[batch,tokens] = cast(%1) {dtype=float32}\n"
        "%3: b1[batch,tokens] = eq(%2, f32(1.0))",
        "%1: b1[batch,tokens] = ne(%n, i64(2))",
    ),
    Case(
        "compare_cast_int",
        "%1: f32[batch,tokens] = cast(%n) {dtype=float32}\n%2: b1[batch,tokens] = ne(%1, f32(0.0))",
        "%1: b1[batch,tokens] = ne(%n, i64(0))",
    ),
    Case(
        "merge_parts_of_permute",
        "%1: f32[batch,tokens,2,3] = reshape(%x) {shape=[batch, tokens, 2, 3]}\n"
        "%2: f32[batch,tokens,2,3] = softmax(%1) {axis=3}\n"
        "%3: f32[tokens,batch,2,3] = permute(%2) {perm=[1, 0, 2, 3]}\n"
        "%4: f32[tokens,batch,6] = reshape(%3) {shape=[tokens, batch, 6]}",
        "%1: f32[batch,tokens,2,3] = reshape(%x) {shape=[batch, tokens, 2, 3]}\n"
        "%2: f32[batch,tokens,2,3] = softmax(%1) {axis=3}\n"
        "%3: f32[batch,tokens,6] = reshape(%2) {shape=[batch, tokens, 6]}\n"
        "%4: f32[tokens,batch,6] = permute(%3) {perm=[1, 0, 2]}",
    ),
    Case(
        "split_rows",
        "%1: f32[batch,tokens,2,3] = reshape(%x) {shape=[batch, tokens, 2, 3]}\n"
        "%2: f32[batch,tokens,2,3] = softmax(%1) {axis=3}\n"
        "%3: f32[batch*tokens,6] = reshape(%2) {shape=[batch*tokens, 6]}\n%4: f32[batch*tokens,4] = linear(%3, @l)",
        "%1: f32[batch,tokens,2,3] = reshape(%x) {shape=[batch, tokens, 2, 3]}\n"
        "%2: f32[batch,tokens,2,3] = softmax(%1) {axis=3}\n"
        "%3: f32[batch,tokens,6] = reshape(%2) {shape=[batch, tokens, 6]}\n"
        "%4: f32[batch,tokens,4] = linear(%3, @l)\n%5: f32[batch*tokens,4] = reshape(%4) {shape=[batch*tokens, 4]}",
    ),
    Case(
        "sink_row_permute",
        "%1: f32[tokens,batch,6] = permute(%x) {perm=[1, 0, 2]}\n"
        "%2: f32[tokens,batch,6] = layer_norm(%1, @g) {bias=false}\n%3: f32[tokens,batch,4] = linear(%2, @l)",
        "%1: f32[batch,tokens,6] = layer_norm(%x, @g) {bias=false}\n%2: f32[batch,tokens,4] = linear(%1, @l)\n"
        "%3: f32[tokens,batch,4] = permute(%2) {perm=[1, 0, 2]}",
    ),
    Case(
        "pick_of_each",
        "%1: i64[batch] = iota() {shape=[batch], axis=0}\n%2: i64[batch] = argmax(%n) {axis=1}\n"
        "%3: f32[batch,6] = index(%x, %1, %2) {axes=[0, 1]}",
        "%1: i64[batch] = argmax(%n) {axis=1}\n%2: i64[batch,1,1] = reshape(%1) {shape=[batch, 1, 1]}\n"
        "%3: i64[batch,1,6] = expand(%2) {shape=[batch, 1, 6]}\n%4: f32[batch,1,6] = gather(%x, %3) {axis=1}\n"
        "%5: f32[batch,6] = reshape(%4) {shape=[batch, 6]}",
    ),
    Case(
        "pick_of_each",
        "%1: i64[2] = iota() {shape=[2], axis=0}\n%2: i64[2,1,1] = reshape(%1) {shape=[2, 1, 1]}\n"
        "%3: i64[5] = iota() {shape=[5], axis=0}\n%4: i64[5,1] = reshape(%3) {shape=[5, 1]}\n"
        "%5: i64[3] = iota() {shape=[3], axis=0, start=2, step=-1}\n%6: f32[1,2,1,5,1,3] = expand(@h) {shape=[1, 2, 1, 5, 1, 3]}\n"
        "%7: f32[1,2,5,3] = reshape(%6) {shape=[1, 2, 5, 3]}\n%8: f32[1,2,5,3] = index(%7, %2, %4, %5) {axes=[1, 2, 3]}",
        "%1: f32[1,2,5,3] = reshape(@h) {shape=[1, 2, 5, 3]}\n%2: i64[3] = iota() {shape=[3], axis=0, start=2, step=-1}\n"
        "%3: i64[1,1,3] = reshape(%2) {shape=[1, 1, 3]}\n%4: i64[2,5,3] = expand(%3) {shape=[2, 5, 3]}\n"
        "%5: i64[1,2,5,3] = reshape(%4) {shape=[1, 2, 5, 3]}\n%6: f32[1,2,5,3] = gather(%1, %5) {axis=3}",
    ),
    Case(
        "index_by_counting",
        "%1: i64[batch] = iota() {shape=[batch], axis=0}\n%2: i64[batch,1,1,1] = reshape(%1) {shape=[batch, 1, 1, 1]}\n"
        "%3: i64[tokens] = iota() {shape=[tokens], axis=0}\n%4: i64[1,1,1,tokens] = reshape(%3) {shape=[1, 1, 1, tokens]}\n"
        "%5: f32[batch,1,1,tokens,6] = index(%x, %2, %4) {axes=[0, 1]}",
        "%1: f32[batch,1,1,tokens,6] = reshape(%x) {shape=[batch, 1, 1, tokens, 6]}",
    ),
    Case(
        "full_bias",
        "%1: f32[batch,tokens,2,3] = reshape(%x) {shape=[batch, tokens, 2, 3]}\n%2: f32[tokens,1] = expand(f32(0.5)) {shape=[tokens, 1]}\n"
        "%3: f32[batch,tokens,2,3] = attention(%1, %1, %1, %2) {scale=1.0, bias=true}",
        "%1: f32[batch,tokens,2,3] = reshape(%x) {shape=[batch, tokens, 2, 3]}\n"
        "%2: f32[1,1,tokens,tokens] = expand(f32(0.5)) {shape=[1, 1, tokens, tokens]}\n"
        "%3: f32[batch,tokens,2,3] = attention(%1, %1, %1, %2) {scale=1.0, bias=true}",
    ),
    Case(
        "decided_comparison",
        "%1: i64[tokens] = iota() {shape=[tokens], axis=0, start=3}\n%2: b1[tokens] = ge(%1, i64(3))",
        "%1: b1[tokens] = expand(b1(true)) {shape=[tokens]}",
    ),
    Case("zero_one_mask", "%1: b1[batch,tokens] = gt(%m, i64(0))", "%1: b1[batch,tokens] = ne(%m, i64(0))"),
    Case(
        "matmul_of_repeat",
        "%1: f32[batch,6,4] = expand(@w) {shape=[batch, 6, 4]}\n%2: f32[batch,tokens,4] = matmul(%x, %1)",
        "%1: f32[4,6] = permute(@w) {perm=[1, 0]}\n%2: f32[batch,tokens,4] = linear(%x, %1)",
    ),
    Case(
        "matmul_of_repeat",
        "%1: f32[batch,tokens,2,3] = reshape(%x) {shape=[batch, tokens, 2, 3]}\n%2: f32[batch,2,tokens,3] = permute(%1) {perm=[0, 2, 1, 3]}\n"
        "%3: f32[batch*2,tokens,3] = reshape(%2) {shape=[batch*2, tokens, 3]}\n%4: f32[batch,2,1,5,1,3] = expand(@h) {shape=[batch, 2, 1, 5, 1, 3]}\n"
        "%5: f32[batch*2,5,3] = reshape(%4) {shape=[batch*2, 5, 3]}\n"
        "%6: f32[batch*2,tokens,5] = matmul(%3, %5) {transpose_b=true}",
        "%1: f32[batch,tokens,2,3] = reshape(%x) {shape=[batch, tokens, 2, 3]}\n%2: f32[batch,2,tokens,3] = permute(%1) {perm=[0, 2, 1, 3]}\n"
        "%3: f32[2,5,3] = reshape(@h) {shape=[2, 5, 3]}\n%4: f32[batch,2,tokens,5] = matmul(%2, %3) {transpose_b=true}\n"
        "%5: f32[batch*2,tokens,5] = reshape(%4) {shape=[batch*2, tokens, 5]}",
    ),
    Case(
        "matmul_of_permute",
        "%1: f32[batch,6,tokens] = permute(%y) {perm=[0, 2, 1]}\n%2: f32[batch,tokens,tokens] = matmul(%x, %1)",
        "%1: f32[batch,tokens,tokens] = matmul(%x, %y) {transpose_b=true}",
    ),
    Case(
        "matmul_of_fixed",
        "%1: f32[batch,tokens,4] = matmul(%x, @w)",
        "%1: f32[4,6] = permute(@w) {perm=[1, 0]}\n%2: f32[batch,tokens,4] = linear(%x, %1)",
    ),
]


def graph_of(lines: str) -> Graph:
    """The graph of lines over INPUTS; the last line's node is the output."""
    names = {name: f"%{k}" for k, name in enumerate(INPUTS)}
    text = HEAD
    for name, line in INPUTS.items():
        text += line.replace(f"%{name}:", f"{names[name]}:") + "\n"
    body = re.sub(r"%(\w+)", lambda m: names.get(m[1], f"%{m[1]}0"), lines)
    output = re.match(r"%\w+", body.splitlines()[-1])
    assert output is not None
    text += (body + "\n" if ":" in lines else "") + f"output out = {output[0]}\n"
    return parse_graph(text, WEIGHTS)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.rule)
def test_rule_gives_the_expected_graph_and_keeps_every_bit(case: Case) -> None:
    before, expected = graph_of(case.before), graph_of(case.after)
    after = Canonicalize().apply(before)
    verify(after)
    assert print_graph(after) == print_graph(expected)
    for seed in range(3):
        inputs = random_inputs(before, seed)
        assert same_bits(run(before, inputs)["out"], run(after, inputs)["out"])


def test_every_rule_has_a_case() -> None:
    assert {rule.__name__ for _, rule in RULES} == {case.rule for case in CASES}


@pytest.mark.parametrize(
    "lines",
    [
        "%1: f32[batch,6] = add(%r, f32(0.0))",  # -0.0 + 0.0 is 0.0
        "%1: f32[batch,6] = sub(%r, f32(-0.0))",
        "%1: b1[batch,6] = lt(%r, f32(0.0))\n%2: b1[batch,6] = not(%1)",  # NaN
        "%1: f32[batch,tokens] = cast(%n) {dtype=float32}\n%2: i64[batch,tokens] = cast(%1) {dtype=int64}",
        "%1: i64[tokens] = iota() {shape=[tokens], axis=0}\n%2: b1[tokens] = ge(%1, i64(1))",
        "%1: i64[1,tokens] = iota() {shape=[1, tokens], axis=1}\n%2: f32[batch,1,tokens,6] = take(%x, %1) {axis=1}",
        "%1: i64[4] = iota() {shape=[4], axis=0}\n%2: i64[4] = flip(%1) {axes=[0]}\n%3: f32[batch,4] = index(%r, %2) {axes=[1]}",
        "%1: b1[batch,tokens] = ne(%m, i64(0))\n%2: b1[batch,tokens] = not(%1)",
        "%1: b1[batch,tokens] = gt(%n, i64(0))",  # not a 0/1 input
        "%1: f32[batch,tokens,6] = softmax(%x) {axis=1}",
        "%1: f32[batch,6,6] = expand(@g) {shape=[batch, 6, 6]}\n%2: f32[batch,tokens,6] = matmul(%x, %1)",  # its rows repeat
        "%1: f32[tokens,batch,6] = permute(%x) {perm=[1, 0, 2]}",
        "%1: f32[batch,tokens*6] = reshape(%x) {shape=[batch, tokens*6]}",
    ],
)
def test_what_looks_alike_but_is_not_equal_stays(lines: str) -> None:
    graph = graph_of(lines)
    assert print_graph(Canonicalize().apply(graph)) == print_graph(graph)


def test_zeros_keep_their_sign_and_nans_stay() -> None:
    graph = graph_of("%1: f32[batch,6] = mul(%r, f32(1.0))\n%2: f32[batch,6] = max(%1, f32(-1.0))")
    values = np.array([[-0.0, 0.0, np.nan, np.inf, -np.inf, 1e-40]], dtype=np.float32)
    inputs = random_inputs(graph, lengths=(1,)) | {"r": values}
    assert same_bits(run(graph, inputs)["out"], run(Canonicalize().apply(graph), inputs)["out"])
