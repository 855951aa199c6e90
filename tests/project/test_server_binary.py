"""`find` names the server that goes into a bundle, or says how to get it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from infc.compiler.bundle import server
from infc.compiler.errors import Exit, InfcError


def put(folder: Path, arch: str, mode: int = 0o755) -> Path:
    binary = folder / arch / "serve"
    binary.parent.mkdir(parents=True)
    binary.write_bytes(b"\x7fELF")
    binary.chmod(mode)
    return binary


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INFC__SERVE_DIR", raising=False)
    monkeypatch.setattr(server, "_root", lambda: None)
    monkeypatch.setitem(sys.modules, "infc_serve", None)


def test_the_setting_is_the_only_place_where_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFC__SERVE_DIR", str(tmp_path))
    binary = put(tmp_path, "x86_64")
    assert server.find("x86_64") == binary
    with pytest.raises(InfcError, match="the server for aarch64 is missing") as caught:
        server.find("aarch64")
    assert caught.value.exit_code == Exit.MISSING
    assert str(tmp_path) in caught.value.hint


def test_a_checkout_comes_before_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("infc_serve")
    package.folder = lambda: tmp_path / "package"  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "infc_serve", package)
    installed = put(tmp_path / "package", "x86_64")
    assert server.find("x86_64") == installed
    monkeypatch.setattr(server, "_root", lambda: tmp_path / "checkout")
    built = put(tmp_path / "checkout" / "build" / "serve", "x86_64")
    assert server.find("x86_64") == built
    with pytest.raises(InfcError) as caught:
        server.find("aarch64")
    assert caught.value.hint == "in this checkout: make build/serve/aarch64/serve"


def test_without_any_the_hint_is_the_package() -> None:
    with pytest.raises(InfcError) as caught:
        server.find("x86_64")
    assert caught.value.exit_code == Exit.MISSING
    assert "pip install infc-serve" in caught.value.hint


def test_a_binary_that_cannot_be_executed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFC__SERVE_DIR", str(tmp_path))
    put(tmp_path, "x86_64", 0o644)
    with pytest.raises(InfcError, match="is not executable"):
        server.find("x86_64")


def test_an_architecture_without_a_server_is_a_fault_of_the_caller() -> None:
    with pytest.raises(ValueError, match="no server is built for 'riscv64'"):
        server.find("riscv64")
