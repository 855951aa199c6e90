"""Every setting of infc that does not belong to one command: flags, then INFC__*, then infc.toml, then the default.

`load_settings()` gives them with the place each came from. `infc.toml`, or the table `[tool.infc]` of a
`pyproject.toml`, is looked for in the working folder and upwards; the nearest one wins, whole. A malformed value or an
unknown key is an error that names the place. INFC__ names that only the server knows (INFC__PORT, say) are left alone.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from .cache import DEFAULT_LIMIT_BYTES, Cache
from .errors import InfcError

PREFIX = "INFC__"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in force. `origins` says, per field, where the value came from."""

    cache_dir: Path
    cache_limit: int = DEFAULT_LIMIT_BYTES
    color: str = "auto"
    debug: int = 0
    dump: Path | None = None
    serve_dir: Path | None = None
    tune: float = 0.0
    require_sandbox: bool = False
    import_memory: int = 0
    import_seconds: float = 0.0
    origins: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def cache(self) -> Cache:
        """The build cache."""
        return Cache(self.cache_dir, self.cache_limit)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table: `parse` takes the text and raises ValueError; `expected` says what it wants."""

    parse: Callable[[str], object]
    expected: str
    help: str


_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def parse_size(text: str) -> int:
    """Bytes of `512 MiB`, `10GB`, `4096`. Raises ValueError."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in _SIZES:
        raise ValueError(text)
    size = float(match[1]) * _SIZES[match[2].upper()]
    if size >= 2**63:
        raise ValueError(text)
    return int(size)


def _parse_folder(text: str) -> Path:
    if not text:
        raise ValueError(text)
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:  # ~somebody, of whom this machine knows nothing
        raise ValueError(text) from error


def _parse_color(text: str) -> str:
    if text not in ("auto", "always", "never"):
        raise ValueError(text)
    return text


def _parse_debug(text: str) -> int:
    if text not in ("0", "1", "2", "3", "4"):
        raise ValueError(text)
    return int(text)


def _parse_switch(text: str) -> bool:
    if text.lower() not in ("0", "1", "true", "false"):
        raise ValueError(text)
    return text.lower() in ("1", "true")


def _parse_seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 86400:
        raise ValueError(text)
    return seconds


SETTINGS: dict[str, Setting] = {
    "cache_dir": Setting(_parse_folder, "a folder", "where builds keep what they can use again"),
    "cache_limit": Setting(
        parse_size, "a size such as 10 GiB", "the cache's bound; the least recently used goes first"
    ),
    "color": Setting(_parse_color, "auto, always or never", "colours on a terminal (NO_COLOR also turns them off)"),
    "debug": Setting(_parse_debug, "0 to 4", "1 tracebacks and timings, 2 plans, 3 sources, 4 each rewrite"),
    "dump": Setting(_parse_folder, "a folder", "write every stage of a build there (03-fuse.ir, ...)"),
    "serve_dir": Setting(_parse_folder, "a folder", "where ARCH/serve is looked for, instead of the usual places"),
    "tune": Setting(
        _parse_seconds,
        "a number of seconds, 0 to 86400",
        "how long a build may measure kernels that no table has (0: not)",
    ),
    "require_sandbox": Setting(
        _parse_switch, "0 or 1", "1: refuse to import a model where this kernel cannot lock the import in"
    ),
    "import_memory": Setting(parse_size, "a size such as 16 GiB", "what importing a model may take (0: by its size)"),
    "import_seconds": Setting(
        _parse_seconds, "a number of seconds, 0 to 86400", "how long importing a model may take (0: by its size)"
    ),
}
"""Every setting; `INFC__` and the name in capitals is its variable. The defaults are those of `Settings`."""


def load_settings(
    flags: Mapping[str, str | None] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    start: Path | None = None,
) -> Settings:
    """The settings in force for `flags` (name → text, None where not given), `environ` and the folder `start`.

    Raises InfcError (exit 2) for an unknown key of infc.toml or a value that a setting does not take.
    """
    env = os.environ if environ is None else environ
    found: dict[str, tuple[str, str]] = {}
    file, table = _find_file(start or Path.cwd())
    for key, value in table.items():
        if key not in SETTINGS:
            near = get_close_matches(key, SETTINGS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"the settings are {', '.join(SETTINGS)}"
            raise InfcError(f"{file}: there is no setting {key!r}", hint=hint)
        found[key] = (str(value), str(file))
    for key in SETTINGS:
        variable = PREFIX + key.upper()
        if env.get(variable):
            found[key] = (env[variable], variable)
        flag = (flags or {}).get(key)
        if flag is not None:
            found[key] = (flag, "--" + key.replace("_", "-"))
    values: dict[str, Any] = {"cache_dir": _default_cache(env)}
    for key, (text, origin) in found.items():
        try:
            values[key] = SETTINGS[key].parse(text)
        except ValueError:
            raise InfcError(f"{origin}: {text!r} is not {SETTINGS[key].expected}", hint=SETTINGS[key].help) from None
    origins = {
        f.name: found[f.name][1] if f.name in found else "default" for f in fields(Settings) if f.name in SETTINGS
    }
    if origins["color"] == "default" and env.get("NO_COLOR"):
        values["color"], origins["color"] = "never", "NO_COLOR"
    return Settings(**values, origins=origins)


def _default_cache(env: Mapping[str, str]) -> Path:
    base = env.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG specification: a relative path is ignored
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base).absolute() / "infc"


def _find_file(start: Path) -> tuple[Path | None, Mapping[str, object]]:
    for folder in (start.absolute(), *start.absolute().parents):
        own = folder / "infc.toml"
        if own.is_file():
            return own, _read_toml(own)
        project = folder / "pyproject.toml"
        if project.is_file():
            tools = _read_toml(project).get("tool")
            table = cast("dict[str, object]", tools).get("infc") if isinstance(tools, dict) else None
            if isinstance(table, dict):
                return project, cast("dict[str, object]", table)
    return None, {}


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InfcError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InfcError(f"{path} is not TOML: {error}") from None
