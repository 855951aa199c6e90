"""Holds `ARCH/serve` for x86_64 and aarch64; `infc build` finds them through `folder()`."""

from pathlib import Path

__version__ = "0.1.0"


def folder() -> Path:
    """The folder with one subfolder an architecture, each with the executable `serve`."""
    return Path(__file__).resolve().parent
