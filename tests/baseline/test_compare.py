"""`compare` on bundles around the C model of the server's tests: what it refuses, what it does not measure, what it finds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from platform import machine

import pytest

from infc.compiler.driver import Request, check_spec, choose_machine
from infc.compiler.errors import Exit, InfcError
from infc.compiler.proof.baseline import check_baseline, compare
from infc.compiler.proof.comparison import Comparison
from tests.proof_cli.support import spec_text
from tests.server.bundles import ROOT, Fixture, Json, write_bundle, write_manifest_bytes
from tests.server.conftest import libraries, make_bundle, serve_binary, tokenizer

__all__ = ["libraries", "make_bundle", "serve_binary", "tokenizer"]  # fixtures of the server's tests
MakeBundle = Callable[..., Path]
MEMORY: Json = {"memory": {"serving_bytes": 1 << 30, "swapping_bytes": 2 << 30}}


@pytest.fixture
def make(make_bundle: MakeBundle) -> MakeBundle:
    """A bundle without a server, its manifest whole."""

    def made(kind: str = "score", *defines: str, edit: Callable[[Json], None] | None = None) -> Path:
        return make_bundle(Fixture(kind=kind, defines=defines, manifest=MEMORY), edit=edit)

    return made


def compared(new: Path, old: Path, work: Path, targets: str = "", said: list[str] | None = None) -> list[Comparison]:
    """As a build compares them."""
    path = work / "fixture.infer"
    path.write_text(spec_text(targets))
    (work / "model.py").write_text("def make():\n    raise RuntimeError\n")
    spec = check_spec(Request(path))
    heard: list[str] = [] if said is None else said
    return list(compare(new, old, spec, spec.models[0], choose_machine(spec), None, work, 0.02, heard.append))


def refused(new: Path, old: Path, work: Path) -> InfcError:
    with pytest.raises(InfcError) as error:
        compared(new, old, work)
    return error.value


def profiled(folder: Path, name: str, **defines: int) -> Path:
    """A bundle of profiled_model.c."""
    library = folder / f"{name}.so"
    given = [f"-D{key.upper()}={value}" for key, value in defines.items()]
    command = [sys.executable, "-m", "ziglang", "cc", "-std=c11", "-target", f"{machine()}-linux-gnu.2.28", "-shared", "-fPIC",
               "-O2", "-g0", "-fno-sanitize=undefined", f"-I{ROOT / 'runtime' / 'abi'}", "-DKIND_SCORE", *given]  # fmt: skip
    subprocess.run([*command, str(Path(__file__).with_name("profiled_model.c")), "-o", str(library), "-lm"], check=True)
    return write_bundle(folder / name, [(Fixture(manifest=MEMORY), library)])


def reseal(bundle: Path) -> None:
    write_manifest_bytes(bundle, (bundle / "manifest.json").read_bytes())


def test_the_same_files_are_not_measured(make: MakeBundle, tmp_path: Path) -> None:
    said: list[str] = []
    found = compared(make(), make(), tmp_path, "latency p99 <= 1 s; cold_start <= 9 s", said)
    assert said == []
    assert [(c.what, c.word) for c in found] == [
        ("compute time", "not worse"), ("serving", "not worse"), ("bundle_size", "shown"),
    ]  # fmt: skip
    assert "nothing to measure" in found[0].note


def test_a_bundle_is_held_against_itself(make: MakeBundle, tmp_path: Path) -> None:
    """The baseline that a build is about to replace."""
    bundle = make()
    assert not any(c.worse for c in compared(bundle, bundle, tmp_path))


def test_steps_that_take_longer_are_found(tmp_path: Path) -> None:
    old = profiled(tmp_path, "old", linear_us=500, tail_us=500)
    new = profiled(tmp_path, "new", linear_us=5000, tail_us=500)
    said: list[str] = []
    found = {c.what: c for c in compared(new, old, tmp_path, said=said)}
    assert found["compute time"].worse
    assert found["linear ops"].worse
    assert found["linear ops"].note == "1 step"
    assert not found["tail ops"].worse
    assert said == ["comparing with the baseline: compute time"]
    back = {c.what: c for c in compared(old, new, tmp_path)}
    assert not any(c.worse for c in back.values())


def test_a_model_without_steps_is_timed_as_a_whole(tmp_path: Path) -> None:
    slow, fast = (profiled(tmp_path, f"{us}", linear_us=us, tail_us=0, no_steps=1) for us in (6000, 500))
    found = compared(slow, fast, tmp_path)
    assert [c.what for c in found] == ["compute time", "bundle_size"]
    assert found[0].worse


def test_the_size_is_judged_where_a_target_bounds_it(make: MakeBundle, tmp_path: Path) -> None:
    old, new = make(), make()
    assert compared(new, old, tmp_path, "bundle_size <= 1 GiB")[-1].word == "not worse"
    small, large = (profiled(tmp_path, f"{us}", linear_us=us, tail_us=us) for us in (100, 200))
    (large / "manifest.json").write_bytes((large / "manifest.json").read_bytes() + b" " * (20 << 10))
    reseal(large)
    one, other = (sum(f.stat().st_size for f in b.rglob("*") if f.is_file()) for b in (large, small))
    last = compared(large, small, tmp_path, "bundle_size <= 1 GiB")[-1]
    assert last.worse == (one > 1.02 * other)
    assert last.new == one
    assert last.ratio == pytest.approx(one / other)


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_no_bundle_is_exit_2(make: MakeBundle, tmp_path: Path) -> None:
    error = refused(make(), tmp_path, tmp_path)
    assert error.exit_code == Exit.USAGE
    assert "is no bundle" in error.message


@pytest.mark.parametrize("file", ["manifest.json", "models/0/variants/0/model.so"])
def test_a_damaged_baseline_is_exit_7(make: MakeBundle, tmp_path: Path, file: str) -> None:
    old = make()
    with (old / file).open("r+b") as target:
        target.seek(100)
        target.write(b"damage")
    error = refused(make(), old, tmp_path)
    assert error.exit_code == Exit.DAMAGED
    assert file in error.message


def test_another_task_is_exit_2(make: MakeBundle, tmp_path: Path) -> None:
    error = refused(make(), make("embed"), tmp_path)
    assert error.exit_code == Exit.USAGE
    assert "another task: embed, and the new bundle of tensor" in error.message


def test_other_outputs_are_exit_2_and_named(make: MakeBundle, tmp_path: Path) -> None:
    error = refused(make(), make("score", "REPEAT=3"), tmp_path)
    assert error.exit_code == Exit.USAGE
    assert "score: float32[*, 3]" in error.message
    assert "score: float32[*, 1]" in error.message


def test_other_inputs_are_exit_2_and_named(make: MakeBundle, tmp_path: Path) -> None:
    def renamed(manifest: Json) -> None:
        manifest["models"][0]["inputs"][0]["name"] = "x"

    error = refused(make(), make(edit=renamed), tmp_path)
    assert error.exit_code == Exit.USAGE
    assert "other inputs: x: float32[*, 8]" in error.message


def test_another_architecture_is_exit_6(make: MakeBundle, tmp_path: Path) -> None:
    other = {"x86_64": "aarch64", "aarch64": "x86_64"}[machine()]

    def elsewhere(manifest: Json) -> None:
        manifest["platform"]["arch"] = other

    old = make(edit=elsewhere)
    error = refused(make(), old, tmp_path)
    assert error.exit_code == Exit.MISSING
    assert other in error.hint
    with pytest.raises(InfcError, match="does not run here"):
        check_baseline(old)


def test_a_cpu_that_lacks_a_feature_is_exit_6(make: MakeBundle, tmp_path: Path) -> None:
    error = refused(make(), make("score", "REFUSE_CPU"), tmp_path)
    assert error.exit_code == Exit.MISSING
    assert "baseline" in error.message
    assert "avx1024" in error.message


def test_a_baseline_that_ends_its_process_ends_no_build(make: MakeBundle, tmp_path: Path) -> None:
    error = refused(make(), profiled(tmp_path, "old", linear_us=1, tail_us=1, quit=1), tmp_path)
    assert error.exit_code == Exit.INTERNAL
    assert "signal 6" in error.message


def test_a_new_bundle_for_another_machine_is_exit_6(make: MakeBundle, tmp_path: Path) -> None:
    isa = {"x86_64": "aarch64-neon", "aarch64": "x86-64-v3"}[machine()]
    path = tmp_path / "fixture.infer"
    path.write_text(spec_text("", hardware=f"isa {isa}, cores 1"))
    (tmp_path / "model.py").write_text("")
    spec = check_spec(Request(path))
    bundle = make()
    with pytest.raises(InfcError, match="cannot run") as error:
        compare(bundle, bundle, spec, spec.models[0], choose_machine(spec), None, tmp_path, 0.02, lambda _: None)
    assert error.value.exit_code == Exit.MISSING
