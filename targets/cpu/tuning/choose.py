"""What a build takes for each of a plan's linear layers: the user's table, then the one that ships, then the formulas.

A shape that no table has takes the formulas, not the choice of a near shape: what makes a choice better than them are
edges (rows a multiple of 4 KiB apart, a panel that just fits a cache), which near shapes do not share.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from ....compiler.codegen.plan import Plan
from ....compiler.errors import Exit, InfcError
from ....compiler.ir.ops.linear import Linear
from ....compiler.target import Tuning
from ..isa import Isa
from ..kernels.linear import usual_choice
from ..kernels.pack import narrow, supports
from ..limits import cache_sizes
from .choice import Choice, Shape, parse_choice, parse_shape
from .table import SHIPPED, extend_table, read_table, section_of

MOST_BEYOND = 256 << 20
"""Most bytes that weights are spread over in a measurement."""


def tune(plan: Plan, isa: Isa, table: Path | None, seconds: float, folder: Path, *, here: bool) -> Tuning:
    """The choices for plan that are not the formulas'. `here`: whether this machine runs the code; for another one, whose
    caches nobody knows, they are the formulas'. Up to about `seconds` go into measuring what no table has; that goes into
    `table`. Raises InfcError."""
    if not here:
        return Tuning()
    section = section_of(isa)
    known = dict(read_table(SHIPPED).get(section, {}))
    problem = ""
    if table:
        try:
            known.update(read_table(table).get(section, {}))
        except InfcError as error:
            if error.exit_code != Exit.MISSING:
                raise
            problem = error.message
    shapes = shapes_of(plan, isa)
    measured: Mapping[Shape, Choice | None] = {}
    missing = [shape for shape in shapes if shape not in known]
    if seconds > 0 and missing:
        measured = measure_all(isa, missing, seconds, folder)
        if table and measured:
            try:
                extend_table(table, section, measured)
            except InfcError as error:
                if error.exit_code != Exit.MISSING:
                    raise
                problem = error.message
    found = {**measured, **known}
    choices = {shape: found.get(shape) for shape in shapes}
    try:
        text = table.read_bytes() if table and table.is_file() else b""
    except OSError:
        text = b""
    return Tuning(
        {str(s): str(c) for s, c in choices.items() if c is not None and c != usual_choice(isa, s.precision, s.k)},
        len(shapes) - len(missing),
        len(measured),
        len(missing) - len(measured),
        hashlib.sha256(text).hexdigest() if text else "",
        problem,
    )


def measure_all(isa: Isa, shapes: Iterable[Shape], seconds: float, folder: Path) -> dict[Shape, Choice | None]:
    """Each shape's choice (None: the formulas'), as many of them as `seconds` allow; a shape whose time is too short to tell
    is left out. Raises InfcError."""
    from .measure import measure

    found: dict[Shape, Choice | None] = {}
    left, end = list(shapes), time.monotonic() + seconds
    while left and (now := time.monotonic()) < end:
        shape = left.pop(0)
        choice = measure(isa, shape, (end - now) / (len(left) + 1), folder, beyond_caches())
        if choice is not None:
            found[shape] = None if choice == usual_choice(isa, shape.precision, shape.k) else choice
    return found


def beyond_caches() -> int:
    """Bytes that hold weights which no cache of this machine keeps."""
    return min(2 * max(cache_sizes().values(), default=0), MOST_BEYOND)


def shapes_of(plan: Plan, isa: Isa) -> list[Shape]:
    """The linear layers of plan whose kernel has something to choose, each shape once, in the plan's order."""
    found: dict[Shape, None] = {}
    for step in plan.steps:
        if not isinstance(step.op, Linear) or step.operands[1].where != "weight":
            continue
        n, k = step.operands[1].type.shape
        precision = step.op.precision
        if not isinstance(n, int) or not isinstance(k, int) or supports(isa, precision, n, k):
            continue
        if not (precision == "float32" and narrow(isa, n)):
            found[Shape(precision, n, k)] = None
    return list(found)


def read_choices(choices: Mapping[str, str], isa: Isa) -> dict[Shape, Choice]:
    """What `tune` gave, from text (a lock's, say). Raises InfcError (exit 2) that says what would be right."""
    try:
        return {parse_shape(shape): parse_choice(choice, isa.max_rows) for shape, choice in choices.items()}
    except ValueError as error:
        raise InfcError(f"a choice of tiles for {isa.name}: {error}", hint="build without --locked") from None
