"""canonicalize: one spelling for each computation. Every rule keeps every bit of every result.

Views (reshape, permute, expand) sink towards the outputs through elementwise ops and linears, where they meet and
cancel; neutral operands, double negations and chains of casts go; masks made from 0/1 inputs become `ne(mask, 0)`;
products with fixed matrices become `linear`.

Not here: x + 0.0 stays, since it turns -0.0 into 0.0; sums are never reordered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ir.graph import Graph, Op
from ..ir.ops.argsort import Argsort
from ..ir.ops.attention import Attention
from ..ir.ops.cast import Cast
from ..ir.ops.concat import Concat
from ..ir.ops.embedding import Embedding
from ..ir.ops.expand import Expand
from ..ir.ops.gather import Gather
from ..ir.ops.index import Index
from ..ir.ops.layer_norm import LayerNorm
from ..ir.ops.linear import Linear
from ..ir.ops.map import Map
from ..ir.ops.matmul import Matmul
from ..ir.ops.pad import Pad
from ..ir.ops.permute import Permute
from ..ir.ops.reduce import Reduce
from ..ir.ops.reshape import Reshape
from ..ir.ops.rms_norm import RmsNorm
from ..ir.ops.slice import Slice
from ..ir.ops.softmax import Softmax
from . import canonical_index as picks
from . import canonical_maps as maps
from . import canonical_rows as rows
from . import canonical_views as views
from .patterns import Rule, apply_rules


@dataclass(frozen=True)
class Canonicalize:
    """See the module."""

    name: ClassVar[str] = "canonicalize"

    def apply(self, graph: Graph) -> Graph:
        return apply_rules(graph, RULES)


RULES: tuple[tuple[type[Op], Rule], ...] = (
    # views that do nothing
    (Reshape, views.drop_identity),  # reshape(x){shape of x} -> x
    (Permute, views.drop_identity_permute),  # permute(x){0,1,2} -> x
    (Expand, views.drop_identity),  # expand(x){shape of x} -> x
    (Slice, views.drop_full_slice),  # slice(x){0:extent} -> x
    (Pad, views.drop_empty_pad),  # pad(x){0, 0} -> x
    (Concat, views.drop_single_concat),  # concat(x) -> x
    (Cast, maps.drop_identity_cast),  # cast(x: T){T} -> x
    # views of views
    (Reshape, views.merge_reshapes),  # reshape(reshape(x)) -> reshape(x)
    (Permute, views.merge_permutes),  # permute(permute(x)) -> permute(x)
    (Permute, views.permute_of_ones),  # permute(x) that moves only axes of extent 1 -> reshape(x)
    (Expand, views.merge_expands),  # expand(expand(x)) -> expand(x)
    (Slice, views.merge_slices),  # slice(slice(x)) -> slice(x), same axis
    (Slice, views.slice_of_concat),  # slice(concat(x, y)) within y -> slice(y)
    (Slice, views.slice_of_reshape),  # slice(reshape(x: [T, 12]){T, 3, 4}){axis 1} -> reshape(slice(x)), of columns
    (Slice, views.slice_of_permute),  # slice(permute(x)) -> permute(slice(x))
    (Reshape, views.drop_ones_of_permute),  # reshape(permute(x: [B, 1, T]){1, 0, 2}){B, T} -> permute(reshape(x))
    (
        Reshape,
        views.merge_parts_of_permute,
    ),  # reshape(permute(x: [B, T, 2, 3]){1, 0, 2, 3}){T, B, 6} -> permute(reshape(x))
    (Concat, views.merge_concats),  # concat(concat(x, y), z) -> concat(x, y, z)
    (Concat, views.concat_of_slices),  # concat(slice(x){0:4}, slice(x){4:9}) -> slice(x){0:9}
    # views sink
    (Map, views.sink_reshape),  # relu(reshape(x)) -> reshape(relu(x)); mul(reshape(x), c) -> reshape(mul(x, c))
    (Cast, views.sink_reshape),  # cast(reshape(x)) -> reshape(cast(x))
    (Map, views.sink_permute),  # relu(permute(x)) -> permute(relu(x))
    (Cast, views.sink_permute),  # cast(permute(x)) -> permute(cast(x))
    (Map, views.sink_two_permutes),  # add(permute(x), permute(y)) -> permute(add(x, y))
    (Map, views.sink_two_reshapes),  # add(reshape(x), reshape(y)) -> reshape(add(x, y))
    (Map, rows.sink_merged_rows),  # where(reshape(x), reshape(y), c) -> reshape(where(x, y, c)), leading axes merged
    (Matmul, views.sink_matrix_reshapes),  # matmul(reshape(x), reshape(y)) -> reshape(matmul(x, y)), each matrix kept
    (Softmax, rows.sink_softmax_reshape),  # softmax(reshape(x)) -> reshape(softmax(x)), the last axis kept
    (Argsort, rows.sink_last_axis),  # argsort(reshape(x)) -> reshape(argsort(x)), leading axes merged, along the last
    (Slice, rows.sink_last_axis),  # slice(reshape(x)) -> reshape(slice(x)), leading axes merged, along the last
    (Reduce, rows.sink_last_axis),  # reduce(reshape(x)) -> reshape(reduce(x)), leading axes merged, along the last
    (Gather, rows.sink_last_gather),  # gather(reshape(x), reshape(i)) -> reshape(gather(x, i)), likewise
    (Linear, rows.sink_row_reshape),  # linear(reshape(x), w) -> reshape(linear(x, w)), the last axis kept
    (Linear, rows.split_rows),  # linear(reshape(x: [B, T, 2, 3]){B*T, 6}, w) -> reshape(linear(reshape(x){B, T, 6}, w))
    (Linear, rows.sink_row_permute),  # linear(permute(x), w) -> permute(linear(x, w)), the last axis kept
    (LayerNorm, rows.sink_row_permute),  # layer_norm(permute(x)) -> permute(layer_norm(x)), the last axis kept
    (RmsNorm, rows.sink_row_permute),  # rms_norm(permute(x)) -> permute(rms_norm(x)), the last axis kept
    (LayerNorm, rows.sink_row_reshape),  # layer_norm(reshape(x)) -> reshape(layer_norm(x)), the last axis kept
    (RmsNorm, rows.sink_row_reshape),  # rms_norm(reshape(x)) -> reshape(rms_norm(x)), the last axis kept
    (Embedding, views.sink_ids_reshape),  # embedding(w, reshape(ids)) -> reshape(embedding(w, ids))
    (Embedding, views.sink_expand),  # embedding(w, expand(ids)) -> expand(embedding(w, ids))
    (Cast, views.sink_expand_cast),  # cast(expand(x)) -> expand(cast(x))
    (Map, views.drop_operand_expands),  # add(x, expand(y)) -> add(x, y), where the shape stays
    (Map, views.drop_leading_ones),  # add(x, reshape(y: [T]){1, T}) -> add(x, y), where the shape stays
    (Map, views.scalar_operands),  # add(x, reshape(c)) -> add(x, c) for a constant c, where the shape stays
    (Index, picks.index_by_counting),  # index(x, iota: [B, 1], iota: [1, T]) -> x, where each counts a whole axis
    (Index, picks.pick_of_each),  # index(x: [B, T, 6], iota: [B], i: [B]) -> reshape(gather(x, expand(i)){axis 1})
    # elementwise
    (Map, maps.decided_comparison),  # ge(iota, 0) -> true
    (Map, maps.constants_right),  # mul(c, x) -> mul(x, c); add eq ne and or too
    (Map, maps.drop_neutral),  # mul(x, 1) -> x; div(x, 1), sub(x, 0), add(x: int, 0), and(x, true), or(x, false) too
    (Map, maps.absorb),  # and(x, false) -> false; or(x, true) -> true
    (Map, maps.drop_double),  # neg(neg(x)) -> x; not(not(x)) -> x
    (Map, maps.drop_same),  # and(x, x) -> x; or(x, x), where(c, x, x) too
    (Map, maps.constant_where),  # where(true, x, y) -> x; where(false, x, y) -> y
    (Map, maps.where_not),  # where(not(c), x, y) -> where(c, y, x)
    (Map, maps.negate_comparison),  # not(eq(x, y)) -> ne(x, y); not(lt(x, y)) -> ge(x, y) for integers
    (Map, maps.merge_bounds),  # max(max(x, a), b) -> max(x, max(a, b)) for constants; min too
    (Cast, maps.merge_casts),  # cast(cast(x)) -> cast(x), where the first loses nothing
    (Cast, maps.constant_cast),  # cast(c) -> c' for a constant c
    # masks
    (Cast, maps.cast_to_bool),  # cast(x: int){bool} -> ne(x, 0)
    (Map, maps.compare_cast_bool),  # ne(cast(m: bool), 0) -> m; eq(cast(m), 1) -> m; eq(cast(m), 0) -> not(m)
    (Map, maps.compare_cast_int),  # ne(cast(x: int){f32}, 0.0) -> ne(x, 0); eq too
    (Map, maps.zero_one_mask),  # gt(mask, 0), ge(mask, 1), eq(mask, 1) -> ne(mask, 0); lt, le, eq 0, ne 1 -> its not
    (
        Attention,
        views.full_bias,
    ),  # attention(..., bias: [T, S]) -> attention(..., bias: [1, 1, T, S]), S never 1 for all
    # products
    (Matmul, views.matmul_of_repeat),  # matmul(x, expand(y)) -> matmul(x, y), of whole matrices; reshape(expand(y)) too
    (Matmul, views.matmul_of_permute),  # matmul(x, permute(y)) -> matmul(x, y){transpose_b}
    (Matmul, views.matmul_of_fixed),  # matmul(x, w) -> linear(x, permute(w)) for a fixed matrix w
)
