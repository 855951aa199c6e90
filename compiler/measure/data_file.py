"""The file of a data set: a regular one, read line by line, and bounded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ...dsl.spec import DataSet
from ..errors import InfcError
from ..frontends.files import open_regular

LINE_BYTES = 16 << 20
"""The longest line of jsonl or csv data."""
DATA_BYTES = 1 << 30
"""Most bytes of rows that are read; a small zip can say that it holds far more."""
MOST_ROWS = 4_000_000
MOST_LINES = 100_000
"""Most lines in which there is no row."""
FEWER = "write `rows N` behind it to read the first rows alone"


def check_count(have: int, data: DataSet) -> None:
    """Raises InfcError where a row more than `have` would be too many."""
    if have >= MOST_ROWS:
        raise InfcError(f"{data.written} has more than {MOST_ROWS:,} rows", hint=FEWER)


def lines(data: DataSet) -> Iterator[tuple[int, bytes]]:
    """The lines of a regular file with their numbers, each of bounded length."""
    with open_data(data) as file:
        number = 0
        while line := file.readline(LINE_BYTES + 1):
            number += 1
            if len(line) > LINE_BYTES:
                raise InfcError(f"{data.written}:{number} is longer than {LINE_BYTES >> 20} MiB")
            yield number, line


def open_data(data: DataSet) -> IO[bytes]:
    """The file of data. Raises InfcError where it is no regular file."""
    return os.fdopen(open_regular(Path(data.path)), "rb")
