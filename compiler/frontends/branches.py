"""What traced code decided by sizes: `if x.shape[0] == 1`, `while`, `min`.

torch.export takes each size for two or more, and drops what depends on two dimensions at once: a branch for batches of one would be
left out of the program without a word. So each truth value of a size that the model's own code asks for is kept, and tried
afterwards for every size within the bounds."""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import sympy
import torch
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from .replaced import replaced

_TORCH = str(Path(torch.__file__).parent)
_NN = str(Path(torch.nn.__file__).parent)
_OURS = str(Path(__file__).resolve().parents[1])
_SYMBOL = re.compile(r"\b[a-z]\d+\b")


class Branches:
    """`guards`: what held of sizes, over the names of dimensions, as Python writes it."""

    def __init__(self) -> None:
        self.guards: dict[str, None] = {}
        self._names: dict[str, str] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Branches:
        return self  # the exporter traces a copy of the module

    def name(self, size: Any, dimension: str) -> None:
        """Tells that a size of an input is a dimension of the spec."""
        if isinstance(size, torch.SymInt):
            self._names[str(size.node.expr)] = self._names[str(size.node._expr)] = dimension  # pyright: ignore[reportPrivateUsage]

    def keep(self, condition: Any, taken: bool) -> None:
        """Keeps a condition over sizes and whether it held."""
        expression: Any = condition.node.expr
        found: Any = expression if taken else sympy.Not(expression)
        if found in (sympy.true, sympy.false) or free_unbacked_symbols(found):
            return  # of values, not of sizes: the exporter decides, or complains
        sign: Any = getattr(found, "rel_op", None)
        text = str(found) if sign is None else f"{found.lhs} {sign} {found.rhs}"
        self.guards[self.named(text)] = None

    def named(self, text: str) -> str:
        """A condition of the exporter's over the names of dimensions."""
        return _SYMBOL.sub(lambda m: self._names.get(m[0], m[0]), text)

    @contextlib.contextmanager
    def watched(self) -> Generator[None]:
        """For the while, truth values that the model's own code asks for are kept."""
        of_bool, of_int = torch.SymBool.__bool__, torch.SymInt.__bool__

        def truth(condition: Any) -> bool:
            taken = of_bool(condition)
            if _is_the_models(sys._getframe(1).f_code.co_filename):  # pyright: ignore[reportPrivateUsage]
                self.keep(condition, taken)
            return taken

        def nonzero(size: Any) -> bool:
            taken = of_int(size)
            if _is_the_models(sys._getframe(1).f_code.co_filename):  # pyright: ignore[reportPrivateUsage]
                self.keep(size != 0, taken)
            return taken

        for function in (truth, nonzero):  # the exporter looks for the model's own frame behind those of no file
            function.__code__ = function.__code__.replace(co_filename="<string>")
        with replaced([torch.SymBool], "__bool__", truth), replaced([torch.SymInt], "__bool__", nonzero):
            yield


def _is_the_models(file: str) -> bool:
    """Whether code of `file` says what a model computes: not the exporter's, nor ours."""
    if file.startswith(_OURS):
        return False
    return not file.startswith(_TORCH) or file.startswith(_NN)
