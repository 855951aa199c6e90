"""Grouping of islands: as few groups as can be, and no heavy work twice."""

from __future__ import annotations

from pass_models import B, T, node, op
from ragged_cases import text_input

from infc.compiler.ir.graph import Graph, Node
from infc.compiler.ir.ops.cumsum import Cumsum
from infc.compiler.ir.ops.expand import Expand
from infc.compiler.ir.ops.matmul import Matmul
from infc.compiler.ir.ops.permute import Permute
from infc.compiler.ir.ops.reduce import Reduce
from infc.compiler.passes.ragged import Place, analyse


def groups(graph: Graph) -> list[list[str]]:
    return [[n.op.name for n in group] for group in analyse(graph).islands]


def turned(x: Node) -> Node:
    """[B, T, 8] -> [B, 8, T]: a value that exists per row only."""
    return node(Permute((0, 2, 1)), x)


def test_islands_that_do_not_need_each_other_are_one_group() -> None:
    b, x, _ = text_input()
    left, right = node(Cumsum(1), op("exp", x)), node(Cumsum(1), op("tanh", x))
    assert groups(b.graph("tokens", out=op("add", left, right))) == [["cumsum", "cumsum"]]


def test_islands_with_flat_work_between_are_two_groups() -> None:
    b, x, _ = text_input()
    y = node(Cumsum(1), b.linear(node(Cumsum(1), x), "between", 8))
    assert groups(b.graph("tokens", out=y)) == [["cumsum"], ["cumsum"]]


def test_a_light_local_value_is_listed_in_each_group_that_reads_it() -> None:
    b, x, _ = text_input()
    shared = op("exp", turned(x))
    first = op("add", x, turned(op("neg", shared)))
    second = turned(op("mul", shared, turned(b.linear(first, "between", 8))))
    graph = b.graph("tokens", out=second)
    placement = analyse(graph)
    assert len(placement.islands) == 2
    assert all(shared in group for group in placement.islands)
    assert placement.place[shared] is Place.LOCAL
    linear = next(n for n in graph.nodes() if n.op.mnemonic == "linear")
    assert placement.flat[linear]


def test_a_heavy_local_value_joins_the_groups_that_read_it() -> None:
    b, x, _ = text_input()
    shared = node(Matmul(), x, turned(x))  # [B, T, T]
    first = node(Matmul(), shared, x)
    second = node(Matmul(), shared, b.linear(first, "between", 8))
    graph = b.graph("tokens", out=second)
    placement = analyse(graph)
    assert len(placement.islands) == 1
    assert [n.op.name for n in placement.islands[0]].count("matmul") == 3
    linear = next(n for n in graph.nodes() if n.op.mnemonic == "linear")
    assert not placement.flat[linear]
    assert "share work" in placement.reasons[linear]


def test_a_local_value_belongs_to_the_group_that_reads_it_and_to_no_earlier_one() -> None:
    b, x, _ = text_input()
    local = turned(x)
    late = op("add", b.linear(node(Cumsum(1), x), "between", 8), turned(op("exp", local)))
    graph = b.graph("tokens", out=node(Cumsum(1), late))
    islands = analyse(graph).islands
    assert all((local in group) == any(local in n.operands for n in group) for group in islands)


def test_a_local_output_is_in_an_island() -> None:
    b, x, _ = text_input()
    graph = b.graph("tokens", out=turned(x))
    assert groups(graph) == [["permute"]]


def test_what_a_row_reduces_to_is_stored_and_read_flat() -> None:
    b, x, _ = text_input()
    mean = node(Reduce("mean", (1,)), x)
    graph = b.graph("tokens", out=b.linear(op("tanh", mean), "head", 3))
    placement = analyse(graph)
    assert groups(graph) == [["reduce"]]
    assert placement.place[mean] is Place.ROW
    assert placement.flat[graph.outputs[0][1]]


def test_a_row_value_spreads_over_its_tokens_flat() -> None:
    b, x, _ = text_input()
    mean = node(Expand((B, T, 8)), node(Reduce("mean", (1,), keepdims=True), x))
    graph = b.graph("tokens", out=op("sub", x, mean))
    assert groups(graph) == [["reduce"]]
    assert analyse(graph).flat[mean]
