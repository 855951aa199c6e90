"""The build cache: whole entries or none, safe in parallel, bounded, and never wrong when damaged."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infc.compiler.cache import Cache, Spare, cache_key
from infc.compiler.errors import Exit, InfcError

KEY = cache_key("test", 1)


def write(**files: str):
    def fill(folder: Path) -> None:
        for name, text in files.items():
            (folder / name).write_text(text)

    return fill


def test_what_was_put_is_got(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    assert cache.get(KEY) is None
    entry = cache.put(KEY, write(a="1", b="2"))
    assert cache.get(KEY) == entry
    assert (entry / "a").read_text() == "1"
    assert Cache(tmp_path / "c").get(KEY) == entry


def test_bytes_round_trip(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.get_bytes(KEY) is None
    cache.put_bytes(KEY, b"\0data")
    assert cache.get_bytes(KEY) == b"\0data"


def test_a_fill_that_fails_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def fill(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError("compiler died")

    with pytest.raises(RuntimeError, match="compiler died"):
        cache.put(KEY, fill)
    assert cache.get(KEY) is None
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("level", range(4), ids=["cache", "objects", "group", "entry"])
@pytest.mark.parametrize("how", ["another user's", "open to all"])
def test_what_others_may_have_put_there_is_not_read(tmp_path: Path, level: int, how: str) -> None:
    cache = Cache(tmp_path / "c")
    entry = cache.put(KEY, write(a="1"))
    place = [cache.folder, entry.parents[1], entry.parent, entry][level]
    if how == "open to all":
        place.chmod(0o1777)
    elif os.geteuid() == 0:
        os.chown(place, 12345, 12345)
    else:
        pytest.skip("only root gives files away")
    with pytest.raises(InfcError, match="may be written by others") as caught:
        cache.get(KEY)
    assert caught.value.exit_code == Exit.MISSING
    said: list[str] = []
    assert Spare(cache, said.append).ask(lambda c: c.get(KEY)) is None
    assert len(said) == 1


def test_an_entry_that_cannot_be_replaced_is_not_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    (cache.put(KEY, write(a="1")) / "a").write_text("damaged")

    def keep(_: Cache, entry: Path) -> None:
        assert entry.is_dir()

    monkeypatch.setattr(Cache, "_discard", keep)
    with pytest.raises(InfcError, match="a damaged entry cannot be replaced"):
        cache.put(KEY, write(a="1"))


@pytest.mark.parametrize("damage", ["truncate", "change", "remove", "meta"])
def test_a_damaged_entry_counts_as_absent(tmp_path: Path, damage: str) -> None:
    cache = Cache(tmp_path)
    entry = cache.put(KEY, write(a="some text"))
    match damage:
        case "truncate":
            os.truncate(entry / "a", 3)
        case "change":
            (entry / "a").write_text("same size")
        case "remove":
            (entry / "a").unlink()
        case _:
            (entry / ".entry.json").write_text("{")
    assert cache.get(KEY) is None
    assert not entry.exists()
    cache.put(KEY, write(a="again"))
    again = cache.get(KEY)
    assert again is not None
    assert (again / "a").read_text() == "again"


def test_parallel_puts_of_one_key_agree(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    start = threading.Barrier(8)
    seen: list[str] = []

    def work() -> None:
        start.wait()
        entry = cache.put(KEY, write(a="x" * 1000))
        seen.append((entry / "a").read_text())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert seen == ["x" * 1000] * 8
    assert len(cache.entries()) == 1


def test_prune_removes_the_least_recently_used_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    keys = [cache_key("n", n) for n in range(4)]
    for age, key in zip((40, 30, 20, 10), keys, strict=True):
        entry = cache.put(key, write(a="x" * 1000))
        os.utime(entry / ".entry.json", (time.time() - age, time.time() - age))
    assert cache.get(keys[0]) is not None  # now the most recently used
    one = cache.entries()[0].size
    freed = cache.prune(2 * one, grace_s=0.0)
    assert freed == 2 * one
    assert [cache.get(k) is not None for k in keys] == [True, False, False, True]


def test_prune_spares_what_a_parallel_build_may_be_reading(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_bytes=0)
    cache.put(KEY, write(a="x"))
    assert cache.prune() == 0
    assert cache.get(KEY) is not None
    assert cache.prune(grace_s=0.0) > 0
    assert cache.get(KEY) is None


def test_a_folder_that_cannot_be_written_is_exit_6(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InfcError) as caught:
        Cache(tmp_path / "file").put(KEY, write(a="x"))
    assert caught.value.exit_code == Exit.MISSING
    assert "--cache-dir" in caught.value.hint


def test_a_key_must_come_from_cache_key(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cache_key"):
        Cache(tmp_path).get("../../etc")


parts = st.lists(st.binary(max_size=4) | st.text(max_size=4) | st.integers() | st.none(), max_size=4)


@given(parts, parts)
def test_keys_are_equal_only_for_equal_parts(
    a: list[bytes | str | int | None], b: list[bytes | str | int | None]
) -> None:
    assert (cache_key(*a) == cache_key(*b)) == (a == b)
