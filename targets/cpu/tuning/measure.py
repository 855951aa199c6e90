"""Which choice is fastest for a linear layer on this machine: candidates, timed in one program, interleaved.

A candidate is chosen by the even rounds alone and has to be `MARGIN` faster than what is usual in the odd ones, too: the
best of many by chance is not. Weights come from memory, on large pages, as in a model that is larger than the caches.

Measured on Zen 4 (AVX512-BF16, L2 1 MiB, L3 32 MiB), 18 shapes of encoders and small networks in three precisions, once on
a busy machine and once on an idle one: nothing beats the formulas by the margin. Kernels are at the multipliers' peak (116,
234 and 450 billion operations a second on a core), tiles of 8 to 14 rows are within 1 % of each other, so are 2 to 16
of them at a time; without prefetching 5 to 10 % are lost, at 16 rows up to a fifth. Rows 4 KiB apart have lower tiles, which
`usual_choice` counts as they are: 0.5 %, more where nothing lies on large pages.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

from ....compiler.errors import Exit, InfcError
from ....compiler.processes import run_child
from ..compile import compile_objects, link_executable
from ..isa import Isa
from ..kernels import linear, packed_bytes, panels, prelude, q8_stride
from ..kernels.linear import tallest, usual_choice
from .choice import LEAST_ROWS, MOST_TILES, Choice, Shape

DRIVER = Path(__file__).resolve().with_name("measure.c")
ROWS = (16, 64, 128)
"""Rows of a call; a choice is judged by the geometric mean over them."""
MARGIN = 0.03
"""How much less time than the usual choice one must take."""
LEAST_ROUNDS = 8
"""Rounds below which nothing is concluded."""


def candidates(isa: Isa, shape: Shape) -> list[Choice]:
    """The usual choice first, then others: lower tiles, fewer and more of them at a time, no prefetch; only one of those that
    are the same for these rows."""
    usual, most = usual_choice(isa, shape.precision, shape.k), tallest(isa, shape.precision, shape.k)
    heights = (isa.max_rows, isa.max_rows * 4 // 7)
    counts = [usual.tiles, *(t for t in (usual.tiles // 2, 2 * usual.tiles, 4 * usual.tiles) if 1 <= t <= MOST_TILES)]
    found: dict[tuple[int, int, bool], Choice] = {}
    for ahead in (True, False):
        for rows in (h for h in heights if h >= LEAST_ROWS):
            for tiles in counts:
                height = min(rows, most)
                found.setdefault((height, min(tiles, -(-ROWS[-1] // height)), ahead), Choice(rows, tiles, ahead))
    return list(found.values())


def measure(
    isa: Isa, shape: Shape, seconds: float, folder: Path, beyond: int, among: Sequence[Choice] = ()
) -> Choice | None:
    """The choice that is faster than the usual one, or the usual one itself where none is; None where `seconds`, compiling
    included, are too few to tell. The program is made in folder; weights are spread over `beyond` bytes. `among`: the
    candidates, the usual one first (default: `candidates`). Raises InfcError."""
    end = time.monotonic() + seconds
    found = among or candidates(isa, shape)
    program = build(isa, shape, found, folder)
    milliseconds = 1e3 * (end - time.monotonic())
    if milliseconds <= 0:
        return None
    copies = max(1, -(-beyond // packed_bytes(isa, shape.n, shape.k, shape.precision)))
    command = [str(program), f"{milliseconds:.0f}", str(copies)]
    done = run_child(command)
    if done.returncode:
        raise InfcError(f"measuring {shape} ended with {done.returncode}: {done.stderr}", exit_code=Exit.INTERNAL)
    rounds, *lines = done.stdout.splitlines()
    if int(rounds) < LEAST_ROUNDS:
        return None
    times = [[float(t) for t in line.split()] for line in lines]
    scores = [_scores(times[i * len(ROWS) : (i + 1) * len(ROWS)]) for i in range(len(found))]
    best = min(range(len(found)), key=lambda i: scores[i][0])
    faster = all(scores[best][half] < (1 - MARGIN) * scores[0][half] for half in (0, 1))
    return found[best if faster else 0]


def build(isa: Isa, shape: Shape, found: Sequence[Choice], folder: Path) -> Path:
    """The program that times the choices `found`, compiled in folder. Raises InfcError."""
    n, k, precision = shape.n, shape.k, shape.precision
    kernels = [linear(isa, n, k, None, True, False, precision, choice=choice) for choice in found]
    stride = q8_stride(isa, k) if precision == "q8" else k
    item = {"float32": 4, "bfloat16": 2, "q8": 1}[precision]
    header = f"""#include <stdint.h>
#define TUNED_ROWS {len(ROWS)}
#define TUNED_CANDIDATES {len(found)}
#define TUNED_A_BYTES {stride * item}ll
#define TUNED_W_BYTES {packed_bytes(isa, n, k, precision)}ll
#define TUNED_C_BYTES {4 * n}ll
static const int64_t tuned_rows[TUNED_ROWS] = {{{", ".join(map(str, ROWS))}}};
typedef void tuned_fn(const void *a, const void *w, const float *bias, void *c, int64_t rows);
extern tuned_fn *const tuned_candidates[TUNED_CANDIDATES];
"""
    source = '#include "prelude.h"\n#include "candidates.h"\n' + "".join(k.source for k in kernels)
    for number, kernel in enumerate(kernels):
        source += f"""static void candidate_{number}(const void *a, const void *w, const float *bias, void *c, int64_t rows) {{
    {kernel.symbol}(a, {stride}, w, bias, 0, 0, c, {n}, rows, 0, {panels(isa, n)});
}}
"""
    names = ", ".join(f"candidate_{number}" for number in range(len(found)))
    source += f"tuned_fn *const tuned_candidates[TUNED_CANDIDATES] = {{{names}}};\n"
    sources = [
        ("prelude.h", prelude(isa)),
        ("candidates.h", header),
        ("candidates.c", source),
        ("measure.c", DRIVER.read_text(encoding="utf-8")),
    ]
    return link_executable(isa, compile_objects(isa, sources, folder), folder / "measure")


def _scores(times: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Geometric means over the rows, of the even rounds and of the odd ones."""
    even, odd = (math.exp(sum(math.log(max(row[half], 1.0)) for row in times) / len(times)) for half in (0, 1))
    return even, odd
