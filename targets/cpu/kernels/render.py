"""Templates to C: one strict Jinja2 environment, and kernels named by their content."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ....compiler.errors import missing_module

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent.parent / "templates"
_PLACEHOLDER = "INFC_SYMBOL_PLACEHOLDER"


@dataclass(frozen=True)
class Kernel:
    """One static C function and what it stands on. `source` is complete after the prelude: functions that several kernels
    share stand in include guards, so sources can be put one after another in any order."""

    symbol: str
    """The function's name; equal for equal code, so a kernel that two steps use is emitted once."""
    source: str
    kind: str
    """The row of the table of tested kernels (table.py)."""
    scratch: Callable[..., int] | int = field(default=0, compare=False)
    """Floats of 64-byte aligned scratch that a call needs, or a function of the sizes that give it."""
    block: int = 0
    """attention: query rows of one task."""
    tasks_per_item: int = 0
    """conv: tasks of one image; pool: planes of one image."""


def render(template: str, context: object) -> str:
    """The text of templates/`template` with the fields of `context`, a dataclass. An unknown name in it is an error."""
    fields = {f.name: getattr(context, f.name) for f in dataclasses.fields(cast(Any, context))}
    return _environment().get_template(template).render(fields)


def kernel(kind: str, template: str, context: object, *, shared: Iterable[str] = (), **more: Any) -> Kernel:
    """A kernel whose symbol is `kind` and the digest of its text; `context` has a field `symbol`, which is filled in.

    `shared` are texts that go before it, each in an include guard of its own (see `guarded`).
    """
    named = dataclasses.replace(cast(Any, context), symbol=_PLACEHOLDER)
    text = render(template, named)
    symbol = f"infc_{kind}_{digest(text)}"
    return Kernel(symbol, "".join(shared) + text.replace(_PLACEHOLDER, symbol), kind, **more)


def guarded(name: str, text: str) -> str:
    """text, compiled once however often it is pasted."""
    return f"#ifndef {name}_ONCE\n#define {name}_ONCE\n{text}#endif\n"


def digest(text: str) -> str:
    """Twelve hexadecimal digits of sha256."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def _environment() -> Environment:
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise missing_module(error) from error
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
