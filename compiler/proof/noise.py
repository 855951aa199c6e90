"""What the machine did to a run: blocks that say nothing of times, and why. What cannot be read is unknown, not zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .document import Block, Noise, Run

MOST_LAG_S = 1e-3
"""The generator's lag (p99) that is always allowed."""
LAG_SHARE = 0.05
"""The lag that is allowed beyond it, as a share of the tightest latency bound."""
MOST_STEAL = 0.02
"""Share of the time for which the hypervisor may take the server's cores."""
MOST_FOREIGN = 0.05
"""Processor seconds a second that other programs may take on the server's cores, a core."""
LEAST_FOREIGN_S = 0.03
"""Processor seconds of others that say nothing: the kernel counts in ticks of a hundredth."""
MOST_VOID = 0.25
"""The share of blocks that may be void before the whole run is."""


@dataclass(frozen=True)
class Clean:
    """The blocks of a run that count, and what was wrong with the others; `void`: why none counts, or ""."""

    blocks: tuple[Block, ...]
    dropped: int = 0
    void: str = ""


def clean(run: Run, tightest: float | None) -> Clean:
    """Sorts a run's blocks. `tightest`: the least latency bound in seconds that is judged on it; None where there is none.

    A block is void where the load came late or short of connections, or others took the server's cores; what the server
    itself does never makes it void. A run with more than MOST_VOID of such blocks is void as a whole.
    """
    wrong = [(block, fault(block, run.placement.server, tightest)) for block in run.blocks]
    good = tuple(block for block, why in wrong if not why)
    bad = [why for _, why in wrong if why]
    if run.load.mode == "open" and run.before.jitter_p99_s is not None:
        allowed = most_lag(tightest)
        if run.before.jitter_p99_s > allowed:
            return Clean((), len(run.blocks), f"clocks of this machine ring {_ms(run.before.jitter_p99_s)} late (p99)")
    if len(bad) > MOST_VOID * len(run.blocks):
        return Clean((), len(run.blocks), f"{len(bad)} of {len(run.blocks)} blocks are void: {_most_frequent(bad)}")
    return Clean(good, len(bad))


def fault(block: Block, cores: Sequence[int], tightest: float | None) -> str:
    """Why a block says nothing of times; "" where it does."""
    if block.connections_short:
        return f"{block.connections_short} requests waited for a connection of the load"
    allowed = most_lag(tightest)
    if block.lag_p99_s is not None and block.lag_p99_s > allowed:
        return f"the load was sent {_ms(block.lag_p99_s)} late (p99), and {_ms(allowed)} is allowed"
    if block.steal is not None and block.steal > MOST_STEAL:
        return f"the hypervisor took {block.steal:.0%} of the server's cores"
    allowed_s = max(MOST_FOREIGN * block.elapsed_s * max(len(cores), 1), LEAST_FOREIGN_S)
    if block.foreign is not None and block.foreign * block.elapsed_s > allowed_s:
        return f"other programs took {block.foreign / max(len(cores), 1):.0%} of the server's cores"
    return ""


def void_starts(run: Run) -> str:
    """Why a run's timed starts say nothing; "" where they do. Others are seen in a short look before them."""
    before, cores = run.before, max(len(run.placement.server), 1)
    if before.steal is not None and before.steal > 5 * MOST_STEAL:
        return f"the hypervisor took {before.steal:.0%} of the server's cores"
    if before.foreign is not None and before.foreign > 5 * MOST_FOREIGN * cores:
        return f"other programs took {before.foreign / cores:.0%} of the server's cores"
    return ""


def most_lag(tightest: float | None) -> float:
    """The generator's lag in seconds (p99) above which a block is void."""
    return max(MOST_LAG_S, LAG_SHARE * tightest) if tightest is not None else MOST_LAG_S


def unknown(noise: Noise | Block) -> list[str]:
    """What of the noise could not be read."""
    return [name for name in ("steal", "foreign", "pressure") if getattr(noise, name) is None]


def _most_frequent(reasons: Sequence[str]) -> str:
    return max(reasons, key=lambda reason: sum(r.split(" ")[:3] == reason.split(" ")[:3] for r in reasons))


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2g} ms"
