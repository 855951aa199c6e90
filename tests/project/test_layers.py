"""The walls of the house, read from the source: who may import whom, who may write files, who may name a target."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOTS = ("compiler", "dsl", "targets", "runtime")
HEAVY = {"torch", "torch_mlir", "tvm", "jax", "transformers", "pydantic", "numpy", "lark", "jinja2", "rich"}
CONCRETE = {"cpu", "cuda", "rocm", "tpu", "null"}

MAY_WRITE = {
    "compiler/bundle": "writes bundles",
    "compiler/report": "writes reports",
    "compiler/cli": "writes what the user named",
    "compiler/build.py": "puts a bundle together under a temporary name, and the lock beside the spec",
    "compiler/cache.py": "the cache itself",
    "compiler/temporary.py": "makes and removes temporary folders",
    "dsl/generate.py": "a developer's tool, never run by infc: writes the parser's tables",
    "targets/cpu/tuning/__main__.py": "a developer's tool: writes the table of tiles that ships",
}
"""Where files may be written, beside the build folder and the cache that the driver hands in (see IN_BUILD_FOLDER)."""

IN_BUILD_FOLDER: dict[str, str] = {
    "compiler/build_key.py": "a cache entry",
    "compiler/driver.py": "makes the build folder",
    "compiler/frontends/confined.py": "the tokenizer out of the worker's answer",
    "compiler/frontends/text.py": "the tokenizer that the library made, in the worker",
    "compiler/frontends/wire.py": "what goes to and comes from a worker",
    "compiler/proof/baseline_child.py": "copies of the models that it times, and what it is asked",
    "compiler/proof/custom_metric.py": "answers and labels for the user's metric",
    "compiler/proof/metric_child.py": "what the user's metric gave",
    "compiler/proof/prove.py": "requests of a measurement",
    "compiler/proof/requests.py": "requests of a measurement",
    "compiler/proof/run.py": "a copy of the bundle that nothing has loaded, for cold starts",
    "compiler/sandbox/process.py": "the worker's folder",
    "compiler/passes/pipeline.py": "stages, where INFC__DUMP asks for them",
    "targets/cpu/compile.py": "sources and objects",
    "targets/cpu/limits.py": "the probe that it compiles",
    "targets/cpu/emit/weights.py": "packed weights",
    "targets/cpu/tail/tvm_object.py": "an object on its way from TVM, in a temporary folder",
    "targets/cpu/target.py": "objects",
    "targets/cpu/tuning/table.py": "the user's table of tiles, in the cache",
}
"""Modules that write, and only into a folder that they are given: module → what."""

LONGEST = 500
LONGER: dict[str, str] = {
    "dsl/spec.py": "one page of types, read from top to bottom",
    "dsl/values.py": "one reader a kind of value, all alike",
}
"""Files of more than LONGEST lines, each with its reason."""


def sources(*folders: str, pattern: str = "*.py") -> list[Path]:
    return sorted(
        p
        for f in folders
        for p in (ROOT / f).rglob(pattern)
        if "__pycache__" not in p.parts and "target" not in p.parts
    )


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(absolute dotted name, line) of every import, relative ones resolved under `infc.`."""
    package = ["infc", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            head = ".".join([*base, *([node.module] if node.module else [])])
            if node.module and node.level == 0:
                yield head, node.lineno
            else:
                for alias in node.names:
                    yield f"{head}.{alias.name}", node.lineno


@pytest.mark.parametrize("path", sources("dsl"), ids=name_of)
def test_dsl_imports_itself_and_the_standard_library(path: Path) -> None:
    for name, line in imports(path):
        top = name.partition(".")[0]
        allowed = name.startswith("infc.dsl") or top in sys.stdlib_module_names
        developers = name_of(path) == "dsl/generate.py" and top == "lark"
        assert allowed or developers, f"{name_of(path)}:{line} imports {name}"


@pytest.mark.parametrize("path", sources("compiler"), ids=name_of)
def test_the_compiler_names_no_concrete_target(path: Path) -> None:
    for name, line in imports(path):
        assert not name.startswith("infc.targets"), f"{name_of(path)}:{line} imports {name}; targets are discovered"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Compare):
            words = [c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)]
            named = CONCRETE.intersection(words)
            assert not named, f"{name_of(path)}:{node.lineno} compares with {named}; ask the target instead"


