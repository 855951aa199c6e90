"""When a build may be used again: same compiler, same spec, same machine to build for, and same bytes in every file that
it read.

Which files a build reads is known only afterwards (a factory imports what it likes). So the key is a chain: the key of
the spec leads to a list of files; their digests make the next key; it leads to the bundle, or, where a changed file
made the build read others, to a longer list.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from ..dsl.spec import AccuracyTarget, Model, Spec, Targets, Traffic
from .bundle.lock import locked_choices
from .bundle.server import find as find_server
from .cache import Cache, cache_key, file_digest
from .driver import Machine, Request, tuning_table

FORMAT = 2
_LINKS = 8


def build_key(request: Request, spec: Spec, machine: Machine, tuning: str, *, tuned: bool) -> str:
    """The first key of the chain. `tuning`: what `tuning_digest` gives; `tuned`: whether every kernel has to be measured."""
    return cache_key(
        FORMAT,
        compiler_digest(),
        file_digest(find_server(machine.platform.arch)),
        _decisive(spec),
        spec.folder or "",
        machine.variant,
        machine.cores,
        request.passes,
        request.allow_paths,
        tuning,
        tuned,
        {name: str(value) for name, value in machine.target.tools().items()},
        sorted(str(value) for value in machine.target.fingerprint().values()),
        dict(machine.target.caches()),
        _data_digests(spec),
    )


def _decisive(spec: Spec) -> str:
    """What of a spec decides a build's bytes: not what is promised and proved under which load. An accuracy target's metric is
    checked against the model, and with reduced precision its bound decides how wide layers stay."""
    models: list[Model] = []
    for model in spec.models:
        wide = all(p.kind == "float32" for p in model.search.precisions)
        kept = [t for t in model.targets.items if isinstance(t, AccuracyTarget)]
        items = tuple(replace(t, bound=0.0) if wide else t for t in kept)
        search = replace(model.search, budget_s=0.0, seed=0)
        models.append(replace(model, targets=Targets(items=items), traffic=Traffic(), search=search))
    hardware = tuple(replace(h, price_usd_per_h=None, written=True) for h in spec.hardware)
    plain = replace(
        spec,
        models=tuple(models),
        hardware=hardware,
        accepts=(),
        bundle_targets=Targets(),
        profile=None,
        file="",
        files=(),
        resolved="",
    )
    return repr(plain)


def tuning_digest(request: Request, spec: Spec, machine: Machine) -> str:
    """A digest of what decides how kernels are made: the user's table, or with --locked the lock's choices; "" where there
    is nothing. Raises InfcError (exit 2) where there is no lock."""
    if request.locked:
        chosen = {model.name: locked_choices(request.spec, model.name) for model in spec.models}
        return cache_key("locked", chosen) if any(chosen.values()) else ""
    table = tuning_table(request, machine)
    try:
        return file_digest(table) if table is not None and table.is_file() else ""
    except OSError:
        return ""  # unreadable: as good as absent


def find_build(cache: Cache, key: str) -> Path | None:
    """The remembered bundle, or None."""
    for _ in range(_LINKS):
        entry = cache.get(key)
        if entry is None or (entry / "manifest.json").exists():
            return entry
        files: list[str] = json.loads((entry / "files.json").read_text(encoding="utf-8"))
        following = _next(key, files)
        if following is None:
            return None
        key = following
    return None


def remember_build(cache: Cache, key: str, used: Iterable[Path], bundle: Path) -> None:
    """Stores a finished bundle under the key and the digests of the files it was made from."""
    import shutil

    files = sorted(str(path.absolute()) for path in used)  # links are followed anew each time
    for _ in range(_LINKS):
        entry = cache.get(key)
        if entry is None:
            cache.put(key, lambda folder: (folder / "files.json").write_text(json.dumps(files), encoding="utf-8"))
            listed = files
        elif (entry / "manifest.json").exists():
            return
        else:
            listed = json.loads((entry / "files.json").read_text(encoding="utf-8"))
        following = _next(key, listed)
        if following is None:
            return
        key = following
        if listed == files:
            cache.put(key, lambda folder: shutil.copytree(bundle, folder, dirs_exist_ok=True))
            return


def _next(key: str, files: list[str]) -> str | None:
    digests: list[str] = []
    for name in files:
        path = Path(name)
        try:
            digests.append(_listing(path) if path.is_dir() else file_digest(path))
        except OSError:
            return None
    return cache_key(key, files, digests)


def _listing(folder: Path) -> str:
    """A digest of the names below a model's folder: a file that was not there may change what the others mean. Bundles and
    locks in it are ours, and hidden files are no part of a model."""
    names: list[str] = []
    for at, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".") and not f.endswith(".bundle")]
        here = (n for n in (*folders, *files) if not n.startswith(".") and not n.endswith(".lock"))
        names += (os.path.relpath(os.path.join(at, n), folder) for n in here)
    return cache_key("listing", sorted(names))


def _data_digests(spec: Spec) -> list[str]:
    paths = [d.path for m in spec.models for d in (m.data.calibrate, m.data.evaluate) if d is not None]
    return [file_digest(Path(p)) for p in paths if Path(p).is_file()]


@cache
def compiler_digest() -> str:
    """Digest of this compiler's own files: another compiler builds again."""
    root = Path(__file__).resolve().parent.parent
    patterns = (
        "compiler/**/*.py",
        "targets/**/*.py",
        "targets/**/*.j2",
        "targets/**/*.[ch]",
        "targets/**/*.toml",
        "dsl/*.py",
        "runtime/*.py",
        "runtime/abi/**/*",
    )
    files = sorted({p for pattern in patterns for p in root.glob(pattern) if p.is_file()})
    return cache_key([[str(p.relative_to(root)), file_digest(p)] for p in files])
