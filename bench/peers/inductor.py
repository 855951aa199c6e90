"""torch.compile: inductor with frozen weights and its autotuner."""

# pyright: basic

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np
import torch
import torch._inductor.config as inductor

from ..accuracy import exactness
from ..cases import Case, floor_of
from ..reference import tensors, torch_model
from . import Call, Run

VERSION_OF = "torch"
COMMON = "torch.compile, freezing, max-autotune, static shapes, inference mode; called from Python (stream: no max-autotune, "
COMMON += "dynamic shapes but for `bucketed`)"
SETTINGS = {
    "float32": COMMON,
    "bfloat16": COMMON + "; the model cast to bfloat16, under autocast instead where that is not exact enough",
}


def candidates(case: Case, threads: int, variant: str) -> dict[str, Call]:
    torch.set_num_threads(threads)
    torch._dynamo.reset()
    inductor.freezing = True
    arguments = tensors(case.model, case.shape)
    calls: dict[str, Call] = {}
    for name, (make, autocast) in models(case.precision).items():
        compiled = torch.compile(make(case.model), mode="max-autotune", dynamic=False)
        calls[name] = partial(invoke, compiled, arguments, autocast)
        if exactness(case, calls[name]()) >= floor_of(case):  # compiling takes half a minute, so the next only at need
            break
    return calls


def models(precision: str) -> dict[str, tuple[Callable[[str], torch.nn.Module], bool]]:
    """Configurations by name: what makes the module, and whether it runs under autocast."""
    if precision == "float32":
        return {"": (torch_model, False)}
    return {"cast": (lambda name: torch_model(name).bfloat16(), False), "autocast": (torch_model, True)}


def invoke(compiled, arguments: tuple[torch.Tensor, ...], autocast: bool) -> np.ndarray:
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        return compiled(*arguments).float().numpy()


def streams(
    model: str, precision: str, threads: int, variant: str, shapes: Sequence[tuple[int, int]] | None
) -> dict[str, Run]:
    """One function for every shape where there are no buckets, else one for each."""
    ((name, (_, autocast)), *_) = models(precision).items()
    return {name: partial(run, compiled_for_stream(model, precision, threads, shapes is None), autocast)}


@cache
def compiled_for_stream(model: str, precision: str, threads: int, dynamic: bool) -> Callable[..., torch.Tensor]:
    torch.set_num_threads(threads)
    torch._dynamo.config.cache_size_limit = torch._dynamo.config.recompile_limit = 64
    inductor.freezing = True
    ((make, _), *_) = models(precision).values()
    return torch.compile(make(model), dynamic=dynamic)


def run(compiled, autocast: bool, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return invoke(compiled, (torch.from_numpy(ids), torch.from_numpy(mask)), autocast)


def isa(call: Call) -> str:
    """What oneDNN says of its products in one call; products that inductor generates itself are not in it."""
    found: dict[str, int] = {}
    with tempfile.TemporaryFile() as out:
        before = os.dup(1)
        os.dup2(out.fileno(), 1)
        try:
            with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
                call()
        finally:
            os.dup2(before, 1)
            os.close(before)
        out.seek(0)
        for line in out.read().decode(errors="replace").splitlines():
            words = line.split(",")
            if "exec" in words:
                at = words.index("exec")
                if words[at + 2] in ("inner_product", "matmul"):
                    found[words[at + 3]] = found.get(words[at + 3], 0) + 1
    return ", ".join(f"{n} {name}" for name, n in sorted(found.items())) or "inductor's own templates, or MKL"
