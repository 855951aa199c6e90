"""Rows of a spec's data as a model's inputs: texts through the tokenizer, arrays by name. Read before the compile."""

from __future__ import annotations

import csv
import math
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ...dsl.spec import DataSet, Model
from ..errors import InfcError
from ..frontends import Imported
from ..frontends.pt2 import Refused
from ..frontends.pt2.archive import find_directory
from ..frontends.pt2.refused import shown
from ..ir.graph import Graph, InputSpec
from ..ir.ops.leaf import Input
from ..ir.types import numpy_dtype
from .data_file import DATA_BYTES, FEWER, MOST_LINES, check_count, lines, open_data
from .text_rows import read_texts, rows_of

Array = NDArray[Any]
HEADER_BYTES = 1 << 16
BLOCK = 8 << 20
MAX_RANK = 8
_NUMBERS = "fiub"
_NAN_ALLOWED = "write `nan allowed` behind the `input` line if the model takes it"
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_LARGEST_IN_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Rows:
    """`requests`: inputs of one row each, [1, ...]; `labels`: one a row, where the data has them."""

    requests: tuple[dict[str, Array], ...]
    labels: Array | None = None


def read_rows(data: DataSet, model: Model, imported: Imported) -> Rows:
    """The first `rows` rows of data. Raises InfcError (exit 2) that names the file, the line or array, and what would fit."""
    if (task := imported.text) is not None:
        texts = read_texts(data, task.texts)
        try:
            found = rows_of(imported, texts, task.overflow == "truncate")
        except InfcError as error:
            raise InfcError(f"{data.written}: {error.message}", hint=error.hint) from None
        return Rows(tuple(_as_requests(found, imported.graph)))
    if data.kind == "npz":
        return read_npz(data, imported.graph)
    if data.kind == "csv":
        return read_csv(data, imported.graph)
    raise InfcError(f"{data.written}: a model of tensors takes its rows from npz or csv data, not {data.kind}")


def check_rows(model: Model, imported: Imported, notice: Callable[[str], None]) -> None:
    """Reads both data sets once, so that what does not fit is known before the compile; `notice` hears of rows that the
    spec asks for and the data has not. Raises InfcError (exit 2)."""
    for data in (model.data.calibrate, model.data.evaluate):
        if data is not None:
            have = len(read_rows(data, model, imported).requests)
            if data.rows is not None and have < data.rows:
                notice(f"{data.written} has {have} rows, and the spec asks for {data.rows}")


def _as_requests(found: list[dict[str, list[int]]], graph: Graph) -> Iterator[dict[str, Array]]:
    names = [op.input for op in _inputs(graph)]
    for number, row in enumerate(found, 1):
        request = {name: np.asarray([row[name]], np.int64) for name in names if name in row}
        for name, array in request.items():
            _check_values(array, graph.input_specs.get(name), name, f"text {number}")
        yield request


# ── arrays ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_npz(data: DataSet, graph: Graph) -> Rows:
    """The rows of npz data for graph's inputs; one that has a default may be left out. Raises InfcError naming file and
    array."""
    inputs = _inputs(graph)
    with open_data(data) as file:
        members = _members(file, data)
        budget = DATA_BYTES
        left_out = [op for op in inputs[1:] if op.input not in members and _default(op, graph) is not None]
        inputs = [op for op in inputs if op not in left_out]
        for op in inputs:
            if op.input not in members:
                raise InfcError(
                    f"{data.written} has no array {op.input!r}; it has {', '.join(map(shown, members))[:200] or 'none'}"
                )
        label = data.label or "label"
        wanted = [op.input for op in inputs] + [n for n in (label,) if n in members]
        table: dict[str, Array] = {}
        counts: dict[str, int] = {}
        for name in wanted:
            table[name], counts[name] = _array(
                file, members[name], f"{data.written}: array {name!r}", data.rows, budget
            )
            budget -= table[name].nbytes
    for name, count in counts.items():
        if count < 0:
            raise InfcError(f"{data.written}: array {name!r} is a single number, and has no rows")
        if count != counts[wanted[0]]:
            raise InfcError(
                f"{data.written}: array {name!r} has {count} rows, and {wanted[0]!r} has {counts[wanted[0]]}",
                hint="a row is the same index in every array",
            )
    count = min(counts[wanted[0]], data.rows) if data.rows is not None else counts[wanted[0]]
    if count == 0:
        raise InfcError(f"{data.written} has no rows")
    checked = {
        op.input: _fitting(table[op.input][:count], op, graph, f"{data.written}: array {op.input!r}") for op in inputs
    }
    for op in left_out:
        checked[op.input] = _defaults(op, graph, checked, count, data)
    labels = None
    if label in table:
        labels = table[label][:count]
        if labels.dtype.kind not in _NUMBERS or (labels.dtype.kind == "f" and not np.isfinite(labels).all()):
            raise InfcError(f"{data.written}: array {label!r} of labels holds what is no finite number")
    return Rows(tuple({n: a[i : i + 1] for n, a in checked.items()} for i in range(count)), labels)


