"""Passes as values and as text, and what the callback sees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from pass_models import B, Builder, bert, op

from infc.compiler.errors import Exit, InfcError
from infc.compiler.ir.graph import Node, Op, make
from infc.compiler.ir.ops.map import Map
from infc.compiler.ir.printer import print_graph
from infc.compiler.ir.types import TensorType
from infc.compiler.ir.verify import verify
from infc.compiler.passes.canonicalize import Canonicalize
from infc.compiler.passes.dependence import dependence
from infc.compiler.passes.fold import Fold
from infc.compiler.passes.fuse import Fuse
from infc.compiler.passes.fuse_loops import FuseLoops
from infc.compiler.passes.patterns import Facts, apply_rules
from infc.compiler.passes.pipeline import (
    Pass,
    Step,
    default_passes,
    dump_to,
    each,
    known_passes,
    parse_passes,
    print_passes,
    run_passes,
)


def test_passes_are_found_by_folder() -> None:
    assert set(known_passes()) == {"canonicalize", "cse", "dead_code", "fold", "fuse", "fuse_loops", "quantize"}
    assert all(isinstance(p(), Pass) for p in known_passes().values())


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("", ()),
        ("canonicalize", (Canonicalize(),)),
        ("canonicalize,fuse{qkv=false,norm=false}", (Canonicalize(), Fuse(qkv=False, norm=False))),
        (" fold { max_bytes = 12 } , fuse_loops{max_prims=3}", (Fold(max_bytes=12), FuseLoops(max_prims=3))),
        ("fuse{}", (Fuse(),)),
    ],
)
def test_text_gives_passes(text: str, passes: tuple[Pass, ...]) -> None:
    assert parse_passes(text) == passes
    assert parse_passes(print_passes(passes)) == passes


def test_default_passes_print_and_parse() -> None:
    assert parse_passes(print_passes(default_passes())) == default_passes()


def test_options_at_their_defaults_are_not_printed() -> None:
    assert print_passes((Fuse(), Fuse(qkv=False))) == "fuse,fuse{qkv=false}"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("fuze", "no pass 'fuze'"),
        ("fuse{qvk=true}", "no option 'qvk=true'"),
        ("fuse{qkv}", "no option 'qkv'"),
        ("fuse{qkv=yes}", "true or false, not 'yes'"),
        ("fold{max_bytes=big}", "a number, not 'big'"),
        ("fuse{qkv=true", "do not pair"),
        ("fuse}", "do not pair"),
        ("canonicalize,,fuse", "'' is no pass"),
        ("Fuse!", "'Fuse!' is no pass"),
    ],
)
def test_bad_text_is_named(text: str, part: str) -> None:
    with pytest.raises(InfcError) as error:
        parse_passes(text)
    assert part in error.value.message
    assert error.value.exit_code is Exit.USAGE


def test_an_unknown_pass_lists_the_known_ones() -> None:
    with pytest.raises(InfcError) as error:
        parse_passes("nothing")
    assert "canonicalize, cse, dead_code" in error.value.hint


def test_the_callback_sees_every_step_and_can_verify_and_dump(tmp_path: Path) -> None:
    steps: list[Step] = []
    graph = bert(1)
    passes = parse_passes("canonicalize,fuse")
    after = run_passes(
        graph, passes, each(steps.append, lambda s: verify(s.after) and None, dump_to(tmp_path, print_graph))
    )
    assert [(s.index, s.pass_) for s in steps] == list(enumerate(passes))
    assert steps[0].before is graph
    assert steps[0].after is steps[1].before
    assert steps[1].after is after
    assert all(s.seconds >= 0 for s in steps)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["01-canonicalize.ir", "02-fuse.ir"]
    assert (tmp_path / "02-fuse.ir").read_text(encoding="utf-8") == print_graph(after)


def test_passes_leave_their_argument_as_it_was() -> None:
    graph = bert(1)
    text = print_graph(graph)
    run_passes(graph, default_passes())
    assert print_graph(graph) == text


def test_running_the_passes_again_changes_nothing() -> None:
    once = run_passes(bert(2), default_passes())
    assert print_graph(run_passes(once, default_passes())) == print_graph(once)


def test_rules_that_undo_each_other_are_an_error_of_ours() -> None:
    def there(node: Node, _: Facts) -> Node:
        return make(Map("neg" if node.op == Map("abs") else "abs"), *node.operands)

    b = Builder()
    graph = b.graph(out=op("neg", b.input("x", B, 2)))
    with pytest.raises(AssertionError, match="one of the rules undoes another"):
        apply_rules(graph, [(Map, there)])


def test_a_whole_that_the_ragged_analysis_does_not_know_is_named() -> None:
    @dataclass(frozen=True)
    class Mystery(Op):
        mnemonic: ClassVar[str] = "mystery"

        def infer(self, *operands: TensorType) -> TensorType:
            return operands[0]

    b = Builder()
    with pytest.raises(NotImplementedError, match="mystery"):
        dependence(make(Mystery(), b.input("x", B, 2)))
