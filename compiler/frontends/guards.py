"""The exporter's complaints about dimensions, as ours: which dimension, and the range that works.

It lists guards over sizes, such as `((-1) + L['tensors'][0].size()[0]) != 1`, and sometimes suggests a fix. A guard over
one dimension is tried for every value in the spec's range: what is left of the range is the answer.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from ..ir.dims import Range
from .errors import FrontendError
from .fields import Field
from .sources import model_source

_GUARD = re.compile(r"Not all values of .*? satisfy the generated guard (?P<guard>.+?)\.?$", re.MULTILINE)
_SIZE = re.compile(r"L\['tensors'\]\[(\d+)\]\.size\(\)\[(\d+)\]")


def _floordiv(a: Any, b: Any) -> Any:
    if np.any(np.equal(b, 0)):
        raise ZeroDivisionError
    return a // b


def _mod(a: Any, b: Any) -> Any:
    if np.any(np.equal(b, 0)):
        raise ZeroDivisionError
    return a % b


def _pow(a: Any, b: Any) -> Any:
    return a ** np.maximum(b, 0)


_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.FloorDiv: _floordiv, ast.Mod: _mod, ast.Pow: _pow,
    ast.USub: np.negative, ast.Eq: np.equal, ast.NotEq: np.not_equal, ast.Lt: np.less, ast.LtE: np.less_equal,
    ast.Gt: np.greater, ast.GtE: np.greater_equal, ast.Not: np.logical_not, ast.Invert: np.logical_not,
    ast.BitAnd: np.logical_and, ast.BitOr: np.logical_or,
}  # fmt: skip


_CALLS: dict[str, Callable[..., Any]] = {
    "min": np.minimum, "max": np.maximum, "Min": np.minimum, "Max": np.maximum, "Eq": np.equal, "Ne": np.not_equal,
    "Mod": _mod, "PythonMod": _mod, "FloorDiv": _floordiv,
}  # fmt: skip
_SETTLED = re.compile(r"specialized|constant|inferred|Specializations", re.IGNORECASE)
MOST_VALUES = 10_000_000
"""Sizes that a guard is tried for, so that all of them are."""
MOST_SHOWN = 3
"""Guards in a message, the shortest."""


def explain(error: Exception, fields: Sequence[Field], bounds: Mapping[str, Range]) -> FrontendError:
    """The error to raise for the exporter's."""
    text = str(error)
    suggested = re.search(r"Suggested fixes?:\s*\n(?P<body>(?:\s+.+\n?)+)", text)
    body = suggested["body"] if suggested else ""
    fixed = re.search(rf"^\s*({_names(bounds)}) = (\d+)\s*$", body, re.MULTILINE)
    if fixed:
        return FixedDimension(fixed[1], int(fixed[2]), bounds[fixed[1]])
    equal = re.search(rf"^\s*({_names(bounds)}) = ({_names(bounds)})\s*$", body, re.MULTILINE)
    if equal:
        return FrontendError(
            f"the model needs the dimensions {equal[1]!r} and {equal[2]!r} to be equal",
            hint=f"use one symbol for both: write {equal[2]!r} in place of {equal[1]!r}",
        )
    guards = [_named(m["guard"], fields) for m in _GUARD.finditer(text)]
    for name in bounds:
        for listed in re.finditer(rf"^\s*{re.escape(name)} = Dim\('{re.escape(name)}'([^)]*)\)", body, re.MULTILINE):
            guards += [f"{name} >= {v}" for v in re.findall(r"min=(\d+)", listed[1])]
            guards += [f"{name} <= {v}" for v in re.findall(r"max=(\d+)", listed[1])]
    found = narrowed(guards, bounds)
    if found is not None:
        return found
    inferred = re.search(rf"\b({_names(bounds)})\b[^\n]*(?:specialized|constant|inferred)[^\d\n]*\(?(\d+)\)?", text)
    if inferred:
        return FixedDimension(inferred[1], int(inferred[2]), bounds[inferred[1]])
    listed_bounds = ", ".join(f"{name} in {low}..{high}" for name, (low, high) in bounds.items())
    first = next((line.strip(" -") for line in text.splitlines() if line.strip()), type(error).__name__)
    at = model_source(text)
    return FrontendError(
        f"{f'{at}: ' if at else ''}the model cannot be traced for {listed_bounds or 'its inputs'}: {first}"
    )


