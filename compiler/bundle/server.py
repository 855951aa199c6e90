"""Finds the server binary that goes into a bundle."""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path

from ..env import load_settings
from ..errors import Exit, InfcError

ARCHES = ("x86_64", "aarch64")
"""As `uname -m` names them."""


def find(arch: str) -> Path:
    """The executable `serve` for `arch` ("x86_64" or "aarch64").

    Looked for in a checkout's `build/serve` and in the installed package `infc_serve`, each of which holds
    `ARCH/serve`; or, where the setting serve_dir (INFC__SERVE_DIR) names a folder, there alone. Raises InfcError
    (exit 6) where there is none, and ValueError for an architecture that no server is built for.
    """
    if arch not in ARCHES:
        raise ValueError(f"no server is built for {arch!r}; there is one for {' and '.join(ARCHES)}")
    given = load_settings().serve_dir
    folders = [given] if given is not None else [p for p in (_checkout(), _package()) if p is not None]
    for folder in folders:
        binary = folder / arch / "serve"
        if binary.is_file():
            if not os.access(binary, os.X_OK):
                raise InfcError(
                    f"{binary} is not executable", exit_code=Exit.MISSING, hint=f"chmod +x {binary}, or build it again"
                )
            return binary.resolve()
    looked = ", ".join(str(f / arch / "serve") for f in folders) or "no folder"
    raise InfcError(
        f"the server for {arch} is missing (looked for {looked})",
        exit_code=Exit.MISSING,
        hint=_hint(arch, given),
    )


def tokenizers_version(server: Path) -> str:
    """The version of tokenizers that a server is built with, whatever machine it is for; "unknown" where it does not say."""
    said = re.search(rb"\(tokenizers ([0-9.]{1,20})\)", server.read_bytes())
    return said[1].decode() if said else "unknown"


def _hint(arch: str, given: Path | None) -> str:
    if given is not None:
        return f"the setting serve_dir (INFC__SERVE_DIR) must name a folder that holds {arch}/serve; it is {given}"
    if _root() is not None:
        return f"in this checkout: make build/serve/{arch}/serve"
    return (
        "pip install infc-serve (the wheel of infc's own version), or set INFC__SERVE_DIR to a folder with ARCH/serve"
    )


def _root() -> Path | None:
    """The checkout that this file belongs to; None where infc is installed from a wheel."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "runtime" / "server" / "Cargo.toml").is_file() else None


def _checkout() -> Path | None:
    root = _root()
    return None if root is None else root / "build" / "serve"


def _package() -> Path | None:
    try:
        package = import_module("infc_serve")
    except ModuleNotFoundError:
        return None
    return Path(package.folder())
