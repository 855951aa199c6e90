"""`check_file` and `check_text`: text → Spec and diagnostics. The table of contents of the language.

load      files → layers of statements            load.py (lexer, balance, parse)
collect   statements → entries, by the table      entries.py (forms, values, calls)
merge     layers → the entries that hold          merge.py, settings.py (--set, --use)
make      entries → Spec                          make_model.py, make_targets.py, ...
warn      Spec → what is probably wrong           warn.py, overlap.py
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .cursor import Context
from .diagnostics import Diagnostic, sort_diagnostics
from .entries import Entry, check_dormant, collect_entries, drop_models, place_scopes
from .lexer import decode
from .load import Loaded, load_layers, near_files
from .make_hardware import make_hardware
from .make_model import make_model
from .make_search import make_serve
from .make_targets import make_targets
from .making import Making
from .merge import merge_entries
from .overlap import check_overlap
from .paths import Roots
from .resolved import write_resolved
from .spec import Model, Spec, Targets
from .warn import warn_spec

if TYPE_CHECKING:
    from .settings import Setting


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What `check` found. `spec` is None when there is any error.

    `diagnostics`: errors and warnings in the order of the text. `texts`: every text that was read, by the name that
    spans use (for `render_diagnostics`). `entries`: the statements that hold, for `--resolved` and `--explain`.
    """

    spec: Spec | None
    diagnostics: tuple[Diagnostic, ...]
    texts: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    entries: tuple[Entry, ...] = field(default=(), repr=False)
    models: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        return tuple(d for d in self.diagnostics if d.is_error)

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        return tuple(d for d in self.diagnostics if not d.is_error)

    @property
    def ok(self) -> bool:
        return self.spec is not None


def check_file(
    path: str | os.PathLike[str], *, profile: str | None = None, sets: Sequence[str] = (), use: str | None = None,
    allow_paths: Sequence[str | os.PathLike[str]] = (), need_files: bool = True,
) -> CheckResult:  # fmt: skip
    """Checks a spec on disk. Never raises for what the file says or for a file that cannot be read.

    Paths in it are relative to the file that writes them and may not leave the spec's folder tree, nor the trees of
    `allow_paths`. A file that the spec names and that is not there is an error (E0401) unless `need_files` is False.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            raw = file.read()
    except OSError as error:
        help = near_files(os.path.abspath(name), name) if isinstance(error, FileNotFoundError) else ()
        why = (error.strerror or str(error)).lower()
        return CheckResult(None, (Diagnostic("E0701", f"cannot read {name}: {why}", help=help),))
    text, found = decode(raw, name)
    if found:
        return CheckResult(None, tuple(found), {name: raw.decode("utf-8", "replace")})
    absolute = os.path.abspath(name)
    folder = os.path.dirname(absolute)
    return _check(text, name, folder, absolute, profile, tuple(sets), use, allow_paths, need_files)


def check_text(
    text: str, *, file: str = "<text>", folder: str | os.PathLike[str] | None = None, profile: str | None = None,
    sets: Sequence[str] = (), use: str | None = None, allow_paths: Sequence[str | os.PathLike[str]] = (),
) -> CheckResult:  # fmt: skip
    """Checks a text that is no file. With `folder`, paths start there and must exist; without, no file is looked for."""
    root = os.getcwd() if folder is None else str(os.path.abspath(folder))
    return _check(text, file, root, None, profile, tuple(sets), use, allow_paths, folder is not None)


def _check(
    text: str, name: str, folder: str, absolute: str | None, profile: str | None, sets: tuple[str, ...],
    use: str | None, allow_paths: Sequence[str | os.PathLike[str]], need_files: bool,
) -> CheckResult:  # fmt: skip
    roots = Roots(folder, folder, tuple(os.path.abspath(os.fspath(p)) for p in allow_paths))
    real = os.path.realpath(absolute) if absolute is not None else None
    loaded = load_layers(text, name, roots, profile, real)
    found = loaded.found
    settings: list[Setting] = []
    if sets:
        from .settings import read_settings

        settings = read_settings(sets, loaded)

    used: set[str] = set()
    collected = collect_entries(loaded, found, used)
    check_dormant(loaded, found)
    drop_models(collected)
    place_scopes(collected, found)
    entries = merge_entries(collected, found)
    if settings or use is not None:
        from .settings import apply_options

        context = Context(loaded.lets, found, roots, used)
        entries = apply_options(settings, use, entries, collected, context, loaded)

    making = Making(entries, collected, found, roots, need_files)
    spec = _make_spec(making, loaded, name, folder, profile)
    if spec is not None:
        check_overlap(making, spec, need_files)
    errors = any(d.is_error for d in found)
    if spec is not None and not errors:
        warn_spec(making, spec, used)
    ordered = sort_diagnostics(found)
    models = tuple(collected.models)
    return CheckResult(None if errors else spec, ordered, loaded.texts, tuple(entries), models)


def _make_spec(making: Making, loaded: Loaded, name: str, folder: str, profile: str | None) -> Spec | None:
    collected = making.collected
    if not collected.models and not any(s[1:] == ("top", "model") for s in collected.seen):
        if not any(d.code in ("E0109", "E0110", "E0106") for d in making.found):
            making.error(
                "E0306", f"{name} has no model", None, "", ('as in `model m { source torch("model.py:make") }`',)
            )  # fmt: skip
        return None
    models: list[Model] = []
    for model_name in collected.models:
        model = make_model(making, model_name)
        if model is not None:
            models.append(model)
    called: dict[str, Model] = {}
    for model in models:
        for other_name in {model.name, model.alias or model.name}:
            if other_name in called:
                making.error(
                    "E0504", f"two models are called `{other_name}`", model.at("alias"), "expected another name"
                )
            called[other_name] = model
    several = len(collected.models) > 1
    bundle = make_targets(making, None) if several else Targets()
    hardware, accepts = make_hardware(making)
    serve = make_serve(making)
    if not models or len(models) != len(collected.models):
        return None
    return Spec(
        models=tuple(models),
        hardware=hardware,
        accepts=accepts,
        serve=serve,
        bundle_targets=bundle,
        profile=profile,
        file=name,
        folder=folder,
        files=tuple(loaded.files),
        resolved=write_resolved(making.entries, list(collected.models)),
    )
