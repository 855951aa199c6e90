"""zig cc: C texts to objects, objects to a shared library or an executable.

The `ziglang` wheel is the only C compiler infc uses. Objects depend on their text, the ISA and zig's version alone, never
on the folder (sources are named relative to the work folder, no debug information).
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import tempfile
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from ...compiler.errors import Exit, InfcError
from ...compiler.processes import run_child
from .isa import Isa

CFLAGS: tuple[str, ...] = (
    "-std=gnu11",
    "-O3",
    "-g0",
    "-fPIC",
    "-fno-sanitize=undefined",
    "-fno-stack-protector",
    "-fomit-frame-pointer",
    "-ffp-contract=off",  # a fused multiply-add is written where it is meant, so that bits are defined
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wall",
    "-Wno-unused-function",
    "-Werror=implicit-function-declaration",
)
LDFLAGS: tuple[str, ...] = ("-g0", "-s", "-Wl,--build-id=none", "-Wl,-z,noexecstack", "-Wl,-z,relro", "-Wl,-z,now")


def compile_objects(
    isa: Isa,
    sources: Sequence[tuple[str, str]],
    workdir: Path,
    jobs: int = 1,
    *,
    baseline: Collection[str] = ("cpu_check.c",),
    flags: Sequence[str] = (),
) -> list[Path]:
    """Writes `sources` (file name, text) into `workdir` and compiles every `.c` among them, `jobs` at a time.

    Other files (`.h`) are only written, to be included. Sources named in `baseline` are compiled for the oldest CPU of
    the architecture. Returns the objects in the order of their sources. Raises InfcError: exit 6 where ziglang is not
    installed, exit 1 with zig's message and the command that repeats it where it refuses a source.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    for name, text in sources:
        (workdir / name).parent.mkdir(parents=True, exist_ok=True)
        (workdir / name).write_text(text, encoding="utf-8")
    names = [name for name, _ in sources if name.endswith(".c")]

    def compile_one(name: str) -> Path:
        target = isa.baseline_flags if name in baseline else isa.flags
        output = name.removesuffix(".c") + ".o"
        run_zig(["cc", *target, *CFLAGS, *flags, "-I.", "-c", name, "-o", output], workdir)
        return workdir / output

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        return list(pool.map(compile_one, names))


def link(isa: Isa, objects: Sequence[Path], out: Path, exports: Sequence[str]) -> Path:
    """Links `objects` into the shared library `out`, which exports the patterns `exports` (`infc_*`) and nothing else.

    Undefined symbols that glibc does not bring are errors. Raises InfcError as `compile_objects` does.
    """
    script = out.with_suffix(".map")
    script.write_text(f"{{ global: {'; '.join(exports)}; local: *; }};\n", encoding="utf-8")
    named = [os.path.relpath(o, out.parent) for o in objects]
    run_zig(
        ["cc", "-target", isa.triple, "-shared", *LDFLAGS, "-Wl,-z,defs", f"-Wl,--version-script={script.name}"]
        + [f"-Wl,-soname,{out.name}", *named, "-o", out.name],
        out.parent,
    )
    return out


def link_executable(isa: Isa, objects: Sequence[Path], out: Path, libraries: Sequence[str] = ()) -> Path:
    """Links `objects` into the executable `out` (`libraries` are flags such as `-lpthread`)."""
    named = [os.path.relpath(o, out.parent) for o in objects]
    run_zig(["cc", "-target", isa.triple, *LDFLAGS, *named, *libraries, "-o", out.name], out.parent)
    return out


def assembly(isa: Isa, text: str, workdir: Path) -> str:
    """The assembly that zig makes of the C in `text`, for people and tests."""
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "asm.c").write_text(text, encoding="utf-8")
    run_zig(["cc", *isa.flags, *CFLAGS, "-I.", "-S", "asm.c", "-o", "asm.s"], workdir)
    return (workdir / "asm.s").read_text(encoding="utf-8")


DISK_FULL = ("NoSpaceLeft", "No space left on device", "FileTooBig", "DiskQuota")
"""What zig says of a disk that takes no more."""


def run_zig(arguments: Sequence[str], folder: Path) -> None:
    """Runs zig in `folder`. Raises InfcError with its message and the command."""
    command = [str(zig()), *arguments]
    done = _run(command, folder, cache_folder())
    if _disk_full(done) and cache_folder() is not None:
        done = _run(command, folder, None)  # zig's cache is never needed
    if _disk_full(done):
        raise InfcError(
            f"zig {arguments[0]} failed: the disk of {folder} is full",
            exit_code=Exit.MISSING,
            hint="free some disk space, or set TMPDIR to a folder that has some",
        )
    if done.returncode != 0:
        raise InfcError(
            f"zig {arguments[0]} failed (exit {done.returncode}):\n{done.stderr.strip() or done.stdout.strip()}",
            exit_code=Exit.INTERNAL,
            hint=f"repeat it with: cd {shlex.quote(str(folder))} && {shlex.join(command)}",
        )


def _run(command: Sequence[str], folder: Path, kept: Path | None) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory(prefix=".zig-", dir=folder) as scratch:  # else zig keeps a copy of every object
        caches = {"ZIG_GLOBAL_CACHE_DIR": str(kept or scratch), "ZIG_LOCAL_CACHE_DIR": scratch}
        return run_child(command, cwd=folder, env={**os.environ, **caches})


def _disk_full(done: subprocess.CompletedProcess[str]) -> bool:
    return done.returncode != 0 and any(said in done.stderr for said in DISK_FULL)


@cache
def zig() -> Path:
    """The zig of the ziglang wheel. Raises InfcError (exit 6) where it is not installed."""
    spec = importlib.util.find_spec("ziglang")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    found = [Path(p) / "zig" for p in places if (Path(p) / "zig").exists()]
    if not found:
        raise InfcError(
            "compiling for a CPU needs the Python package 'ziglang', which is not installed",
            exit_code=Exit.MISSING,
            hint="pip install 'infc[build]'",
        )
    return found[0]


def zig_version() -> str:
    """zig's version, part of every cache key."""
    return subprocess.run([str(zig()), "version"], capture_output=True, text=True, check=True).stdout.strip()


@cache
def cache_folder() -> Path | None:
    """Where zig keeps what it builds for itself (its C library stubs): beside infc's own cache. None where that cannot be
    written: zig then makes them again for every file."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"))
    if not root.is_absolute():  # as the XDG specification says: a relative path is ignored
        root = Path.home() / ".cache"
    folder = root / "infc" / "zig"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-") as probe:
            probe.write(bytes(1 << 16))
            probe.flush()
    except OSError:
        return None
    return folder
