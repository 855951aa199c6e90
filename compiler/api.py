"""The compiler for Python callers: `infc.build`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .build import Missed, Outcome
from .build import build as build_request
from .driver import Request
from .env import load_settings


def build(
    spec: str | Path,
    *,
    output: str | Path | None = None,
    profile: str | None = None,
    sets: Sequence[str] = (),
    use: str | None = None,
    allow_paths: Sequence[str] = (),
    locked: bool = False,
    tune: float | None = None,
    require_sandbox: bool | None = None,
    jobs: int | None = None,
) -> Outcome:
    """Builds a `.infer` file into a bundle, as `infc build` does with the options of the same names.

    `output` defaults to the spec's stem + `.bundle` beside it; `sets` are texts such as `targets.latency["p99"]=10ms`;
    `tune` is how many seconds may go into measuring kernels, `require_sandbox` refuses to import a model where this kernel
    cannot lock the import in (the settings of those names); `jobs` is how many compilers run at a time (all CPUs). The outcome holds the bundle's folder,
    its digest and each target's verdict. Raises `infc.compiler.errors.InfcError`, whose `exit_code` says whose fault it was;
    `infc.compiler.build.Missed`, with the outcome, where a target is missed.
    """
    settings = load_settings()
    outcome = build_request(
        Request(
            spec=Path(spec),
            output=None if output is None else Path(output),
            profile=profile,
            sets=tuple(sets),
            use=use,
            allow_paths=tuple(allow_paths),
            locked=locked,
            tune=settings.tune if tune is None else tune,
            require_sandbox=settings.require_sandbox if require_sandbox is None else require_sandbox,
            import_memory=settings.import_memory,
            import_seconds=settings.import_seconds,
            jobs=jobs or len(os.sched_getaffinity(0)),
            cache=settings.cache,
        )
    )
    if outcome.verdict == "missed":
        raise Missed(outcome)
    return outcome