def narrowed(guards: Sequence[str], bounds: Mapping[str, Range]) -> FrontendError | None:
    """The error of the first dimension that a guard is over, with the longest range that works; None where no guard is over
    any. A guard over several counts where there is none over one."""
    over = {guard: [name for name in bounds if re.search(rf"\b{re.escape(name)}\b", guard)] for guard in guards}
    alone = {guard: names for guard, names in over.items() if len(names) == 1}
    for name, (low, high) in bounds.items():
        mine = [guard for guard, names in (alone or over).items() if name in names]
        if not mine:
            continue
        shown = sorted(mine, key=len)[:MOST_SHOWN]
        message = f"the model does not work for all of {name} in {low}..{high}: {' and '.join(shown)}"
        works = longest(mine, name, (low, high))
        if works is None or (works[0] == works[1] and any(_hold(mine, name, v) for v in range(works[1] + 1, high + 1))):
            return FrontendError(message, hint=f"give {name!r} a fixed extent")
        if works[0] == works[1]:
            return FixedDimension(name, works[0], (low, high))
        return FrontendError(message, hint=f"write `dim {name} in {works[0]}..{works[1]}`")
    return None


def _hold(guards: Sequence[str], name: str, value: int) -> bool:
    return all(evaluate(guard, {name: value}) for guard in guards)


class FixedDimension(FrontendError):
    """A dimension that the model works for one value of."""

    def __init__(self, name: str, value: int, bounds: Range) -> None:
        super().__init__(
            f"the model fixes the dimension {name!r} ({bounds[0]}..{bounds[1]} in the spec): it works for {name} = {value} only",
            hint=f"write {value} in place of {name!r}",
        )
        self.name, self.value, self.bounds = name, value, bounds


def each_extent(fixed: FixedDimension) -> FrontendError:
    """The error of a dimension that is fixed to whatever extent it is traced with."""
    return FrontendError(
        f"the model counts or decides by the extent of {fixed.name!r} ({fixed.bounds[0]}..{fixed.bounds[1]} in the spec) in "
        "Python, such as in a loop over it or by len(), and is traced once for all extents",
        hint=f"give it one extent: write a number in place of {fixed.name!r}",
    )


def longest(guards: Sequence[str], name: str, bounds: Range) -> Range | None:
    """The longest run of values within bounds for which every guard over `name` alone holds; None where there is none
    or a guard cannot be evaluated."""
    best: Range | None = None
    start: int | None = None
    for value in range(bounds[0], bounds[1] + 2):
        holds = value <= bounds[1]
        for guard in guards if holds else ():
            found = evaluate(guard, {name: value})
            if found is None:
                return None
            holds = holds and bool(found)
        if holds and start is None:
            start = value
        if not holds and start is not None:
            if best is None or value - start > best[1] - best[0] + 1:
                best = (start, value - 1)
            start = None
    return best


def evaluate(guard: str, values: Mapping[str, Any]) -> Any:
    """A guard's value, of numbers or for arrays of them; None where it has names or forms that are not known. What divides by
    zero does not hold."""
    try:
        return _value(ast.parse(guard, mode="eval").body, values)
    except ZeroDivisionError:
        return False
    except (SyntaxError, KeyError, TypeError):
        return None


def always_holds(guard: str, bounds: Mapping[str, Range]) -> bool:
    """Whether a guard was found to hold for all values of the dimensions that it names."""
    names = [name for name in bounds if re.search(rf"\b{re.escape(name)}\b", guard)]
    lines = [np.arange(low, high + 1) for low, high in (bounds[name] for name in names)]
    if math.prod(map(len, lines)) > MOST_VALUES:
        return False
    found = evaluate(guard, dict(zip(names, np.ix_(*lines), strict=True)))
    return found is not None and bool(np.all(found))


def are_tautologies(error: Exception, fields: Sequence[Field], bounds: Mapping[str, Range]) -> bool:
    """Whether the exporter complains of nothing but guards that hold for all sizes, which it did not see."""
    text = str(error)
    guards = [_named(m["guard"], fields) for m in _GUARD.finditer(text)]
    return bool(guards) and not _SETTLED.search(text) and all(always_holds(guard, bounds) for guard in guards)


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, bool)):
        return node.value
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_value(node.left, values), _value(node.right, values))
    if isinstance(node, ast.UnaryOp):
        return _OPERATORS[type(node.op)](_value(node.operand, values))
    if isinstance(node, ast.BoolOp):
        both = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return reduce(both, [_value(v, values) for v in node.values])
    if isinstance(node, ast.Compare):
        terms = [_value(v, values) for v in (node.left, *node.comparators)]
        found = [_OPERATORS[type(op)](a, b) for op, a, b in zip(node.ops, terms, terms[1:], strict=False)]
        return reduce(np.logical_and, found)
    if isinstance(node, ast.Call) and ast.unparse(node.func) in _CALLS:
        return reduce(_CALLS[ast.unparse(node.func)], [_value(a, values) for a in node.args])
    raise KeyError(type(node).__name__)


def _named(guard: str, fields: Sequence[Field]) -> str:
    """guard with sizes of inputs under the spec's names."""

    def name(match: re.Match[str]) -> str:
        field = fields[int(match[1])]
        return str(field.shape[int(match[2])])

    return _SIZE.sub(name, guard).replace("((-1) + ", "(-1 + ").replace("torch.sym_m", "m")


def _names(bounds: Mapping[str, Range]) -> str:
    return "|".join(re.escape(name) for name in bounds) or "(?!)"
