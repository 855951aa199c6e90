"""What the compiler asks of a target, and how targets are found.

A target is a folder of `targets/` with a module `target.py` that has a constant `TARGET`. Nobody lists them: a new
folder is a new target. The compiler never names one.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from .errors import InfcError

if TYPE_CHECKING:
    from .codegen.plan import Plan
    from .ir.graph import Op
    from .ir.types import TensorType


@dataclass(frozen=True, slots=True)
class Variant:
    """One kind of machine that a target builds for: an instruction set, an architecture of GPU.

    `missing` is why this machine cannot build for it ("" where it can), `unmeasured` why it cannot measure it ("" where
    it can), each in one line.
    """

    name: str
    missing: str = ""
    unmeasured: str = ""


@dataclass(frozen=True, slots=True)
class Platform:
    """Where a variant's code runs: operating system, architecture (as `uname -m`), oldest C library, device features."""

    os: str
    arch: str
    glibc: str
    features: tuple[str, ...]


@dataclass(frozen=True)
class Rendered:
    """A plan as sources. `sources`: text by file name; `providers`: who provides each step's kernel, by step index;
    `description`: what infc_describe returns; `objects`: object files that other compilers made."""

    sources: Mapping[str, str]
    providers: Mapping[int, str]
    description: str
    write_weights: Callable[[Path], str]
    """Writes weights.bin and returns its sha256."""
    objects: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    reasons: Mapping[int, str] = field(default_factory=dict[int, str])
    """By step index, why the usual provider of the tail did not take it."""


@dataclass(frozen=True, slots=True)
class Built:
    """A compiled plan."""

    library: Path
    weights: Path


@dataclass(frozen=True)
class Limits:
    """What a machine can do at most: `ops`, operations a second by precision (a multiply-add counts two; a precision that
    is not there has float32's), and `read`, bytes a second from each level of its memory, nearest first."""

    ops: Mapping[str, float]
    read: Mapping[str, float]


@dataclass(frozen=True)
class Tuning:
    """How kernels of a plan are made where that was measured and is not what the target takes by itself: text by text, the
    target's own words, which locks hold. `known`: kernels that a table had a word on, `measured`: those measured now;
    `missing`: those that nobody measured yet; `table`: sha256 of the user's table that it was taken from, "" where there is
    none; `problem`: why that table could not be read or written, which costs nothing but time."""

    choices: Mapping[str, str] = field(default_factory=dict[str, str])
    known: int = 0
    measured: int = 0
    missing: int = 0
    table: str = ""
    problem: str = ""


@runtime_checkable
class Target(Protocol):
    """What `infc targets` and the driver need to know of every target; `name` is the word after `use`."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str:
        """One line for people."""
        ...

    def variants(self) -> tuple[Variant, ...]:
        """Every variant, whether this machine can build for it and whether it can measure it."""
        ...

    def fingerprint(self) -> Mapping[str, object]:
        """What this machine is, as far as the target's measurements depend on it; JSON values."""
        ...

    def resolve(self, variant: str | None) -> str:
        """The variant's name; None is this machine's. Raises InfcError (exit 2) that lists the known ones."""
        ...

    def platform(self, variant: str) -> Platform:
        """Where the variant's code runs."""
        ...

    def refuses(self, variant: str, op: Op, operands: Sequence[TensorType]) -> str:
        """Why it has no kernel of reduced precision for op over operands of these types; "" where it has one."""
        ...

    def runs_here(self, variant: str) -> bool:
        """Whether this machine can execute the variant's code."""
        ...

    def limits(self, variant: str, threads: int, folder: Path) -> Limits:
        """What this machine can do at most, measured now by a program that is made in folder. Raises InfcError where it
        cannot run the variant's code."""
        ...

    def caches(self) -> Mapping[str, int]:
        """Bytes of each level of this machine's memory but the last, nearest first, by the names of `limits`."""
        ...

    def tools(self) -> Mapping[str, str]:
        """Name to version of each tool that decides the bytes of a build."""
        ...

    def tune(self, plan: Plan, variant: str, table: Path | None, seconds: float, folder: Path) -> Tuning:
        """What was measured to be best for the kernels of plan: in `table`, a text file that people may edit (absent: empty),
        and in one of its own. About `seconds` at most are spent on measuring what neither has, by programs made in folder;
        that is added to `table`. Results never depend on it. Raises InfcError where the table is malformed."""
        ...

    def render(self, plan: Plan, variant: str, choices: Mapping[str, str] | None = None) -> Rendered:
        """A plan as sources; `choices` are those of a `Tuning`. Raises InfcError that names an op without a kernel, or what
        is wrong with a choice."""
        ...

    def compile(self, rendered: Rendered, variant: str, workdir: Path, jobs: int) -> Built:
        """model.so and weights.bin in workdir, `jobs` compilers at a time."""
        ...


def discover() -> dict[str, Target]:
    """Every target by its name, sorted. Raises TypeError where a folder's TARGET is none."""
    found: dict[str, Target] = {}
    package = import_module("..targets", __package__)
    for module in pkgutil.iter_modules(package.__path__):
        if not module.ispkg or not _has_target(list(package.__path__), module.name):
            continue
        target = import_module(f"{package.__name__}.{module.name}.target").TARGET
        if not isinstance(target, Target):
            raise TypeError(f"targets/{module.name}/target.py: TARGET lacks part of compiler.target.Target")
        found[target.name] = target
    return dict(sorted(found.items()))


def find_target(name: str) -> Target:
    """The target called `name`. Raises InfcError (exit 2) that lists the known ones."""
    targets = discover()
    if name in targets:
        return targets[name]
    near = get_close_matches(name, targets, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"the targets are {', '.join(targets)}"
    raise InfcError(f"there is no target {name!r}", hint=hint)


def _has_target(paths: list[str], folder: str) -> bool:
    return any(m.name == "target" for m in pkgutil.iter_modules([f"{path}/{folder}" for path in paths]))
