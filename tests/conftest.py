"""What every test shares: no test writes into the user's cache, and none sees the user's settings."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Here, since pytest reads options from the conftest of the folder that it is started with."""
    parser.addoption("--update-golden", action="store_true", help="write what is rendered as what is expected")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be rewritten; reviewers read the difference."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(autouse=True, scope="session")
def _own_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """INFC__* of the shell are dropped, but for the cache folder: INFC__CACHE_DIR if set, else one of this run's own."""
    kept = {key: os.environ.pop(key) for key in list(os.environ) if key.startswith("INFC__")}
    run = tmp_path_factory.getbasetemp()
    shared = run.parent if "PYTEST_XDIST_WORKER" in os.environ else run  # one cache for all processes of this run
    os.environ["INFC__CACHE_DIR"] = kept.get("INFC__CACHE_DIR") or str(shared / "cache")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    yield
    del os.environ["INFC__CACHE_DIR"]
    os.environ.update(kept)


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def examples() -> Path:
    """The folder `examples/`, with the models and data of every example made by its own script, once for all tests."""
    folder = ROOT / "examples"
    scripts = {  # each with what it writes last
        "minilm/prepare.py": "minilm/data/evaluate.jsonl",
        "fraud/train.py": "fraud/data/evaluate.npz",
        "digits/train.py": "digits/data/evaluate.npz",
    }
    with (folder / ".making").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for script, last in scripts.items():
            if not (folder / last).is_file():
                subprocess.run([sys.executable, folder / script], check=True)
    return folder
