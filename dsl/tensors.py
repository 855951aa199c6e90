"""The types of inputs and outputs: `float32[batch, 64]`, `string`, `image(jpeg, png)`."""

from __future__ import annotations

from dataclasses import replace

from .cursor import Captured, Cursor, TypeValue, read_name
from .quantities import QUANTITIES, read_quantity
from .span import Span
from .spec import DTYPES
from .suggest import hint, listed
from .syntax import Atom, Call, Term
from .write import shorten, write_term

_ALIASES = {
    "float": "float32", "f32": "float32", "fp32": "float32", "single": "float32", "double": "float64", "f64": "float64",
    "half": "float16", "f16": "float16", "fp16": "float16", "bf16": "bfloat16", "int": "int64", "long": "int64",
    "i64": "int64", "i32": "int32", "i8": "int8", "u8": "uint8", "byte": "uint8", "boolean": "bool",
    "str": "string", "text": "string",
}  # fmt: skip
IMAGE_FORMATS = ("jpeg", "png")


def read_input(cursor: Cursor) -> Captured | None:
    term = cursor.peek()
    if isinstance(term, Atom) and term.text == "string":
        cursor.at += 1
        return Captured(TypeValue("text"), term.span)
    if isinstance(term, Call) and term.name.text == "image" and term.open == "(":
        formats: list[str] = []
        for group in term.groups:
            atom = group[0]
            if len(group) != 1 or not isinstance(atom, Atom) or atom.text not in IMAGE_FORMATS or atom.text in formats:
                cursor.error("E0208", f"image has no `{shorten(write_term(atom))}`", atom.span, "expected jpeg, png")
                return None
            formats.append(atom.text)
        cursor.at += 1
        return Captured(TypeValue("image", formats=tuple(formats) or IMAGE_FORMATS), term.span)
    return read_tensor(cursor, ("string", "image(jpeg, png)"))


def read_tensor(cursor: Cursor, others: tuple[str, ...] = ()) -> Captured | None:
    term = cursor.peek()
    expected = listed(["a tensor such as float32[batch, 64]", *others])
    if (
        term is None
        or (isinstance(term, Atom) and term.kind != "WORD")
        or (isinstance(term, Call) and term.open == "(")
    ):
        cursor.not_a("a type", f"expected {expected}")
        return None
    name = term if isinstance(term, Atom) else term.name
    if name.text not in DTYPES:
        known = [*DTYPES, *(o.split("(")[0] for o in others)]
        alias = _ALIASES.get(name.text)
        help = (f"did you mean `{alias}`?",) if alias in known else hint(name.text, known, "types")
        cursor.error("E0208", f"there is no type `{shorten(name.text)}`", name.span, f"expected {expected}", help)
        return None
    dims: list[int | str] = []
    symbols: list[tuple[str, Span]] = []
    groups: list[tuple[Term, ...]] = []
    for group in () if isinstance(term, Atom) else term.groups:
        part = Cursor(list(group), term.span, cursor.context, "a dimension")
        part.expand()
        atom = part.peek()
        if not isinstance(atom, Atom) or len(part.terms) != 1 or atom.kind not in ("NUMBER", "WORD"):
            at = group[0].span.to(group[-1].span)
            cursor.error("E0201", "a dimension is a whole number or a name", at, "expected 64, or batch")
            return None
        if atom.kind == "NUMBER":
            extent = read_quantity(part, QUANTITIES["count"])
            if extent is None:
                return None
            dims.append(extent.value)
        else:
            symbol = read_name(part)
            if symbol is None:
                return None
            dims.append(symbol.value)
            symbols.append((symbol.value, symbol.span))
        groups.append(tuple(part.terms))
    if isinstance(term, Call):
        if len(dims) > 8:
            cursor.error("E0205", f"a tensor has at most 8 dimensions, and this one has {len(dims)}", term.span)
            return None
        cursor.terms[cursor.at] = replace(term, groups=tuple(groups))
    cursor.at += 1
    return Captured(TypeValue("tensor", name.text, tuple(dims), symbols=tuple(symbols)), term.span)
