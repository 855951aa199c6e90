"""Where in the user's code something was said: module paths and `file:line`, short and without this machine's paths."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_LIBRARIES = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), sysconfig.get_path("stdlib")})
_HERE = str(Path(__file__).resolve().parent)


def module_path(stack: Mapping[str, tuple[str, Any]] | None) -> str:
    """`encoder.layer.0.attention`, from torch.export's nn_module_stack; "" for the model itself."""
    if not stack:
        return ""
    path = str(list(stack.values())[-1][0])
    for prefix in ("L['self'].", "module.", "L['self']", "module"):
        if path.startswith(prefix):
            path = path.removeprefix(prefix)
            break
    return "" if path.startswith("_") else path


def model_source(trace: str | None, root: str = "") -> str:
    """`file.py:12` of the innermost frame of trace that is the model's own code (torch's and ours are passed over)."""
    frames = [(file, line) for file, line in _FRAME.findall(trace or "") if not _is_plumbing(file)]
    return f"{shorten(frames[-1][0], root)}:{frames[-1][1]}" if frames else ""


def shorten(file: str, root: str = "") -> str:
    """file relative to root, or to the installed packages; else its name."""
    path = Path(file)
    for folder in (root, *_LIBRARIES):
        if folder and path.is_relative_to(folder):
            return str(path.relative_to(folder))
    return path.name


def is_library(file: str) -> bool:
    """Whether file belongs to Python or an installed package."""
    return any(folder and Path(file).is_relative_to(folder) for folder in _LIBRARIES) or file.startswith("<")


def _is_plumbing(file: str) -> bool:
    resolved = Path(file)
    inside_torch = any(resolved.is_relative_to(Path(folder) / "torch") for folder in _LIBRARIES if folder)
    return file.startswith(("torch/", "<")) or inside_torch or str(resolved.resolve()).startswith(_HERE)
