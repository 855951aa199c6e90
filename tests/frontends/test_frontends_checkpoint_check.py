"""A safetensors file is checked whole before torch or the safetensors library opens it; so is the index of several."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from infc.compiler.frontends.checkpoint import find_checkpoint
from infc.compiler.frontends.errors import FrontendError
from infc.compiler.frontends.safetensors_header import HEADER_BYTES, read_header

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def write(path: Path, header: object, data: bytes = b"\0" * 16) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_what_the_reference_implementation_writes_is_read(tmp_path: Path) -> None:
    tensors = {
        "a": np.zeros((2, 3), np.float32), "none": np.zeros((0, 4), np.float32), "s": np.asarray(1, np.float32),
        "i": np.arange(5), "h": np.ones(3, np.float16),
    }  # fmt: skip
    save_file(tensors, tmp_path / "m.safetensors", metadata={"format": "pt"})
    found = read_header(tmp_path / "m.safetensors")
    assert {name: t.shape for name, t in found.items()} == {name: t.shape for name, t in tensors.items()}
    data = (tmp_path / "m.safetensors").read_bytes()
    i = found["i"]
    assert data[i.offset : i.offset + i.size] == tensors["i"].tobytes()


BAD: list[tuple[str, Any, str]] = [
    ("overlap", {"a": F32, "b": {**F32, "data_offsets": [4, 12]}, "c": {**F32, "shape": [1], "data_offsets": [12, 16]}}, "overlaps 'a'"),
    ("equal-place", {"a": F32, "b": F32, "c": {**F32, "data_offsets": [8, 16]}}, "overlaps"),
    ("hole", {"a": {**F32, "shape": [1], "data_offsets": [0, 4]}, "b": {**F32, "data_offsets": [8, 16]}}, "hole"),
    ("hole-at-start", {"a": {**F32, "data_offsets": [8, 16]}}, "hole"),
    ("trailing", {"a": F32}, "8 bytes behind its last tensor"),
    ("beyond", {"a": F32, "b": {**F32, "shape": [4], "data_offsets": [8, 24]}}, "truncated"),
    ("reversed", {"a": {**F32, "data_offsets": [8, 0]}}, "begin <= end"),
    ("negative-offset", {"a": {**F32, "data_offsets": [-8, 0]}}, "begin <= end"),
    ("negative-shape", {"a": {**F32, "shape": [-1, -2]}}, "extents of 0 or more"),
    ("overflow", {"a": {**F32, "shape": [1 << 32, 1 << 32]}}, "no file can hold"),
    ("overflow-to-small", {"a": {**F32, "shape": [1 << 62, 4, 1]}}, "no file can hold"),
    ("huge-extent", {"a": {**F32, "shape": [10**40, 0]}}, "extents of 0 or more"),
    ("float-extent", {"a": {**F32, "shape": [2.0]}}, "extents of 0 or more"),
    ("bool-extent", {"a": {**F32, "shape": [True, 2]}}, "extents of 0 or more"),
    ("text-extent", {"a": {**F32, "shape": "2"}}, "extents of 0 or more"),
    ("deep-rank", {"a": {**F32, "shape": [1] * 40 + [2]}}, "at most 32 extents"),
    ("dtype-lie", {"a": {**F32, "dtype": "F64"}}, "takes 8 bytes, and F64 of shape [2] takes 16"),
    ("dtype-unknown", {"a": {**F32, "dtype": "F31"}}, "unknown dtype F31"),
    ("dtype-list", {"a": {**F32, "dtype": ["F32"]}}, "unknown dtype"),
    ("key-missing", {"a": {"dtype": "F32", "shape": [2]}}, "malformed"),
    ("key-more", {"a": {**F32, "code": "x"}}, "malformed"),
    ("row-list", {"a": [1]}, "malformed"),
    ("metadata-number", {"__metadata__": {"format": 1}, "a": F32}, "strings to strings"),
    ("metadata-list", {"__metadata__": ["x"], "a": F32}, "strings to strings"),
    ("twice", b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}', "stands twice"),
    ("deep", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested deeper"),
    ("list", b"[1]", "does not begin with {"),
    ("surrogate", b'{"\\ud800":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}', "surrogate"),
    ("not-utf-8", b'{"\xff":1}', "not UTF-8"),
    ("nan", b'{"a":NaN}', "NaN is no JSON number"),
    ("digits", b'{"a":{"dtype":"F32","shape":[' + b"9" * 6000 + b'],"data_offsets":[0,8]}}', "JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("header", "said"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_header_that_lies_is_refused_by_name(tmp_path: Path, header: object, said: str) -> None:
    with pytest.raises(FrontendError, match="m.safetensors") as caught:
        read_header(write(tmp_path / "m.safetensors", header))
    assert said in caught.value.message


def test_a_header_longer_than_the_reference_allows_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with path.open("wb") as file:
        file.write((HEADER_BYTES + 1).to_bytes(8, "little"))
        file.truncate(HEADER_BYTES * 2)  # sparse
    with pytest.raises(FrontendError, match="at most 100,000,000"):
        read_header(path)


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "missing"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.safetensors"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    with pytest.raises(FrontendError, match="m.safetensors"):
        read_header(path)


def sharded(folder: Path, weight_map: object) -> Path:
    write(folder / "one.safetensors", {"a": F32}, b"\0" * 8)
    write(folder / "two.safetensors", {"b": F32}, b"\0" * 8)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def test_shards_are_read_where_the_index_says(tmp_path: Path) -> None:
    found = find_checkpoint(sharded(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"}))
    assert {n: t.file.name for n, t in found.tensors.items()} == {"a": "one.safetensors", "b": "two.safetensors"}


@pytest.mark.parametrize(
    ("weight_map", "said"),
    [
        ({"a": "../one.safetensors"}, "not in"),
        ({"a": "/etc/passwd"}, "not in"),
        ({"a": ".."}, "not in"),
        ({"a": ""}, "not in"),
        ({"a": "x\\y"}, "not in"),
        ({"a": "one.safetensors\0"}, "not in"),
        ({"a": "three.safetensors"}, "not in"),
        ({"a": "y" * 300}, "not in"),
        ({"a": 1}, "names no file"),
        ({}, "weight_map"),
        (["a"], "weight_map"),
        ({"a": "two.safetensors", "b": "two.safetensors"}, "one.safetensors|'a'"),
        ({"a": "one.safetensors", "b": "one.safetensors"}, "'b'"),
        ({"b": "two.safetensors", "c": "one.safetensors"}, "does not list it"),
        ({"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}, "'c' is in two"),
    ],
)
def test_an_index_that_lies_is_refused(tmp_path: Path, weight_map: object, said: str) -> None:
    with pytest.raises(FrontendError, match=said):
        find_checkpoint(sharded(tmp_path, weight_map))
