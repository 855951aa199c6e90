"""Where a bundle's time goes, by op and provider: one request of the largest golden size, several times."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ...runtime import load
from ..bundle.golden import golden_sizes, random_inputs
from ..ir.graph import Graph

RUNS = 7


@dataclass(frozen=True)
class OpShare:
    """Steps of one op by one provider, how many of them run in islands, and their share of the time (None: not run)."""

    op: str
    provider: str
    steps: int
    islands: int
    share: float | None

    def as_json(self) -> dict[str, object]:
        """A JSON object of the fields; the share rounded to a thousandth."""
        share = None if self.share is None else round(self.share, 3)
        return {"op": self.op, "provider": self.provider, "steps": self.steps, "islands": self.islands, "share": share}


def profile_ops(bundle: Path, graph: Graph, description: str, threads: int, *, runs: bool) -> list[OpShare]:
    """A row for each op and provider, the largest share first. `description` is what infc_describe returns. `runs` False:
    this machine cannot run the code, and the rows are without times. A step's time is the least of several runs."""
    steps: list[dict[str, object]] = json.loads(description)["steps"]
    if not runs:
        return _rows(steps, None)
    inputs = random_inputs(graph, golden_sizes(graph)[-1])
    with load(bundle, threads=threads) as model:
        model.profile()
        times: list[list[float]] = []
        for _ in range(RUNS):
            model.run(inputs)
            times.append([step.seconds for step in model.step_times()])
    return _rows(steps, [min(column) for column in zip(*times, strict=True)])


def _rows(steps: list[dict[str, object]], seconds: list[float] | None) -> list[OpShare]:
    total = sum(seconds) if seconds else 0.0
    found: dict[tuple[str, str], list[int]] = {}
    for number, step in enumerate(steps):
        found.setdefault((str(step["op"]), str(step["provider"])), []).append(number)
    rows = [
        OpShare(
            op,
            provider,
            len(numbers),
            sum(bool(steps[n]["island"]) for n in numbers),
            sum(seconds[n] for n in numbers) / total if seconds and total > 0 else None,
        )
        for (op, provider), numbers in found.items()
    ]
    return sorted(rows, key=lambda r: (-(r.share or 0.0), -r.steps, r.op))
