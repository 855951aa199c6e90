"""Which files were read while a factory ran: the build cache's key for `torch("file.py:factory")` holds them all.

Python's audit hook sees `open` and `import`; readers written in Rust or C++ open behind its back, so safetensors' and
tokenizers' are wrapped, and what is mapped into memory at the end is taken too. Installed packages' code is left out
(versions of tools are in the key by themselves), their data files are not.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, cast

from .sources import is_library

CODE = frozenset({".py", ".pyc", ".pyi", ".so", ".pth", ".typed", ".egg-link"})
SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/lib/", "/lib/", "/usr/share/")
READERS = (
    ("safetensors", "safe_open"),
    ("safetensors.torch", "safe_open"),
    ("safetensors.numpy", "safe_open"),
    ("tokenizers", "Tokenizer.from_file"),
    ("torch", "from_file"),
    ("torch.jit", "load"),
)
"""Module and function; the first argument (or `filename`, `path`) is the file."""


class Audit:
    """Collects files while `watching`. `own` are folders that are left out."""

    def __init__(self, own: tuple[Path, ...] = ()) -> None:
        self._seen: set[str] = set()
        self._active = False
        self._own = tuple(str(p) for p in own)
        self._mapped_before: set[str] = set()

    @contextlib.contextmanager
    def watching(self) -> Generator[None]:
        """Records until the block ends."""
        sys.addaudithook(self._hook)
        self._mapped_before = _mapped()
        undo = self._wrap_readers()
        self._active = True
        try:
            yield
        finally:
            self._active = False
            for restore in undo:
                restore()
            self._seen |= _mapped() - self._mapped_before
            for module in list(sys.modules.values()):
                file = getattr(module, "__file__", None)
                if isinstance(file, str) and not is_library(file):
                    self._seen.add(file)

    def files(self) -> tuple[str, ...]:
        """Absolute paths of the regular files that were read and count, sorted."""
        found = {os.path.realpath(f) for f in self._seen}
        return tuple(sorted(f for f in found if self._counts(f)))

    def _counts(self, file: str) -> bool:
        path = Path(file)
        if file.startswith(SYSTEM) or any(path.is_relative_to(o) for o in self._own) or not path.is_file():
            return False
        if path.is_relative_to(Path(__file__).resolve().parents[2]) and path.suffix in CODE and not is_library(file):
            return _is_users(path)
        if is_library(file):
            return path.suffix not in CODE and ".dist-info" not in file
        return path.suffix not in (".pyc", ".so")

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._active or event != "open" or not arguments:
            return
        file, *rest = arguments
        flags = rest[1] if len(rest) > 1 and isinstance(rest[1], int) else 0
        if isinstance(file, (str, bytes)) and not flags & (os.O_WRONLY | os.O_CREAT):
            self._seen.add(os.path.abspath(os.fsdecode(file)))

    def _wrap_readers(self) -> list[Callable[[], None]]:
        undo: list[Callable[[], None]] = []
        for module_name, path in READERS:
            with contextlib.suppress(ImportError):
                __import__(module_name)
            owner: Any = sys.modules.get(module_name)
            *parents, last = path.split(".")
            for parent in parents:
                owner = getattr(owner, parent, None)
            original = getattr(owner, last, None) if owner is not None else None
            if original is None:
                continue
            if _settable(owner, last):
                setattr(owner, last, self._recording(original))
                undo.append(lambda owner=owner, last=last, original=original: setattr(owner, last, original))
        return undo

    def _recording(self, original: Any) -> Any:
        def note(arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            for value in (*arguments[:1], named.get("filename"), named.get("path")):
                if isinstance(value, (str, bytes, os.PathLike)):
                    self._seen.add(
                        os.path.abspath(os.fsdecode(value if isinstance(value, bytes) else str(cast(Any, value))))
                    )

        def recording(*arguments: Any, **named: Any) -> Any:
            note(arguments, named)
            return original(*arguments, **named)

        return recording


def _settable(owner: Any, name: str) -> bool:
    """Whether an attribute can be replaced: classes of extension modules may refuse."""
    try:
        setattr(owner, name, getattr(owner, name))
    except TypeError:
        return False
    return True


def _is_users(path: Path) -> bool:
    """Whether a file inside this project's tree is a model's own (an example's), not the compiler's."""
    project = Path(__file__).resolve().parents[2]
    return path.relative_to(project).parts[0] not in ("compiler", "dsl", "targets", "runtime", "infc")


def _mapped() -> set[str]:
    """Files mapped into this process."""
    found: set[str] = set()
    for line in Path("/proc/self/maps").read_text().splitlines():
        parts = line.split(maxsplit=5)
        if len(parts) == 6 and parts[5].startswith("/"):
            found.add(parts[5])
    return found