def _default(op: Input, graph: Graph) -> float | int | None:
    return graph.input_specs.get(op.input, InputSpec()).default


def _defaults(op: Input, graph: Graph, given: Mapping[str, Array], count: int, data: DataSet) -> Array:
    """An input that was left out: its default, in the extents that others give its dimensions."""
    sizes = {
        str(dim): extent
        for other in _inputs(graph)
        if other.input in given
        for dim, extent in zip(other.type.shape[1:], given[other.input].shape[1:], strict=True)
    }
    shape, default = [count], _default(op, graph)
    assert default is not None
    for dim in op.type.shape[1:]:
        extent = dim if isinstance(dim, int) else sizes.get(str(dim))
        if extent is None:
            raise InfcError(f"{data.written} has no array {op.input!r}, and no other says how large its {dim} is")
        shape.append(extent)
    return np.full(shape, default, numpy_dtype(op.type.dtype))


def _members(file: IO[bytes], data: DataSet) -> dict[str, zipfile.ZipInfo]:
    try:
        find_directory(file.fileno(), os.fstat(file.fileno()).st_size)
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except (Refused, zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        said = error.message.partition("archive: ")[2] or error.message if isinstance(error, Refused) else str(error)
        raise InfcError(
            f"{data.written} is no npz file: {said}", hint="write it with `numpy.savez(path, name=array)`"
        ) from None
    found: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename.removesuffix(".npy")
        if name in found:
            raise InfcError(f"{data.written} has the array {shown(name)} twice")
        found[name] = info
    return found


def _array(file: IO[bytes], info: zipfile.ZipInfo, where: str, rows: int | None, most: int) -> tuple[Array, int]:
    """The first `rows` rows (None: all) of an archive's array, and how many it has (-1: it is a number). Its header says how
    large it is before anything is unpacked; at most `most` bytes are."""
    try:
        with zipfile.ZipFile(file) as archive, archive.open(info) as member:
            shape, fortran, dtype = _npy_header(member, where)
            if dtype.kind not in _NUMBERS:
                raise InfcError(f"{where} holds {dtype}, and numbers are needed (no pickle is read)")
            if any(type(extent) is not int or extent < 0 for extent in shape) or len(shape) > MAX_RANK:
                raise InfcError(f"{where} has a malformed shape {str(shape)[:80]}")
            whole = math.prod(shape) * dtype.itemsize
            if info.file_size < whole:
                raise InfcError(
                    f"{where} of shape {list(shape)} takes {whole:,} bytes, and the file has {info.file_size:,}"
                )
            count, wanted = shape[0] if shape else -1, shape
            if shape and rows is not None and not fortran:
                wanted = (min(rows, count), *shape[1:])
            size = math.prod(wanted) * dtype.itemsize
            if size > most:
                raise InfcError(
                    f"{where} of shape {list(shape)} takes {size:,} bytes, and at most {DATA_BYTES:,} are read",
                    hint=FEWER,
                )
            raw = np.empty(size, np.uint8)
            at = 0
            while at < size and (block := member.read(min(BLOCK, size - at))):
                raw[at : at + len(block)] = np.frombuffer(block, np.uint8)
                at += len(block)
            if at != size:
                raise InfcError(f"{where} is truncated: {at:,} of {size:,} bytes")
            return raw.view(dtype).reshape(wanted, order="F" if fortran else "C"), count
    except InfcError:
        raise
    except Exception as error:  # noqa: BLE001 - zipfile, zlib and numpy each raise their own on damage
        said = str(error).splitlines()
        raise InfcError(f"{where} is damaged: {said[0][:200] if said else type(error).__name__}") from None


def _npy_header(member: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and dtype of an npy file (NumPy's format 1.0 and 2.0)."""
    version = np.lib.format.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise InfcError(f"{where} is of npy format {version[0]}.{version[1]}, and 1.0 and 2.0 are read")
    length = member.read(2 if version == (1, 0) else 4)
    size = int.from_bytes(length, "little")
    if size > HEADER_BYTES:
        raise InfcError(f"{where} has a header of {size:,} bytes, and at most {HEADER_BYTES:,} are read")
    header = BytesIO(length + member.read(size))
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(header)


def _fitting(array: Array, op: Input, graph: Graph, where: str) -> Array:
    """array as the input's dtype, its extents within bounds and its values within ranges."""
    wanted = op.type
    if array.ndim != len(wanted.shape):
        raise InfcError(f"{where} has shape {list(array.shape)}, and input {op.input!r} is {wanted}")
    for axis, (have, dim) in enumerate(zip(array.shape, wanted.shape, strict=True)):
        low, high = (dim, dim) if isinstance(dim, int) else graph.dims.get(str(dim), (have, have))
        if axis and not low <= have <= high:
            need = str(low) if low == high else f"{low}..{high} ({dim})"
            raise InfcError(
                f"{where} has extent {have} at axis {axis} (counted from 0), and input {op.input!r} takes {need}"
            )
    kind = {"float32": "fiu", "bool": "b"}.get(wanted.dtype, "iu")
    if array.dtype.kind not in kind:
        raise InfcError(f"{where} holds {array.dtype}, and input {op.input!r} is {wanted.dtype}")
    _check_values(array, graph.input_specs.get(op.input), op.input, where, wanted.dtype)
    return np.ascontiguousarray(array.astype(numpy_dtype(wanted.dtype), copy=False))


def _check_values(array: Array, spec: InputSpec | None, name: str, where: str, dtype: str = "int64") -> None:
    """Raises InfcError naming the first element that the input does not take. Looks at a block of rows at a time."""
    rows = max(1, BLOCK // max(1, array[:1].nbytes)) if array.ndim else 1
    for first in range(0, len(array), rows):
        _check_block(array[first : first + rows], spec or InputSpec(), name, where, dtype, first)


def _check_block(array: Array, spec: InputSpec, name: str, where: str, dtype: str, first: int) -> None:
    if array.dtype.kind == "f":
        bad = ~np.isfinite(array) | (np.abs(array) > _LARGEST_IN_FLOAT32)
        if not spec.nan and bad.any():
            _refuse(array, bad, where, f"and input {name!r} takes finite numbers of float32", _NAN_ALLOWED, first)
    elif dtype in ("int32", "int64"):
        limits = np.iinfo(dtype)
        bad = (array > limits.max) | (array < limits.min)
        if bad.any():
            _refuse(array, bad, where, f"and input {name!r} is {dtype}", "", first)
    low, high = spec.minimum, spec.maximum
    if low is None and high is None:
        return
    with np.errstate(invalid="ignore"):
        bad = np.zeros(array.shape, bool)
        bad |= array < low if low is not None else False
        bad |= array > high if high is not None else False
    if bad.any():
        span = f"{'' if low is None else f'{low:g}'}..{'' if high is None else f'{high:g}'}"
        _refuse(array, bad, where, f"and input {name!r} takes {span}", "", first)


def _refuse(array: Array, bad: Array, where: str, why: str, hint: str, first: int = 0) -> None:
    place = tuple(int(i) for i in np.argwhere(bad)[0])
    shown_place = [place[0] + first, *place[1:]]
    raise InfcError(f"{where} holds {array[place]} at {shown_place}, {why}", hint=hint)


def _inputs(graph: Graph) -> list[Input]:
    return [n.op for n in graph.inputs if isinstance(n.op, Input)]


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_csv(data: DataSet, graph: Graph) -> Rows:
    """The rows of csv data for a graph of one input [batch, columns]. Raises InfcError naming file and line."""
    inputs = _inputs(graph)
    if len(inputs) != 1 or inputs[0].type.rank != 2:
        raise InfcError(f"{data.written}: csv rows fit a model with one input of shape [batch, columns]")
    feed = _Feed(data)
    lines = csv.reader(feed, strict=True)
    header: list[str] = []
    values: list[Array] = []
    labels: list[float] = []
    places: Mapping[str, int] = {}
    columns: list[str] = []
    try:
        for row in lines:
            where = f"{data.written}:{lines.line_num}"
            if not row:
                continue
            feed.unread = 0
            if not header:
                header = row
                places, columns = _columns(header, data, inputs[0])
                continue
            if data.rows is not None and len(values) >= data.rows:
                break
            check_count(len(values), data)
            if len(row) != len(header):
                raise InfcError(f"{where} has {len(row)} values, and the header has {len(header)} columns")
            numbers = np.asarray([[_number(row[places[c]], where, c) for c in columns]])
            values.append(_fitting(_as_kind(numbers, inputs[0], where), inputs[0], graph, where))
            labels += [_number(row[places[data.label]], where, data.label)] if data.label else []
    except csv.Error as error:
        raise InfcError(f"{data.written}:{max(lines.line_num, 1)} is no csv: {error}") from None
    if not values:
        raise InfcError(f"{data.written} has no rows")
    if labels and not np.isfinite(labels).all():
        raise InfcError(f"{data.written}: the column {data.label!r} of labels holds what is no finite number")
    return Rows(tuple({inputs[0].input: v} for v in values), np.asarray(labels) if labels else None)


class _Feed:
    """The lines of a csv file as text. `unread`: lines since the last row, which may be over many lines, was complete."""

    def __init__(self, data: DataSet) -> None:
        self.data = data
        self.unread = 0

    def __iter__(self) -> Iterator[str]:
        for number, raw in lines(self.data):
            where = f"{self.data.written}:{number}"
            self.unread += 1
            if self.unread > MOST_LINES:
                raise InfcError(f"{where}: the last {MOST_LINES:,} lines hold no whole row")
            if b"\0" in raw:
                raise InfcError(f"{where} has a NUL byte: it is no csv")
            try:
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InfcError(f"{where} is not UTF-8 at byte {error.start}") from None


def _columns(header: Sequence[str], data: DataSet, op: Input) -> tuple[Mapping[str, int], list[str]]:
    """Where each column stands, and the input's columns in order."""
    places: dict[str, int] = {}
    for number, name in enumerate(header):
        if name in places:
            raise InfcError(f"{data.written} has the column {name[:80]!r} twice")
        places[name] = number
    columns = list(data.columns) or [c for c in header if c != data.label]
    absent = [c for c in (*columns, *([data.label] if data.label else [])) if c not in places]
    if absent:
        raise InfcError(f"{data.written} has no column {absent[0]!r}; it has {', '.join(header)[:200]}")
    if isinstance(op.type.shape[1], int) and len(columns) != op.type.shape[1]:
        raise InfcError(f"{data.written} gives {len(columns)} columns, and input {op.input!r} takes {op.type.shape[1]}")
    return places, columns


def _number(text: str, where: str, column: str) -> float:
    if _NUMBER.fullmatch(text.strip(" \t")) is None:
        raise InfcError(f"{where} has {text[:40]!r} under {column[:40]!r}, which is no number")
    return float(text)


def _as_kind(numbers: Array, op: Input, where: str) -> Array:
    """Numbers of text as the input's kind: whole ones for ids, 0 and 1 for bool."""
    if op.type.dtype == "float32":
        return numbers
    whole = np.isfinite(numbers) & (numbers == np.round(numbers)) & (np.abs(numbers) < 2**53)
    if op.type.dtype == "bool":
        whole = (numbers == 0) | (numbers == 1)
    if not whole.all():
        _refuse(numbers, ~whole, where, f"and input {op.input!r} is {op.type.dtype}", "")
    return numbers.astype(bool if op.type.dtype == "bool" else np.int64)
