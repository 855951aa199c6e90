"""The wheel holds every file of the four root folders, once, and nothing else; built through the sdist."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOTS = ("compiler", "dsl", "targets", "runtime")
TOP = ("pyproject.toml", "setup.py", "MANIFEST.in", "LICENSE", "NOTICE", "README.md", "constraints.txt")
BACKEND = "import sys, setuptools.build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"


def tree() -> list[str]:
    """Files of the project that a clone has, or will have once committed; without git, those that are there."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *ROOTS, "infc"]
        names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    else:
        names = [p.relative_to(ROOT).as_posix() for f in (*ROOTS, "infc") for p in (ROOT / f).rglob("*")]
    return [
        n for n in names
        if not n.startswith("runtime/server/") and "__pycache__" not in n
        and (ROOT / n).is_file() and not (ROOT / n).is_symlink()
    ]  # fmt: skip


def build(what: str, source: Path, out: Path) -> Path:
    """Runs the build backend as pip would, without the network."""
    done = subprocess.run(
        [sys.executable, "-c", BACKEND, what, str(out)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "copy"
    for name in [*tree(), *TOP]:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
    sdist = build("build_sdist", copy, folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return zipfile.ZipFile(build("build_wheel", folder / sdist.name.removesuffix(".tar.gz"), folder))


def test_the_wheel_is_the_tree(wheel: zipfile.ZipFile) -> None:
    names = [n for n in wheel.namelist() if ".dist-info/" not in n]
    assert len(names) == len(set(names))
    want = {n if n.startswith("infc/") else f"infc/{n}" for n in tree()}
    assert want - set(names) == set(), "in the tree and not in the wheel (a suffix that setup.py's DATA lacks?)"
    assert set(names) - want == set(), "in the wheel and not in the tree"


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    info = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    metadata = wheel.read(info).decode()
    assert "Provides-Extra: build" in metadata
    assert "License-Expression: Apache-2.0" in metadata
    base = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert len(base) == 2, f"the base install is light: {base}"
    folder = info.rpartition("/")[0]
    assert {f"{folder}/licenses/LICENSE", f"{folder}/licenses/NOTICE"} <= set(wheel.namelist())
    assert b"infc = infc.compiler.cli.main:main" in wheel.read(f"{folder}/entry_points.txt")


def test_the_server_wheel_holds_both_servers(tmp_path: Path) -> None:
    package = tmp_path / "package"
    shutil.copytree(ROOT / "packaging" / "infc-serve", package, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    servers = tmp_path / "built"
    for arch in ("x86_64", "aarch64"):
        (servers / arch).mkdir(parents=True)
        (servers / arch / "serve").write_bytes(arch.encode())
    command = [sys.executable, "-c", BACKEND, "build_wheel", str(tmp_path)]
    environment = {
        "INFC__SERVE_DIR": str(servers),
        "INFC_SERVE_PLATFORM": "manylinux_2_28_x86_64",
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    built = zipfile.ZipFile(next(tmp_path.glob("*.whl")))
    assert next(tmp_path.glob("*.whl")).name == "infc_serve-0.1.0-py3-none-manylinux_2_28_x86_64.whl"
    for arch in ("x86_64", "aarch64"):
        entry = built.getinfo(f"infc_serve/{arch}/serve")
        assert built.read(entry) == arch.encode()
        assert (entry.external_attr >> 16) & 0o111, "not executable"

    (servers / "aarch64" / "serve").unlink()
    shutil.rmtree(package / "build", ignore_errors=True)
    done = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "build it with `make build/serve/aarch64/serve`" in done.stderr


def test_one_version_everywhere() -> None:
    import infc

    places = ("pyproject.toml", "packaging/infc-serve/pyproject.toml", "runtime/server/Cargo.toml")
    for place in places:
        document = tomllib.loads((ROOT / place).read_text())
        table = document.get("project") or document["package"]
        assert table["version"] == infc.__version__, place
    assert f'__version__ = "{infc.__version__}"' in (ROOT / "packaging/infc-serve/infc_serve/__init__.py").read_text()
