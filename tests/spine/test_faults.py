"""Faults planted in the generated C: the comparison with the interpreter must see each of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infc.compiler.ir.interpret import run as interpret
from infc.runtime import InferError, Model

from .models import encoder
from .support import NATIVE, TARGET, compare, plan_of
from .test_ragged import requests_of

FAULTS = {
    "nothing": (r"$^", ""),
    "tail mask off by one": (r"infc_lanes\(16 - j\)", "infc_lanes(15 - j)"),
    "lost bias": (r"(vf x\d = vld\(out \+ r \* ldo \+ \d+\)) \+ bias\d;", r"\1;"),
    "wrong segment offset": (r"e->row_table\[seg\]\.offset", "(e->row_table[seg].offset + (seg > 0))"),
    "dropped step": (r"        part_5\(e, scratch, r0, r1, .*\n", ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault: str, tmp_path: Path) -> None:
    """ "nothing" is the control: without a fault the same comparison passes."""
    graph = encoder()
    rendered = TARGET.render(plan_of(graph), NATIVE)
    pattern, by = FAULTS[fault]
    source, planted = re.subn(pattern, by, rendered.sources["model.c"])
    assert planted > 0 or fault == "nothing", "the generated C has no such place any more: plant the fault elsewhere"
    built = TARGET.compile(replace(rendered, sources={**rendered.sources, "model.c": source}), NATIVE, tmp_path, 1)
    requests = requests_of(graph, [3, 20, 9])
    different = 0
    with Model(built.library, built.weights, 1) as model:
        for request, result in zip(requests, model.run_batch(requests), strict=True):
            assert not isinstance(result, InferError)
            full = {**request, "attention_mask": np.ones_like(request["input_ids"])}
            want = interpret(graph, full, double=True)
            try:
                for name, value in want.items():
                    compare(result[name], value, name)
            except AssertionError:
                different += 1
    assert (different > 0) == (fault != "nothing")
