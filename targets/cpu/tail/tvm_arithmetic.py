"""Scalar arithmetic in TVM's IR with the bits of prelude.h, for `print_tvm`.

Untyped: TVM's objects are Any here, in print_tvm.py and in tvm_object.py, and nowhere else.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ....compiler.errors import require
from ....compiler.ir.types import DType
from .formulas import Formula, Function, Name, Number
from .spell import rounded_to_float32

_UNARY: dict[str, str] = {
    "__builtin_elementwise_abs": "llvm.fabs",
    "__builtin_elementwise_floor": "llvm.floor",
    "__builtin_elementwise_ceil": "llvm.ceil",
    "__builtin_elementwise_trunc": "llvm.trunc",
    "__builtin_elementwise_roundeven": "llvm.roundeven",
    "__builtin_sqrtf": "llvm.sqrt",
}


class Refuse(Exception):
    """Carries the reason to `tensor_ir`."""


@dataclass
class Block:
    """Statements under construction; `bound` holds all axes that have a variable here."""

    parent: Block | None
    bound: frozenset[int]
    lane: bool = False
    statements: list[Any] = field(default_factory=list[Any])
    known: dict[int, Any] = field(default_factory=dict[int, Any])


class Arithmetic:
    """Names, constants and float functions. `functions` are the prelude's, by name."""

    def __init__(self, functions: Mapping[str, Function]) -> None:
        self.tir: Any = require("tvm.tirx")
        self.functions = functions
        self.count = 0

    def variable(self, name: str, dtype: str = "int64") -> Any:
        self.count += 1
        return self.tir.Var(f"{name}{self.count}", dtype)

    def integer(self, value: int, dtype: str = "int64") -> Any:
        return self.tir.IntImm(dtype, value)

    def real(self, value: float) -> Any:
        """value rounded to float32; infinities and NaN by their bits, which TVM's simplifier leaves alone."""
        rounded = rounded_to_float32(value)
        if not math.isfinite(rounded):
            bits = struct.unpack("<i", struct.pack("<f", rounded))[0]
            return self.tir.reinterpret("float32", self.integer(bits, "int32"))
        return self.tir.FloatImm("float32", rounded)

    def literal(self, value: float | bool, dtype: DType) -> Any:
        if dtype == "float32":
            return self.real(float(value))
        if dtype == "bool":
            return self.tir.IntImm("bool", int(value))
        return self.integer(int(value), dtype)

    def bind(self, block: Block, value: Any, dtype: str) -> Any:
        name = self.variable("v", dtype)
        block.statements.append(self.tir.Bind(name, value))
        return name

    def fence(self, value: Any) -> Any:
        """value, opaque to rewriting."""
        return self.tir.call_llvm_pure_intrin("float32", "llvm.arithmetic.fence", value)

    # Functions of the prelude.

    def call(self, name: str, args: list[Any], block: Block) -> Any:
        """A float function: LLVM's where one instruction does it, else its formula, statement by statement."""
        if name in ("__builtin_elementwise_fma", *_UNARY):
            return self.tir.call_llvm_pure_intrin("float32", _UNARY.get(name, "llvm.fma"), *args)
        if name == "infc_bits":
            return self.tir.reinterpret("int32", args[0])
        if name == "infc_from_bits":
            return self.tir.reinterpret("float32", args[0])
        function = self.functions.get(name)
        if function is None:
            raise Refuse(f"{name} is more than one formula")
        local: dict[str, Any] = {}
        for parameter, argument in zip(function.parameters, args, strict=True):
            local[parameter] = self.bind(block, argument, "float32")
        result: Any = None
        for statement in function.statements:
            result, _ = self.formula(statement.value, local, block)
            if statement.name != "return":
                dtype = "float32" if statement.type == "float" else "int32"
                local[statement.name] = self.bind(block, result, dtype)
        return result

    def formula(self, formula: Formula, local: dict[str, Any], block: Block) -> tuple[Any, bool]:
        """The expression, and whether it is an integer."""
        if isinstance(formula, Number):
            if formula.type == "float":
                return self.real(float(formula.value)), False
            return self.integer(int(formula.value), "int32"), True
        if isinstance(formula, Name):
            if formula.name == "INT32_MIN":
                return self.integer(-(2**31), "int32"), True
            return local[formula.name], str(local[formula.name].ty.dtype) == "int32"
        name = formula.name
        if name in ("!=", "==") and formula.args[0] == formula.args[1]:  # x != x: only NaN is
            value, _ = self.formula(formula.args[0], local, block)
            nan = self.is_nan(value)
            return (nan if name == "!=" else self.tir.Not(nan)), True
        pairs = [self.formula(a, local, block) for a in formula.args]
        args, integers = [p[0] for p in pairs], [p[1] for p in pairs]
        if name.startswith("cast "):
            wanted = "float32" if name == "cast float" else "int32"
            if integers[0] == (wanted == "int32"):
                return args[0], integers[0]
            return self.tir.Cast(wanted, args[0]), wanted == "int32"
        if name == "?:":
            return self.tir.Select(*args), integers[1]
        if name in ("<", ">", "<=", ">=", "==", "!="):
            row = {"<": "LT", ">": "GT", "<=": "LE", ">=": "GE", "==": "EQ", "!=": "NE"}[name]
            return getattr(self.tir, row)(*args), True
        if name in ("&&", "||"):
            return (self.tir.And if name == "&&" else self.tir.Or)(*args), True
        if name in ("+", "-", "*", "/", "neg", "<<", ">>", "&"):
            return self.operator(name, args, integers), integers[0]
        return self.call(name, args, block), name == "infc_bits"

    def operator(self, name: str, args: list[Any], integers: list[bool]) -> Any:
        if name == "neg":
            if integers[0]:
                return -args[0]
            flipped = self.tir.bitwise_xor(self.tir.reinterpret("int32", args[0]), self.integer(-(2**31), "int32"))
            return self.tir.reinterpret("float32", flipped)  # 0 - x would lose the sign of zero
        simple: dict[str, Callable[[Any, Any], Any]] = {
            "+": lambda a, b: a + b,
            "-": lambda a, b: a - b,
            "*": lambda a, b: a * b,
            "/": self.tir.Div,
            "<<": self.tir.shift_left,
            ">>": self.tir.shift_right,
            "&": self.tir.bitwise_and,
        }
        result = simple[name](*args)
        return result if integers[0] else self.fence(result)

    def is_nan(self, value: Any) -> Any:
        """By its bits: TVM's simplifier takes x != x for false."""
        bits = self.tir.bitwise_and(self.tir.reinterpret("int32", value), self.integer(0x7FFFFFFF, "int32"))
        return bits > self.integer(0x7F800000, "int32")
