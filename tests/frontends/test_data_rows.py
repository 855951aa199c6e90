"""Data that does not fit the model is the user's fault: named by file and line or array, whatever the file holds."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infc.compiler.errors import Exit, InfcError
from infc.compiler.frontends import Imported
from infc.compiler.ir.graph import InputSpec
from infc.compiler.measure.rows import check_rows, read_csv, read_npz
from infc.compiler.measure.text_rows import read_texts
from infc.dsl import check_text
from infc.dsl.spec import Data, DataSet

from .row_files import FINE, X, data, graph_of

IDS = graph_of(
    input_ids=("int64", ("batch", "tokens"), InputSpec(None, 0, 99)),
    mask=("int64", ("batch", "tokens"), InputSpec(1, 0, 1)),
)


def npz(path: Path, **arrays: Any) -> DataSet:
    np.savez(path, **arrays)
    return data(path, "npz")


def refused(read: Callable[[], object]) -> str:
    with pytest.raises(InfcError) as caught:
        read()
    assert caught.value.exit_code == Exit.USAGE
    return caught.value.message


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"y": FINE}, "no array 'x'; it has 'y'"),
        ({"\x1b[31m\n": FINE}, r"it has '\x1b[31m\n'"),
        ({"x": np.array([[1, "a", {}]], object)}, "no pickle is read"),
        ({"x": np.array([["a", "b", "c"]])}, "numbers are needed"),
        ({"x": np.array([[1j, 2, 3]])}, "numbers are needed"),
        ({"x": np.ones((2, 4), np.float32)}, "extent 4 at axis 1"),
        ({"x": np.ones(3, np.float32)}, "shape [3]"),
        ({"x": np.float32(1)}, "single number"),
        ({"x": np.ones((0, 3), np.float32)}, "no rows"),
        ({"x": np.array([[1, np.nan, 3]])}, "holds nan at [0, 1]"),
        ({"x": np.array([[1, 2, np.inf]])}, "holds inf at [0, 2]"),
        ({"x": np.array([[1e300, 2, 3]])}, "finite numbers of float32"),
        ({"x": np.array([[True, False, True]])}, "holds bool"),
        ({"x": FINE, "label": np.ones(3)}, "'label' has 3 rows"),
        ({"x": FINE, "label": np.array([1, np.nan])}, "no finite number"),
        ({"x": FINE, "label": np.array(["a", "b"])}, "numbers are needed"),
    ],
)
def test_an_npz_that_does_not_fit_is_refused_by_array(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    source = npz(tmp_path / "d.npz", **arrays)
    message = refused(lambda: read_npz(source, X))
    assert message.startswith("d.npz")
    assert said in message


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"input_ids": np.full((2, 4), 100), "mask": np.ones((2, 4), int)}, "holds 100 at [0, 0]"),
        ({"input_ids": np.full((2, 4), -1), "mask": np.ones((2, 4), int)}, "holds -1"),
        ({"input_ids": np.ones((2, 4)), "mask": np.ones((2, 4), int)}, "holds float64"),
        ({"input_ids": np.ones((2, 17), int), "mask": np.ones((2, 17), int)}, "takes 1..16 (tokens)"),
        ({"input_ids": np.ones((2, 4), int), "mask": np.ones((3, 4), int)}, "'mask' has 3 rows"),
        ({"input_ids": np.ones((2, 4), int), "mask": np.full((2, 4), 2)}, "takes 0..1"),
        ({"input_ids": np.full((2, 4), 2**64 - 1, np.uint64), "mask": np.ones((2, 4), int)}, "is int64"),
    ],
)
def test_ids_are_within_the_models_ranges(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    source = npz(tmp_path / "d.npz", **arrays)
    assert said in refused(lambda: read_npz(source, IDS))


def test_of_an_array_only_the_rows_that_are_asked_for_are_read(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (600000000, 3), }\n"
    with (
        zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w") as member,
    ):
        member.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        member.write(np.arange(12, dtype="<f4").tobytes())
    assert "the file has" in refused(lambda: read_npz(data(tmp_path / "d.npz", "npz", rows=3), X))
    np.savez(tmp_path / "e.npz", x=np.arange(30, dtype=np.float32).reshape(10, 3), label=np.arange(10))
    rows = read_npz(data(tmp_path / "e.npz", "npz", rows=3), X)
    assert [r["x"].tolist() for r in rows.requests] == [[[0, 1, 2]], [[3, 4, 5]], [[6, 7, 8]]]
    assert rows.labels is not None
    assert rows.labels.tolist() == [0, 1, 2]


def test_an_input_with_a_default_may_be_left_out(tmp_path: Path) -> None:
    rows = read_npz(npz(tmp_path / "d.npz", input_ids=np.ones((2, 4), int)), IDS)
    assert [r["mask"].tolist() for r in rows.requests] == [[[1, 1, 1, 1]]] * 2
    assert "no array 'input_ids'" in refused(lambda: read_npz(npz(tmp_path / "e.npz", mask=np.ones((2, 4), int)), IDS))


def test_fewer_rows_than_the_spec_asks_for_are_said(tmp_path: Path) -> None:
    spec = check_text('infer 1\nmodel m {\n  source torch("m.py:f")\n  input x: float32[batch, 3]\n}\n').spec
    assert spec is not None
    said: list[str] = []
    for rows, expected in ((2, []), (5, ["d.npz has 2 rows, and the spec asks for 5"])):
        source = replace(npz(tmp_path / "d.npz", x=FINE), rows=rows)
        model = replace(spec.models[0], data=Data(evaluate=source))
        check_rows(model, Imported(X, "", dict, ()), said.append)
        assert said == expected


def test_nan_is_taken_where_the_input_says_so_and_rows_come_one_by_one(tmp_path: Path) -> None:
    graph = graph_of(x=("float32", ("batch", 3), InputSpec(nan=True)))
    source = npz(tmp_path / "d.npz", x=np.asfortranarray([[np.nan, 2, 3], [4, 5, 6.0]]), label=np.array([0, 1]))
    rows = read_npz(source, graph)
    assert [r["x"].tolist()[0][1:] for r in rows.requests] == [[2, 3], [5, 6]]
    assert rows.labels is not None
    assert rows.labels.tolist() == [0, 1]


def test_what_is_no_npz_or_a_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    good = BytesIO()
    np.savez_compressed(good, x=np.zeros((1000, 3), np.float32))
    for content in (b"", b"hello", good.getvalue()[:200], good.getvalue()[:-30]):
        path.write_bytes(content)
        assert "d.npz" in refused(lambda: read_npz(data(path, "npz"), X))
    for shape in (
        "(1000000000000, 3)", "(-1, 3)", "(1.5, 3)", "(3,", "__import__('os')", f"({'1, ' * 70})", f"(0, {2**62}, 1024)",
    ):  # fmt: skip
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        assert "array 'x'" in refused(lambda: read_npz(data(path, "npz"), X))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x02\x00" + (200 << 20).to_bytes(4, "little") + b" " * (1 << 20))
    assert "a header of 209,715,200 bytes" in refused(lambda: read_npz(data(path, "npz"), X))
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(100_001):
            archive.writestr(str(number), b"")
    assert "100001 entries" in refused(lambda: read_npz(data(path, "npz"), X))
    path.unlink()
    os.mkfifo(path)
    assert "named pipe" in refused(lambda: read_npz(data(path, "npz"), X))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no rows"),
        (b"\n\n", "no rows"),
        (b'{"text": "a"}\n{"text": 1}\n', "d.jsonl:2 has no text under 'text': 'text' is 1"),
        (b'{"body": "a"}\n', "it has body"),
        (b'["a"]\n', "d.jsonl:1 is no JSON object"),
        (b"a text\n", "d.jsonl:1 cannot be read as JSON"),
        (b'{"text": "\\ud800"}\n', "surrogate"),
        (b'{"text": "\xff"}\n', "not UTF-8"),
        (b'\xef\xbb\xbf{"text": "a"}\n', "byte order mark"),
        (b'{"text": "a", "x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}\n", "nested deeper"),
        (b'{"text": "a", "text": "b"}\n', "stands twice"),
        (b'{"text": "' + b"a" * (17 << 20) + b'"}\n', "longer than 16 MiB"),
        (b"\n" * 100_001, "more than 100,000 lines are empty"),
    ],
    ids=range(13),
)
def test_a_jsonl_line_that_is_no_text_is_refused_by_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(content)
    assert said in refused(lambda: read_texts(data(path, "jsonl", field="text"), ("body",)))


def test_texts_of_a_pair_stand_under_the_names_of_the_inputs(tmp_path: Path) -> None:
    path, names = tmp_path / "d.jsonl", ("query", "document")
    path.write_text('{"query": "a", "document": "", "id": 7}\n\n{"document": "c", "query": "b"}\n')
    assert read_texts(data(path, "jsonl"), names) == [("a", ""), ("b", "c")]
    assert read_texts(data(path, "jsonl"), ("document",)) == [("",), ("c",)]
    assert "`field` names one text, and the model takes query and document" in refused(
        lambda: read_texts(data(path, "jsonl", field="query"), names)
    )
    path.write_text('{"query": "a", "document": "b"}\n{"query": "a"}\n')
    assert "d.jsonl:2 has no text under 'document': it has query" in refused(
        lambda: read_texts(data(path, "jsonl"), names)
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no rows"),
        (b"a,b,c\n", "no rows"),
        (b"a,b,c\n1,2,x\n", "d.csv:2 has 'x' under 'c'"),
        (b"a,b,c\n1,2,nan\n", "holds nan"),
        (b"a,b,c\n1,2,-inf\n", "holds -inf"),
        (b"a,b,c\n1,2,1e39\n", "finite numbers of float32"),
        (b"a,b,c\n1,2\n", "has 2 values"),
        (b"a,b,c\n1,2,3,4\n", "has 4 values"),
        (b"a,b,b\n1,2,3\n", "'b' twice"),
        (b"a,b\n1,2\n", "2 columns"),
        (b"a,b,c\n1,2,\0\n", "NUL"),
        (b"a,b,c\n1,2,\xff\n", "d.csv:2 is not UTF-8"),
        (b"a,b,c\n1,2," + b"3" * 200_000 + b"\n", "d.csv:2 is no csv"),
        (b'a,b,c\n1,2,"3\n', "no csv"),
        (b"a,b,c\n1,2,1_5\n", "d.csv:2 has '1_5' under 'c'"),
        (b"a,b,c\n1,2,\xef\xbc\x91\n", "which is no number"),
        (b"a,b,c\n1,2" + b',"\n"' * 100_001, "the last 100,000 lines hold no whole row"),
        (b"a,b,c\n" + b"\n" * 100_001, "the last 100,000 lines hold no whole row"),
    ],
    ids=range(18),
)
def test_a_csv_that_does_not_fit_is_refused_by_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes(content)
    assert said in refused(lambda: read_csv(data(path, "csv"), X))


def test_a_label_that_is_no_number_is_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("a,b,c,y\n1,2,3,0\n1,2,3,cat\n")
    assert "d.csv:3 has 'cat' under 'y'" in refused(lambda: read_csv(data(path, "csv", label="y"), X))
