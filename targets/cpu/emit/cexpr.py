"""Dimensions as C expressions, and names that are safe in C."""

from __future__ import annotations

from ....compiler.ir.dims import Dim, FloorDiv, Sym

DIM_TYPE = "int64_t"


def c_dim(dim: Dim, symbols: tuple[str, ...], array: str = "d") -> str:
    """dim as a C expression of type int64_t; symbol number k is `array[k]`. Operands of // and % are never negative."""
    if isinstance(dim, int):
        return str(dim)
    terms: list[str] = []
    for monomial, coefficient in dim.terms:
        factors = [] if coefficient == 1 and monomial else [str(coefficient)]
        for atom in monomial:
            if isinstance(atom, Sym):
                factors.append(f"{array}[{symbols.index(atom.name)}]")
            else:
                sign = "/" if isinstance(atom, FloorDiv) else "%"
                factors.append(f"({c_dim(atom.numerator, symbols, array)} {sign} {atom.divisor})")
        terms.append("*".join(factors))
    return "(" + " + ".join(terms) + ")"


def c_string(text: str) -> str:
    """text as a C string literal; every byte outside plain ASCII is escaped."""
    out: list[str] = []
    for byte in text.encode():
        char = chr(byte)
        out.append(char if 32 <= byte < 127 and char not in '"\\?' else f"\\{byte:03o}")
    return '"' + "".join(out) + '"'