TARGETS_MAY_IMPORT = (
    "infc.targets",
    "infc.compiler.ir",
    "infc.compiler.codegen",
    "infc.compiler.passes.placement",
    "infc.compiler.target",
    "infc.compiler.errors",
    "infc.compiler.processes",
    "infc.compiler.cache",
    "infc.compiler.env",
)


@pytest.mark.parametrize("path", sources("targets"), ids=name_of)
def test_targets_know_the_graph_and_the_plan_only(path: Path) -> None:
    for name, line in imports(path):
        if name.startswith("infc."):
            assert name.startswith(TARGETS_MAY_IMPORT), f"{name_of(path)}:{line} imports {name}"


@pytest.mark.parametrize("path", sources("runtime"), ids=name_of)
def test_the_loader_needs_numpy_alone(path: Path) -> None:
    for name, line in imports(path):
        top = name.partition(".")[0]
        allowed = name.startswith("infc.runtime") or top == "numpy" or top in sys.stdlib_module_names
        assert allowed, f"{name_of(path)}:{line} imports {name}"


WRITING_METHODS = {
    "write_text",
    "write_bytes",
    "mkdir",
    "unlink",
    "rmdir",
    "touch",
    "symlink_to",
    "hardlink_to",
    "chmod",
}
WRITING_FUNCTIONS = {
    "os.rename", "os.replace", "os.remove", "os.unlink", "os.mkdir", "os.makedirs", "os.link", "os.symlink",
    "shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.copytree", "shutil.move", "shutil.rmtree",
    "tempfile.mkdtemp", "tempfile.mkstemp", "tempfile.TemporaryDirectory", "tempfile.NamedTemporaryFile",
}  # fmt: skip


def writes(path: Path) -> Iterator[tuple[str, int]]:
    """(what, line) of calls that write to the file system."""
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.Call):
            continue
        function = ast.unparse(node.func)
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if method in WRITING_METHODS or function in WRITING_FUNCTIONS:
            yield function, node.lineno
        elif function == "open" or method == "open":
            modes = [a.value for a in [*node.args, *(k.value for k in node.keywords)] if isinstance(a, ast.Constant)]
            if any(
                isinstance(m, str) and len(m) <= 3 and set(m) <= set("rwaxbt+") and set(m) & set("wax+") for m in modes
            ):
                yield function, node.lineno


@pytest.mark.parametrize("path", sources(*ROOTS), ids=name_of)
def test_only_bundle_report_and_cli_write_files(path: Path) -> None:
    name = name_of(path)
    if name in IN_BUILD_FOLDER or any(name == place or name.startswith(place + "/") for place in MAY_WRITE):
        return
    found = [f"{name}:{line} {what}" for what, line in writes(path)]
    assert not found, "only bundle/, report/ and the CLI write files: " + ", ".join(found)


@pytest.mark.parametrize("table", [MAY_WRITE, IN_BUILD_FOLDER, LONGER], ids=["may write", "build folder", "longer"])
def test_the_tables_of_exceptions_name_what_exists(table: dict[str, str]) -> None:
    gone = [name for name in table if not (ROOT / name).exists() and name != "compiler/report"]
    assert not gone


def test_files_are_short_enough_to_read() -> None:
    found = [
        f"{name_of(p)}: {lines} lines"
        for p in [*sources(*ROOTS, "infc", "examples", "bench"), *sources("runtime", pattern="*.rs")]
        if not p.relative_to(ROOT).parts[1] in ROOTS or p.relative_to(ROOT).parts[0] != "infc"
        for lines in [p.read_text(encoding="utf-8").count("\n")]
        if lines > LONGEST and name_of(p) not in LONGER
    ]
    assert not found, f"over {LONGEST} lines; split them: {found}"


def test_importing_infc_is_cheap() -> None:
    import subprocess

    code = f"import sys, infc; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
