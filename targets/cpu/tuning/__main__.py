"""`python -m infc.targets.cpu.tuning [SECONDS]`: measures common shapes on this machine into the table that ships.

Up to SECONDS (default 6; more where they are too few to tell) go into each shape, and again as many into comparing what won with the usual choice alone, in a
program of its own: only what wins twice is kept. Other machines' sections stay.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from ..isa import Isa, native
from ..kernels.linear import usual_choice
from ..kernels.pack import narrow, supports
from .choice import WORDS, Choice, Shape
from .choose import beyond_caches
from .measure import MARGIN, measure
from .table import SHIPPED, extend_table, read_table, section_of

ENCODERS = ((384, 1536), (512, 2048), (768, 3072), (1024, 4096))
"""Width and inner width of encoders: MiniLM, small, base and large; Q, K and V are one layer."""
LAYERS = [(n, k) for w, inner in ENCODERS for n, k in ((3 * w, w), (w, w), (inner, w), (w, inner))]
COMMON = [*LAYERS, (256, 64), (256, 256)]
HEADER = f"""# Tiles of linear layers, measured; written by `python -m infc.targets.cpu.tuning`, see targets/cpu/tuning.
# "formulas": no candidate took {100 * MARGIN:.0f} % less time than the formulas' choice, twice (on a busy machine single measurements
# differ by more). Such lines change nothing of what is built, and `infc build --tune` does not measure them again.
# Lines that beat the formulas: OTHERS of ALL.
"""


def main(seconds: float) -> None:
    """Measures and writes."""
    isa, shapes = native(), [Shape(precision, n, k) for precision in WORDS for n, k in COMMON]
    for shape in shapes:
        if supports(isa, shape.precision, shape.n, shape.k) or (shape.precision == "float32" and narrow(isa, shape.n)):
            continue
        with tempfile.TemporaryDirectory(prefix="infc-tuning-") as folder:
            choice = measured_twice(isa, shape, seconds, Path(folder))
        print(f"{shape}: {choice or 'formulas'}", flush=True)
        extend_table(SHIPPED, section_of(isa), {shape: choice}, HEADER, replace=True)
        extend_table(SHIPPED, section_of(isa), {}, counted_header())


def counted_header() -> str:
    """The table's header with how many of its lines choose something."""
    found = [choice for lines in read_table(SHIPPED).values() for choice in lines.values()]
    others = sum(choice is not None for choice in found)
    return HEADER.replace("OTHERS", str(others)).replace("ALL", str(len(found)))


def measured_twice(isa: Isa, shape: Shape, seconds: float, folder: Path) -> Choice | None:
    """The choice that beats the usual one twice; None where none does."""
    usual = usual_choice(isa, shape.precision, shape.k)
    first = measure(isa, shape, seconds, folder, beyond_caches())
    if first is None:
        return measured_twice(isa, shape, 2 * seconds, folder)
    if first == usual:
        return None
    return first if measure(isa, shape, seconds, folder, beyond_caches(), (usual, first)) == first else None


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 6.0)
