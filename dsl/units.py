"""Units are part of the type: each has a dimension and a factor to the base unit (s, B, events a second, USD, 1)."""

from __future__ import annotations

from typing import NamedTuple


class Unit(NamedTuple):
    """`value in base units = number * factor`."""

    dimension: str
    factor: float


UNITS: dict[str, Unit] = {
    "ns": Unit("time", 1e-9),
    "us": Unit("time", 1e-6),
    "ms": Unit("time", 1e-3),
    "s": Unit("time", 1.0),
    "min": Unit("time", 60.0),
    "h": Unit("time", 3600.0),
    "B": Unit("size", 1),
    "KiB": Unit("size", 1 << 10),
    "MiB": Unit("size", 1 << 20),
    "GiB": Unit("size", 1 << 30),
    "KB": Unit("size", 10**3),
    "MB": Unit("size", 10**6),
    "GB": Unit("size", 10**9),
    "req/s": Unit("rate", 1.0),
    "items/s": Unit("rate", 1.0),
    "img/s": Unit("rate", 1.0),
    "tok/s": Unit("rate", 1.0),
    "%": Unit("share", 0.01),
    "x": Unit("factor", 1.0),
    "USD": Unit("money", 1.0),
    "USD/h": Unit("price", 1.0),
    "requests": Unit("requests", 1.0),
    "tokens": Unit("tokens", 1.0),
    # the catalogue's own
    "GB/s": Unit("bandwidth", 1e9),
    "TB/s": Unit("bandwidth", 1e12),
    "GFLOP/s": Unit("speed", 1e9),
    "TFLOP/s": Unit("speed", 1e12),
    "TOP/s": Unit("speed", 1e12),
}

DIMENSIONS: dict[str, str] = {
    "time": "a time",
    "size": "a size",
    "rate": "a rate",
    "share": "a share in %",
    "factor": "a factor",
    "money": "an amount of money",
    "price": "a price an hour",
    "requests": "a number of requests",
    "tokens": "a number of tokens",
    "bandwidth": "a bandwidth",
    "speed": "a speed",
}
"""How a value of each dimension is called in a sentence."""

SUFFIXES = {"k": 1e3, "M": 1e6}
"""What may stand at the end of a number, without a space."""


def parse_number(text: str) -> float | int:
    """The value of a NUMBER token; an int where it is written as one. ValueError beyond the range of a float."""
    digits = text.replace("_", "")
    scale = SUFFIXES.get(digits[-1], 1.0)
    if digits[-1] in SUFFIXES:
        digits = digits[:-1]
    if len(digits) > 400:
        raise ValueError("too many digits")
    if scale == 1.0 and not any(c in digits for c in ".eE"):
        return int(digits)
    value = float(digits) * scale
    if value in (float("inf"), float("-inf")):
        raise ValueError("too large")
    return int(value) if scale != 1.0 and value == int(value) else value


def in_base(number: float, unit: str) -> float | int:
    """`number` of `unit` in base units, correctly rounded: 95 % is 0.95, 66.9 TFLOP/s is 66.9e12."""
    factor = UNITS[unit].factor
    if factor == 1:
        return number
    if isinstance(number, int):
        return number / round(1 / factor) if factor < 1 else number * factor
    from decimal import Decimal

    return float(Decimal(repr(number)) * Decimal(repr(factor)))


def format_seconds(value: float) -> str:
    """A time as a person writes it: `20 ms`, `5 min`."""
    for unit in ("h", "min", "s", "ms", "us", "ns"):
        factor = UNITS[unit].factor
        if value >= factor:
            return f"{value / factor:.6g} {unit}"
    return f"{value:.6g} s"


def format_bytes(value: float) -> str:
    """A size as a person writes it: `512 MiB`, `96 GB`; binary where that is exact."""
    for unit in ("GiB", "MiB", "KiB"):
        if value >= UNITS[unit].factor and value % UNITS[unit].factor == 0:
            return f"{value / UNITS[unit].factor:.6g} {unit}"
    for unit in ("GB", "MB", "KB"):
        if value >= UNITS[unit].factor:
            return f"{value / UNITS[unit].factor:.6g} {unit}"
    return f"{value:.6g} B"
