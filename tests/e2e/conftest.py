"""Bundles of the examples, each built once in a run of the tests, whatever the number of processes."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from infc.compiler.build import build
from infc.compiler.cache import Cache
from infc.compiler.driver import Request

BundleOf = Callable[[str], Path]


def plain_spec(text: str) -> str:
    """An example's spec without targets, so that nothing is measured, and with a deadline that a busy machine keeps."""
    text = re.sub(r"^(targets|serve|traffic|hardware) \{\n.*?^\}\n", "", text, flags=re.MULTILINE | re.DOTALL)
    return text + "serve { protocols kserve, openai; queue 512 requests, deadline 60 s }\n"


def link_or_copy(source: str, target: str) -> str:
    """Models are large: the copy shares the file where it can."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def copy_example(examples: Path, name: str, folder: Path) -> Path:
    """An example's files in a folder of its own; returns its plain spec there."""
    ignored = shutil.ignore_patterns("*.bundle", "*.lock", "__pycache__")
    shutil.copytree(examples / name, folder, ignore=ignored, copy_function=link_or_copy)
    spec = folder / f"{name}.infer"
    text = spec.read_text()
    spec.unlink()
    spec.write_text(plain_spec(text))
    return spec


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "e2e"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def bundle_of(examples: Path, workshop: Path) -> BundleOf:
    """`bundle_of("fraud")`: the example's bundle; its spec lies beside it."""

    def made(name: str) -> Path:
        with (workshop / f"{name}.making").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            bundle = workshop / name / f"{name}.bundle"
            if not bundle.exists():
                spec = copy_example(examples, name, workshop / name)
                cache = Cache(Path(os.environ["INFC__CACHE_DIR"]), 10 << 30)
                outcome = build(Request(spec, cache=cache))
                assert outcome.bundle == bundle
            return bundle

    return made
