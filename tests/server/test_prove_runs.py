"""`serve prove`: timed starts, the full queue, where the server runs, and that one measures at a time."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .bundles import Fixture
from .conftest import MakeBundle
from .proving import children, cpus, prove, start_prove, status_of
from .serving import running

NO_BLOCKS = ("--blocks", "0")


@pytest.fixture(scope="module")
def score_bundle(make_bundle: MakeBundle) -> Path:
    return make_bundle()


def test_starts_are_timed(serve_binary: Path, score_bundle: Path, tmp_path: Path) -> None:
    document = prove(serve_binary, score_bundle, tmp_path, *NO_BLOCKS, "--starts", "3")
    assert document["blocks"] == []
    assert [(start["cold"], start["pages_left"]) for start in document["starts"]] == [(False, None)] * 3
    assert all(start["s"] > 0 for start in document["starts"])


def test_cold_starts_find_nothing_in_the_page_cache(
    serve_binary: Path, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    # Run by the bundle's own program: its pages must go, too.
    bundle = make_bundle(serve=serve_binary)
    document = prove(bundle / "serve", bundle, tmp_path, *NO_BLOCKS, "--starts", "2", "--cold")
    assert "--program" not in document["command"]
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(bundle)], check=True, capture_output=True, text=True)
    for start in document["starts"]:
        assert start["cold"] is True
        if kind.stdout.strip() in {"ext2/ext3", "xfs", "btrfs"}:
            assert start["pages_left"] == 0
        else:
            assert start["pages_left"] >= 0


def test_the_queue_is_filled_with_the_largest_requests(
    serve_binary: Path, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    bundle = make_bundle(Fixture(defines=("DELAY_MS=100",), serve={"queue": 4}))
    fill = prove(serve_binary, bundle, tmp_path, *NO_BLOCKS, "--fill")["fill"]
    assert (fill["requests"], fill["rows"]) == (4 + 8 + 64, 16)
    assert fill["statuses"]["200"] > 0
    assert fill["statuses"]["429"] > 0
    assert sum(fill["statuses"].values()) + fill["open"] == fill["requests"]
    with running(serve_binary, bundle) as server:
        assert fill["ceiling_bytes"] == server.metric("infc_memory_ceiling_bytes")
    assert 1 << 20 < fill["peak_rss_bytes"] < fill["ceiling_bytes"]


@pytest.mark.parametrize("overflow", ["reject", "truncate"])
def test_the_largest_texts_are_admitted(
    serve_binary: Path, make_bundle: MakeBundle, tmp_path: Path, overflow: str
) -> None:
    serve = {"queue": 2, "max_body_bytes": 16 << 10}
    bundle = make_bundle(Fixture(kind="embed", serve=serve, task={"overflow": overflow}))
    fill = prove(serve_binary, bundle, tmp_path, *NO_BLOCKS, "--fill")["fill"]
    # 62 words of 4 characters and two special tokens are the limit of 64.
    assert fill["rows"] == (16 << 10) // (62 * 4) or fill["rows"] in range(58, 66)
    assert (15 << 10) < fill["bytes"] <= (16 << 10)
    assert set(fill["statuses"]) <= {"200", "429"}
    assert fill["statuses"]["200"] > 0


def test_the_server_is_confined_to_its_cores(serve_binary: Path, score_bundle: Path, tmp_path: Path) -> None:
    allowed = os.sched_getaffinity(0)
    process = start_prove(
        serve_binary, score_bundle, tmp_path, "--rate", "50", "--blocks", "1", "--block-seconds", "2", "--cores", "1"
    )
    seen: set[frozenset[int]] = set()
    threads: set[str] = set()
    while process.poll() is None and "infer-0" not in threads:
        for child in children(process.pid):
            for task in Path(f"/proc/{child}/task").glob("*"):
                try:
                    threads.add((task / "comm").read_text().strip())
                    seen.add(frozenset(cpus(status_of(task / "status", "Cpus_allowed_list"))))
                except (OSError, ValueError):
                    continue  # it has just ended
        time.sleep(0.002)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    placement = json.loads(out)["placement"]
    assert {"http", "infer-0"} <= threads
    assert seen == {frozenset(placement["server"])}
    assert len(placement["server"]) == 1
    assert set(placement["server"]) | set(placement["generator"]) <= allowed
    assert placement["shared"] == (len(allowed) == 1) or placement["shared"]
    if not placement["shared"]:
        assert not set(placement["server"]) & set(placement["generator"])


def test_where_no_core_is_left_the_generator_shares(serve_binary: Path, score_bundle: Path, tmp_path: Path) -> None:
    cores = str(len(os.sched_getaffinity(0)))
    document = prove(
        serve_binary,
        score_bundle,
        tmp_path,
        "--rate",
        "50",
        "--blocks",
        "1",
        "--block-seconds",
        "0.3",
        "--cores",
        cores,
    )
    assert document["placement"]["shared"] is True
    assert document["placement"]["server"] == document["placement"]["generator"]
    assert document["subject"]["cores"] == int(cores)
    assert document["blocks"][0]["ok"] == 15


def test_one_measures_at_a_time_and_says_that_it_waits(serve_binary: Path, score_bundle: Path, tmp_path: Path) -> None:
    with (tmp_path / "infc-measure.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = start_prove(serve_binary, score_bundle, tmp_path, *NO_BLOCKS, "--starts", "1")
        assert process.stderr is not None
        assert "another measurement runs on this machine" in process.stderr.readline()
        assert "subject" in prove(serve_binary, score_bundle, tmp_path, "--subject")
        assert children(process.pid) == []
        assert process.poll() is None
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert len(json.loads(out)["starts"]) == 1


def test_a_link_in_the_place_of_the_lock_is_refused(serve_binary: Path, score_bundle: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (tmp_path / "infc-measure.lock").symlink_to(victim)
    process = start_prove(serve_binary, score_bundle, tmp_path, *NO_BLOCKS, "--starts", "1")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "it is a link" in err
    assert not victim.exists()


def test_the_server_ends_with_whoever_proves(serve_binary: Path, score_bundle: Path, tmp_path: Path) -> None:
    process = start_prove(
        serve_binary, score_bundle, tmp_path, "--rate", "50", "--blocks", "1", "--block-seconds", "60"
    )
    end = time.monotonic() + 60
    while not (found := children(process.pid)) and time.monotonic() < end:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    (child,) = found
    while Path(f"/proc/{child}").exists() and time.monotonic() < end:
        if status_of(Path(f"/proc/{child}/status"), "State").startswith("Z"):
            break
        time.sleep(0.005)
    else:
        assert not Path(f"/proc/{child}").exists()
