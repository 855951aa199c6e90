"""The Makefile's promises that need no build: help lists what matters, and what is missing is named."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def make(*words: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")} | environment
    return subprocess.run(
        ["make", "--no-print-directory", *words], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


def test_help_lists_what_the_readme_names() -> None:
    out = make("help").stdout
    for target in ("demo", "test", "test-all", "check", "bench", "wheel", "help", "clean", "deps-debian"):
        assert f"make {target} " in out
    assert make().stdout == out, "help is the default"


def bare_path(folder: Path, *names: str) -> str:
    """A PATH with only these programs."""
    folder.mkdir()
    for name in ("bash", "sh", "uname", "find", "env", "cat", *names):
        found = shutil.which(name)
        if found:
            (folder / name).symlink_to(found)
    return str(folder)


def test_a_machine_without_python_is_told_how_to_get_it(tmp_path: Path) -> None:
    done = make("tools-python", PATH=bare_path(tmp_path / "bin", "make"))
    assert done.returncode != 0
    assert "Python 3.11 or later is needed" in done.stderr
    assert "apt-get install python3" in done.stderr


def test_a_machine_without_cargo_is_told_how_to_get_it(tmp_path: Path) -> None:
    done = make("tools-cargo", PATH=bare_path(tmp_path / "bin", "make", "python3.11"))
    assert done.returncode != 0
    assert "cargo is needed" in done.stderr
    assert "rustup" in done.stderr


def test_a_machine_without_a_linker_is_told_how_to_get_it(tmp_path: Path) -> None:
    path = bare_path(tmp_path / "bin", "make")
    (tmp_path / "bin" / "cargo").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "cargo").chmod(0o755)
    done = make("tools-cargo", PATH=path)
    assert done.returncode != 0
    assert "apt-get install gcc" in done.stderr


def test_constraints_are_exact_and_hold_no_url() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 50
    for line in lines:
        assert "==" in line, f"{line} is not exact"
        assert "/" not in line, f"{line} holds a URL"
        assert "@" not in line, f"{line} holds a URL"


def test_the_ci_entry_runs_the_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()
