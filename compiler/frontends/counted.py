"""`range` over sizes, for modules that take their rows in pieces: `for start in range(0, tokens, 128)`.

Python's own `range` makes integers of its ends, and a size that became an integer is one for good. Where the bounds of the
dimensions leave one number of pieces, that number is all that is needed, and the pieces' ends stay sizes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import nn
from torch.fx.experimental.symbolic_shapes import statically_known_true

MOST_PIECES = 1024


def counted(*ends: Any) -> Sequence[Any]:
    """range(*ends), where some of the ends are sizes: as many as there are for all values of the dimensions. Where that is not
    one number, Python's own, which fixes the dimension."""
    if not any(isinstance(end, torch.SymInt) for end in ends) or len(ends) > 3:
        return range(*ends)
    start, stop, step = (0, ends[0], 1) if len(ends) == 1 else (*ends[:2], ends[2] if len(ends) == 3 else 1)
    if isinstance(step, int) and step > 0:
        count: Any = (stop - start + step - 1) // step
        found: Any = count if isinstance(count, int) else count.node.hint
        if isinstance(found, int) and found <= MOST_PIECES and statically_known_true(count == found):
            return [start + piece * step for piece in range(found)]
    return range(*ends)


@contextlib.contextmanager
def counted_ranges(module: nn.Module) -> Generator[None]:
    """`range` is `counted` in the files of module's classes for the while."""
    names = {type(part).__module__ for part in module.modules()} - {"builtins"}
    spaces = [vars(sys.modules[name]) for name in names if name in sys.modules and not name.startswith("torch.")]
    spaces = [space for space in spaces if "range" not in space]
    try:
        for space in spaces:
            space["range"] = counted
        yield
    finally:
        for space in spaces:
            del space["range"]
