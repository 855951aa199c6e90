"""Settings that others wrote are read strictly: one bounded JSON reader for all of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infc.compiler.frontends.errors import FrontendError
from infc.compiler.frontends.files import parse_json, read_json_file


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "cannot be read"),
        (b'{"a": 1', "cannot be read"),
        (b'{"a": 1, "a": 2}', "'a' stands twice"),
        (b'{"b": {"a": 1, "a": 1}}', "'a' stands twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'{"a": "\xff"}', "not UTF-8 at byte 7"),
        (b"[" * 65 + b"]" * 65, "deeper than 64"),
        (b"[" * 1_000_000, "nested deeper|cannot be read"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested deeper"),
        (b'{"a": ' + b"9" * 5000 + b"}", "cannot be read"),
        (b'\xef\xbb\xbf{"a": 1}', "BOM"),
    ],
    ids=lambda v: repr(v[:20]) if isinstance(v, bytes) else None,
)
def test_json_that_two_readers_could_understand_differently_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(FrontendError, match=f"^m/config.json .*({said})"):
        parse_json(data, "m/config.json")


def test_json_of_the_allowed_depth_is_read() -> None:
    assert parse_json(b'{"a": [1, 2.5, null, true, "\xc3\xa9\\ud83d\\ude00"]}', "x") == {
        "a": [1, 2.5, None, True, "é😀"]
    }
    assert parse_json(b"[" * 64 + b"]" * 64, "x") is not None


def test_a_settings_file_is_regular_and_of_bounded_size(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{}")
    assert read_json_file(path, dict) == {}
    with pytest.raises(FrontendError, match="should hold a JSON list"):
        read_json_file(path, list)
    os.truncate(path, 1 << 40)  # sparse
    with pytest.raises(FrontendError, match="at most"):
        read_json_file(path, dict)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(FrontendError, match="named pipe"):
        read_json_file(path, dict)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(FrontendError, match="device"):
        read_json_file(path, dict)
