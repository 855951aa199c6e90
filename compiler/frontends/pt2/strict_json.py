"""JSON of a stranger: no key twice, no NaN, numbers bounded."""

from __future__ import annotations

import json
from typing import Any

from .refused import Refused, shown

MAX_DIGITS = 19


def parse(data: bytes | str, what: str) -> Any:
    """The value of a JSON text. Raises Refused naming `what`."""
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_int, parse_float=_float)
    except Refused as error:
        raise Refused(f"{what}: {error.message}", error.hint) from None
    except RecursionError:
        raise Refused(f"{what} is nested too deeply") from None
    except UnicodeDecodeError:
        raise Refused(f"{what} is not UTF-8") from None
    except ValueError as error:
        raise Refused(f"{what} is no JSON: {str(error)[:100]}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(k for k, _ in pairs if k in seen or seen.add(k))
        raise Refused(f"the key {shown(twice)} is there twice")
    return found


def _constant(text: str) -> Any:
    raise Refused(f"{text} is no number of JSON")


def _int(text: str) -> int:
    if len(text) > MAX_DIGITS + 1 or not -(1 << 63) <= (value := int(text)) < 1 << 63:
        raise Refused(f"the number {text[:24]}... does not fit 64 bits")
    return value


def _float(text: str) -> float:
    value = float(text[:400])
    if value in (float("inf"), float("-inf")) or len(text) > 400:
        raise Refused(f"the number {text[:24]}... does not fit 64 bits")
    return value
