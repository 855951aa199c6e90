"""How primitives, literals and types are written in C, over the functions of prelude.h. Results:

* integers wrap; integer // and % round down, by zero they give 0;
* float → integer rounds toward zero, NaN and what does not fit give the smallest integer (what x86 does for torch);
* min and max give NaN where either argument is NaN; a bool is a byte, 0 or 1.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping

from ....compiler.ir.types import DType

C_TYPES: Mapping[DType, str] = {
    "float32": "float",
    "int64": "int64_t",
    "int32": "int32_t",
    "bool": "uint8_t",
    "bfloat16": "uint16_t",
}
SUFFIX: Mapping[DType, str] = {"float32": "f", "int64": "_i64", "int32": "_i32"}

_INFIX: Mapping[str, str] = {
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
    "and": "&", "or": "|", "xor": "^", "bitand": "&", "bitor": "|", "bitxor": "^",
}  # fmt: skip
_FLOAT_INFIX: Mapping[str, str] = {"add": "+", "sub": "-", "mul": "*", "div": "/"}

BY_TYPE: frozenset[str] = frozenset({"add", "sub", "mul", "neg", "abs", "sign", "min", "max", "floordiv", "mod"})
"""Written infc_<name> with f, _i64 or _i32 behind."""
FLOAT_FUNCTIONS: Mapping[str, str] = {
    **{
        name: f"infc_{name}f"
        for name in (
            *("exp", "log", "sqrt", "rsqrt", "sin", "cos", "tanh", "erf"),
            *("floor", "ceil", "round", "trunc", "pow", "mod", "floordiv", "min", "max", "abs", "sign"),
        )
    },
    **{name: f"infc_{name}" for name in ("relu", "gelu", "gelu_tanh", "silu", "sigmoid", "hardswish", "hardsigmoid")},
}
EXPENSIVE: frozenset[str] = frozenset(
    {
        *("exp", "log", "sin", "cos", "tanh", "erf", "pow", "mod", "floordiv", "div", "sqrt", "rsqrt"),
        *("gelu", "gelu_tanh", "silu", "sigmoid"),
    }
)
"""Primitives worth keeping rather than computing again in each step of an inner reduction."""
CALLS: frozenset[str] = frozenset({"pow", "mod", "floordiv", "sin", "cos"})
"""Primitives whose code has branches or calls: loops over them are left to clang's own judgement."""


def literal(value: float | bool, dtype: DType) -> str:
    """A constant of the given dtype."""
    if dtype == "bool":
        return "1" if value else "0"
    if dtype == "float32":
        return float_literal(float(value))
    if dtype == "int32":
        return "INT32_MIN" if value == -(2**31) else str(int(value))
    if value == -(2**63):
        return "INT64_MIN"
    return str(int(value)) if abs(value) < 2**31 else f"INT64_C({int(value)})"


def float_literal(value: float) -> str:
    """value rounded to float32, exactly."""
    rounded = rounded_to_float32(value)
    if math.isnan(rounded):
        return '__builtin_nanf("")'
    if math.isinf(rounded):
        return "__builtin_inff()" if rounded > 0 else "(-__builtin_inff())"
    text = f"{rounded:.9g}"  # nine digits tell any two float32 apart
    text = text if any(c in text for c in ".e") else text + ".0"
    return f"({text}f)" if rounded < 0 or text.startswith("-") else f"{text}f"


def rounded_to_float32(value: float) -> float:
    """value as the nearest float32, infinite where it is too large for one."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)


def call(name: str, dtype: DType, argument: DType, *args: str) -> str:
    """A primitive over C expressions that need no more parentheses; `argument` is the dtype of the last argument.
    Raises KeyError for a primitive that the table does not have."""
    if name == "where":
        return f"{args[0]} ? {args[1]} : {args[2]}"
    if name == "cast":
        return cast(args[0], argument, dtype)
    if name in _INFIX:
        text = f"{args[0]} {_INFIX[name]} {args[1]}"
        return f"({text})"
    if name == "not":
        return f"!{args[0]}"
    if name == "bitnot":
        return f"~{args[0]}"
    if dtype == "float32":
        if name in _FLOAT_INFIX:
            return f"{args[0]} {_FLOAT_INFIX[name]} {args[1]}"
        if name == "neg":
            return f"-{args[0]}"
        return f"{FLOAT_FUNCTIONS[name]}({', '.join(args)})"
    if name not in BY_TYPE or dtype not in SUFFIX:
        raise KeyError(f"primitive {name} on {dtype}")
    return f"infc_{name}{SUFFIX[dtype]}({', '.join(args)})"


def cast(text: str, source: DType, dtype: DType) -> str:
    """text, of dtype source, as dtype."""
    if source == dtype:
        return text
    if dtype == "bool":
        return f"({text} != 0)"
    if source == "float32":
        return f"infc_{'i64' if dtype == 'int64' else 'i32'}_of_float({text})"
    return f"({C_TYPES[dtype]}){text}"


def combine(kind: str, dtype: DType) -> Callable[[str, str], str]:
    """One step of a reduction over C expressions. Raises KeyError for a kind that is not known."""
    if dtype == "bool":
        infix = {"any": "|", "max": "|", "sum": "|", "all": "&", "min": "&", "prod": "&"}[kind]
        return lambda a, b: f"{a} {infix} {b}"
    name = {"sum": "add", "prod": "mul", "max": "max", "min": "min"}[kind]
    return lambda a, b: call(name, dtype, dtype, a, b)
