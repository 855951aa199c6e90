"""Checked size expressions as sympy's: built by calls, never from text."""

# torch and sympy are typed in part: what comes from them is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sympy
from torch.utils._sympy import functions

from .names import Names
from .refused import Refused, shown
from .sizes import FUNCTIONS, Size, parse_size

_SYMPY = (
    "Add", "Mul", "Pow", "Equality", "Unequality", "LessThan", "StrictLessThan", "GreaterThan", "StrictGreaterThan",
    "And", "Or", "Not",
)  # fmt: skip
_BUILD: Mapping[str, Callable[..., Any]] = {
    name: getattr(sympy if name in _SYMPY else functions, name) for name in FUNCTIONS
}


class Symbols:
    """The symbols of one program under names of ours, each with one set of assumptions and one example."""

    def __init__(self, names: Names, ranges: Mapping[str, Mapping[str, int | None]]) -> None:
        self.names = names
        self.ranges = ranges
        self.made: dict[str, Any] = {}
        self.hints: dict[str, int] = {}
        self._sizes: dict[str, tuple[Size, Any]] = {}

    def expression(self, text: str, hint: float | bool | None) -> Any:
        """The expression of `expr_str`; `hint` is the value that the file gives for the sizes of its examples. Raises Refused."""
        found = self._sizes.get(text)
        if found is None:
            size = parse_size(text)
            try:
                found = self._sizes[text] = (size, self._build(size))
            except Refused:
                raise
            except Exception as error:  # noqa: BLE001 - sympy raises what it likes, of an expression of the file's
                raise Refused(f"the size {shown(text)} cannot be computed: {type(error).__name__}") from None
        if type(hint) is int:
            self._check_hint(found[0], found[1], hint, text)
        return found[1]

    def _build(self, size: Size) -> Any:
        if size.head == "Symbol":
            return self._symbol(str(size.value), size.flags)
        if size.head == "Integer":
            return sympy.Integer(size.value)
        if size.head == "Float":
            return sympy.Float(size.value)
        if size.head == "Boolean":
            return sympy.true if size.value else sympy.false
        return _BUILD[size.head](*(self._build(p) for p in size.parts))

    def _symbol(self, name: str, flags: tuple[str, ...]) -> Any:
        symbol = sympy.Symbol(self.renamed(name), **dict.fromkeys(flags, True))
        if self.made.setdefault(name, symbol) != symbol:
            raise Refused(f"the size {name} has assumptions that differ from place to place")
        return symbol

    def renamed(self, name: str) -> str:
        """The symbol's name of ours: of the same letter, with small numbers."""
        return self.names.of(name[0], name)

    def _check_hint(self, size: Size, built: Any, hint: int, text: str) -> None:
        """Raises Refused for an example that is out of its range or differs from the others'."""
        if size.head == "Symbol":
            name = str(size.value)
            limits = self.ranges.get(name, {})
            low, high = limits.get("min_val"), limits.get("max_val")
            if (low is not None and hint < low) or (high is not None and hint > high):
                raise Refused(f"the size {name} is {hint} in the example, and its range is {low}..{high}")
            if self.hints.setdefault(name, hint) != hint:
                raise Refused(f"the size {name} is {hint} in one place and {self.hints[name]} in another")
            return
        values = {symbol: self.hints[name] for name, symbol in self.made.items() if name in self.hints}
        value = built.xreplace({k: sympy.Integer(v) for k, v in values.items()})
        if value.is_Integer and int(value) != hint:
            raise Refused(f"the size {shown(text)} is {int(value)}, and the file says {hint}")
