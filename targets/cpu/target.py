"""The CPU target as the compiler sees it: what it builds for, and plan to model.so."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ...compiler.codegen.describe import describe
from ...compiler.codegen.plan import Plan
from ...compiler.errors import Exit, InfcError
from ...compiler.ir.graph import Op
from ...compiler.ir.types import TensorType
from ...compiler.target import Built, Limits, Platform, Rendered, Tuning, Variant
from .compile import compile_objects, link, zig_version
from .isa import GLIBC, ISAS, Isa, isa, machine_features, native

ABI = Path(__file__).parent / "abi"
HEADER = Path(__file__).parent.parent.parent / "runtime" / "abi" / "infc_model.h"


@dataclass(frozen=True)
class CpuTarget:
    """C through zig, for x86-64 and aarch64."""

    name: str = "cpu"
    title: str = "x86-64 and aarch64 CPUs: C through zig cc"
    tvm: bool = True
    """Whether TVM compiles what it can of the tail; the printed C gives the same bits."""

    def variants(self) -> tuple[Variant, ...]:
        """One an instruction set."""
        missing = _missing_tool()
        arch, have = machine_features()
        return tuple(
            Variant(
                v.name,
                missing,
                "" if v.arch == arch and have.issuperset(v.features) else f"this machine is {arch} without it",
            )
            for v in ISAS.values()
        )

    def fingerprint(self) -> Mapping[str, object]:
        """Architecture, CPU model, features, cores this process may use, memory in bytes."""
        arch, have = machine_features()
        return {
            "arch": arch,
            "cpu": _cpu_model(),
            "isa": native().name,
            "features": sorted(have),
            "cores": len(os.sched_getaffinity(0)),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        }

    def resolve(self, variant: str | None) -> str:
        """The variant that `native` or None stands for; otherwise the name itself, checked. Raises InfcError (exit 2)."""
        return isa(variant or "native").name

    def platform(self, variant: str) -> Platform:
        """Operating system, architecture, C library and CPU features that code for variant needs."""
        found = ISAS[variant]
        return Platform("linux", found.arch, GLIBC, found.features)

    def refuses(self, variant: str, op: Op, operands: Sequence[TensorType]) -> str:
        """Why there is no kernel of reduced precision for op over operands of these types; "" where there is one."""
        from .kernels.reduced import why_not

        return why_not(ISAS[variant], op, operands)

    def runs_here(self, variant: str) -> bool:
        """Whether this machine can execute the variant's code."""
        arch, have = machine_features()
        return ISAS[variant].arch == arch and have.issuperset(ISAS[variant].features)

    def limits(self, variant: str, threads: int, folder: Path) -> Limits:
        """Peaks of arithmetic by precision, and of reading from L2, L3 and memory."""
        from .limits import measure_limits

        return measure_limits(variant, threads, folder)

    def caches(self) -> Mapping[str, int]:
        """L2 (of one core) and L3."""
        from .limits import cache_sizes

        return {f"L{level}": size for level, size in sorted(cache_sizes().items()) if level > 1}

    def tools(self) -> Mapping[str, str]:
        """Versions that decide the bytes of model.so."""
        return {"ziglang": zig_version(), "apache-tvm": _tvm_version() if self.tvm else "off"}

    def tune(self, plan: Plan, variant: str, table: Path | None, seconds: float, folder: Path) -> Tuning:
        """Tiles of linear layers, from the tables or measured (tuning/)."""
        from .tuning.choose import tune

        return tune(plan, ISAS[variant], table, seconds, folder, here=self.runs_here(variant))

    def render(self, plan: Plan, variant: str, choices: Mapping[str, str] | None = None) -> Rendered:
        """The C of plan, and who provides each step's kernel."""
        from . import kernels
        from .emit import render
        from .kernels.runtime import cpu_check, pool_sources
        from .tuning.choose import read_choices

        found = ISAS[variant]
        tiles = read_choices(choices or {}, found)
        rendered = render(plan, found, lambda providers: describe(plan, variant, providers), tiles, tvm=self.tvm)
        sources = {
            "infc_model.h": HEADER.read_text(encoding="utf-8"),
            **{path.name: path.read_text(encoding="utf-8") for path in (ABI / "rt.h", ABI / "abi.c")},
            **dict(pool_sources()),
            "prelude.h": kernels.prelude(found),
            "cpu_check.c": cpu_check(found),
            **rendered.sources,
        }
        return Rendered(
            sources,
            rendered.providers,
            rendered.description,
            rendered.weights.write,
            rendered.objects,
            rendered.reasons,
        )

    def compile(self, rendered: Rendered, variant: str, workdir: Path, jobs: int) -> Built:
        """Compiles and links model.so and writes weights.bin in workdir."""
        found: Isa = ISAS[variant]
        objects = compile_objects(found, list(rendered.sources.items()), workdir, jobs)
        objects += _write_objects(rendered.objects, workdir)
        library = link(found, objects, workdir / "model.so", ["infc_*"])
        rendered.write_weights(workdir / "weights.bin")
        return Built(library, workdir / "weights.bin")


def _write_objects(objects: Mapping[str, bytes], workdir: Path) -> list[Path]:
    written: list[Path] = []
    for name, data in objects.items():
        (workdir / name).write_bytes(data)
        written.append(workdir / name)
    return written


def _tvm_version() -> str:
    try:
        return version("apache-tvm")
    except PackageNotFoundError:
        raise InfcError(
            "building needs the Python package 'apache-tvm', which is not installed",
            exit_code=Exit.MISSING,
            hint="pip install 'infc[build]'",
        ) from None


def _missing_tool() -> str:
    from .compile import zig

    try:
        zig()
    except InfcError as error:
        return error.message
    return ""


@cache
def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "CPU part"):
            return value.strip()
    return "unknown"


TARGET = CpuTarget()
