"""Tables of measured choices: text that people can read and edit, one line a shape, under the machine it was measured on.

    ["x86-64-v4-bf16 L2=1024K L3=32768K"]
    "float32 1024x4096" = "rows 14, tiles 8, ahead"
    "int8 1152x384" = "formulas"

`formulas`: measured, and nothing was found faster than what is taken for an unknown shape (`kernels.linear.usual_choice`).
Deleting a line has the next build with `--tune` measure again. The files are TOML; only these two kinds of lines, empty
ones and comments stand in them.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ....compiler.cache import cache_unusable
from ....compiler.errors import Exit, InfcError
from ..isa import ISAS, Isa
from ..limits import cache_sizes
from .choice import Choice, Shape, parse_choice, parse_shape

SHIPPED = Path(__file__).resolve().parent.parent / "tuned.toml"
FORMULAS = "formulas"
LINES = '["ISA L2=...K L3=...K"] and "int8 1152x384" = "rows 14, tiles 7, ahead" (or "formulas")'
HEADER = """# Tiles of linear layers that were measured; see targets/cpu/tuning. A line here goes before one of the table that ships
# with infc; delete it and the next `infc build --tune` measures again. No line changes a result's bits.
"""

Lines = Mapping[Shape, Choice | None]
"""None: the formulas."""
Table = Mapping[str, Lines]
"""By section."""


def section_of(isa: Isa, caches: Mapping[int, int] | None = None) -> str:
    """The section of code for isa on a machine with these caches, bytes by level (default: this machine)."""
    sizes = cache_sizes() if caches is None else caches
    return " ".join([isa.name, *(f"L{level}={size >> 10}K" for level, size in sorted(sizes.items()) if level > 1)])


def read_table(path: Path) -> Table:
    """The table at path; an absent file is an empty one. Raises InfcError (exit 2) that names the file, the line and what
    would be right; exit 6 where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        text = f"the build cache's {path} cannot be read: {error.strerror or error}"
        raise InfcError(text, exit_code=Exit.MISSING, hint="delete it: it is measured again") from None
    except UnicodeDecodeError as error:
        raise InfcError(f"{path} cannot be read: {error}", hint="delete it: it is measured again") from None
    return parse_table(text, str(path))


def parse_table(text: str, name: str) -> Table:
    """The table that text spells; `name` is the file's, for errors. Raises InfcError (exit 2) as `read_table` does."""
    table: dict[str, dict[Shape, Choice | None]] = {}
    lines: dict[Shape, Choice | None] | None = None
    most_rows: int | None = None
    for number, line in enumerate(text.splitlines(), 1):
        try:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            if head := re.fullmatch(r'\s*\["([\w-]+)((?: L\d=\d+K)*)"\]\s*(?:#.*)?', line):
                most_rows = ISAS[head[1]].max_rows if head[1] in ISAS else None
                lines = table.setdefault(head[1] + head[2], {})
                continue
            row = re.fullmatch(r'\s*"([^"]*)"\s*=\s*"([^"]*)"\s*(?:#.*)?', line)
            if row is None:
                raise ValueError(f"{line.strip()!r} is no line of a table: it holds {LINES}")
            if lines is None:
                raise ValueError(f'it stands under no section: write ["{section_of(next(iter(ISAS.values())))}"] first')
            shape = parse_shape(row[1])
            if shape in lines:
                raise ValueError(f"{row[1]!r} stands twice in its section: keep one")
            lines[shape] = None if row[2] == FORMULAS else parse_choice(row[2], most_rows)
        except ValueError as error:
            raise InfcError(f"{name}, line {number}: {error}", hint="correct or delete the line") from None
    return table


def table_text(table: Table, header: str = HEADER) -> str:
    """The table as text, sorted, so that equal tables are equal bytes."""
    parts = [header]
    for section in sorted(table):
        parts.append(f'\n["{section}"]\n')
        parts += [f'"{shape}" = "{choice or FORMULAS}"\n' for shape, choice in sorted(table[section].items(), key=_key)]
    return "".join(parts)


def extend_table(path: Path, section: str, measured: Lines, header: str = HEADER, *, replace: bool = False) -> None:
    """Adds lines to the table at path. It is read again and renamed into place, so that readers see all of it; what another
    build has added stays (of two that write in the same instant one may lose lines: they are measured again). A line
    that is there stays, unless `replace`. Raises InfcError: exit 2 where the file is malformed, 6 where it cannot be written.
    """
    table = dict(read_table(path))
    there = table.get(section, {})
    table[section] = {**there, **measured} if replace else {**measured, **there}
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tuning-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(table_text(table, header))
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True) if temporary else None
        raise cache_unusable(path.parent, error) from error


def _key(row: tuple[Shape, Choice | None]) -> Shape:
    return row[0]
