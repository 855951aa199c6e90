"""`range` over sizes, for modules that take their rows in pieces: `for start in range(0, tokens, 128)`.

Python's own `range` makes integers of its ends, and a size that became an integer is one for good. Where the bounds of the
dimensions leave one number of pieces, that number is all that is needed, and the pieces' ends stay sizes."""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import nn
from torch.fx.experimental.symbolic_shapes import statically_known_true

from .branches import Branches

MOST_PIECES = 1024
_RANGE = range


class Pieces(Sequence[Any]):
    """`range(start, stop, step)` of `count` numbers, some of which are sizes."""

    def __init__(self, start: Any, stop: Any, step: int, count: int) -> None:
        self.start, self.stop, self.step = start, stop, step
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        places = [self.start + piece * self.step for piece in _RANGE(self._count)]
        return places[index]


class _Kind(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _RANGE | Pieces)


def counted_range(branches: Branches) -> type:
    """What stands for `range`: over numbers it is Python's. Over sizes it has as many pieces as there are for all values of the
    dimensions, which `branches` keeps to be tried; where the exporter sees no such number, it is Python's, which fixes the
    dimension."""

    class Counted(metaclass=_Kind):
        def __new__(cls, *ends: Any) -> Any:
            if not any(isinstance(end, torch.SymInt) for end in ends) or len(ends) > 3:
                return _RANGE(*ends)
            start, stop, step = (0, ends[0], 1) if len(ends) == 1 else (*ends[:2], ends[2] if len(ends) == 3 else 1)
            if isinstance(step, int) and step > 0:
                count: Any = (stop - start + step - 1) // step
                found: Any = count if isinstance(count, int) else count.node.hint
                if isinstance(found, int) and 0 <= found <= MOST_PIECES and statically_known_true(count == found):
                    if not isinstance(count, int):
                        branches.keep(count == found, True)
                    return Pieces(start, stop, step, found)
            return _RANGE(*ends)

    return Counted


@contextlib.contextmanager
def counted_ranges(module: nn.Module, branches: Branches) -> Generator[None]:
    """`range` is `counted_range` in the files of module's classes for the while."""
    names = {type(part).__module__ for part in module.modules()} - {"builtins"}
    spaces = [vars(sys.modules[name]) for name in names if name in sys.modules and not name.startswith("torch.")]
    spaces = [space for space in spaces if "range" not in space]
    counted = counted_range(branches)
    try:
        for space in spaces:
            space["range"] = counted
        yield
    finally:
        for space in spaces:
            del space["range"]
