"""The instruction table and zig: what the generated code is made of."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from kernel_cases import cases
from kernel_harness import BASES, need

from infc.compiler.errors import Exit, InfcError
from infc.targets.cpu import compile as zig_cc
from infc.targets.cpu.compile import assembly, compile_objects, link
from infc.targets.cpu.isa import ISAS, isa, machine_features, native
from infc.targets.cpu.kernels import linear, prelude
from infc.targets.cpu.kernels.runtime import FEATURES


@pytest.mark.parametrize("name", ISAS)
def test_every_row_of_the_table_becomes_its_instruction(name: str, tmp_path: Path) -> None:
    target = ISAS[name]
    text = ['#include "prelude.h"\n']
    for operation, row in target.table.items():
        result, parameters = row.signature.removesuffix(")").split(" (", 1)
        passed = ", ".join(re.findall(r"(\w+)(?:,|$)", parameters))
        text.append(
            f"{result} row_{operation}({parameters}) {{ {'' if result == 'void' else 'return '}{operation}({passed}); }}\n"
        )
    (tmp_path / "prelude.h").write_text(prelude(target))
    listing = assembly(target, "".join(text), tmp_path)
    for operation, row in target.table.items():
        body = re.search(rf"^row_{operation}:[^\n]*\n(.*?)\.size\trow_{operation}", listing, re.DOTALL | re.MULTILINE)
        assert body, operation
        assert row.emits in body[1], f"{operation} on {name} became:\n{body[1]}"


@pytest.mark.parametrize(("name", "register"), [("x86-64-v4", "%zmm"), ("x86-64-v3", "%ymm"), ("aarch64-neon", ".4s")])
def test_the_gemm_uses_the_isas_widest_registers_and_spills_none(name: str, register: str, tmp_path: Path) -> None:
    target = ISAS[name]
    (tmp_path / "prelude.h").write_text(prelude(target))
    kernel = linear(target, target.nr, 64, None, False, False)
    text = f'#include "prelude.h"\n{kernel.source}void f(const float *a, float *c, int64_t n) {{ {kernel.symbol}(a, 64, a, 0, 0, 0, c, 32, n, 0, 1); }}\n'
    listing = assembly(target, text, tmp_path)
    for rows in range(1, target.max_rows + 1):
        body = re.search(rf"^infc_tile_r\d_{rows}:[^\n]*\n(.*?)\.size", listing, re.DOTALL | re.MULTILINE)
        assert body, rows
        loop = max(
            re.findall(r"^\.LBB\S+:.*?(?=^\.LBB|\Z)", body[1], re.DOTALL | re.MULTILINE),
            key=lambda t: t.count("fmadd") + t.count("fmla"),
        )
        fused = [line for line in loop.splitlines() if "vfmadd" in line or "fmla" in line]
        assert len(fused) == rows * target.panel_vectors, f"{rows} rows:\n{loop}"
        assert all(register in line for line in fused)
        stack = r"\(%rsp\)|\[sp"
        spilled = [line for line in loop.splitlines() if re.search(stack, line) and re.search(r"mm\d|\bq\d", line)]
        assert not spilled, f"{rows} rows spill: {spilled}"


@pytest.mark.parametrize(
    ("name", "precision", "instruction"),
    [
        ("x86-64-v3", "q8", "vpmaddwd"),
        ("x86-64-v4-vnni", "q8", "vpdpbusd"),
        ("x86-64-v4-bf16", "bfloat16", "vdpbf16ps"),
        ("aarch64-dotprod", "q8", "sdot"),
        ("aarch64-i8mm", "q8", "smmla"),
    ],
)
def test_a_gemm_of_reduced_precision_is_its_instruction_over_and_over_and_spills_nothing(
    name: str, precision: str, instruction: str, tmp_path: Path
) -> None:
    target, dot = ISAS[name], ISAS[name].dots[precision]
    (tmp_path / "prelude.h").write_text(prelude(target))
    kernel = linear(target, target.nr, 64, None, False, False, precision)
    text = f'#include "prelude.h"\n{kernel.source}void f(const void *a, float *c, int64_t n) {{ {kernel.symbol}(a, 64, a, 0, 0, 0, c, 32, n, 0, 1); }}\n'
    listing = assembly(target, text, tmp_path)
    for rows in range(1, target.max_rows + 1):
        body = re.search(rf"^infc_dot_{dot.suffix}_{rows}:[^\n]*\n(.*?)\.size", listing, re.DOTALL | re.MULTILINE)
        assert body, rows
        loop = re.search(r"^(\.LBB\w+):(.*?)^\s(j\w+|b\.\w+)\s\1$", body[1], re.DOTALL | re.MULTILINE)
        assert loop, f"{rows} rows:\n{body[1]}"
        together = -(-rows // dot.rows) * dot.rows
        assert loop[2].count(instruction) == together * target.panel_vectors * dot.lanes, f"{rows} rows:\n{loop[2]}"
        spilled = [line for line in loop[2].splitlines() if re.search(r"\(%rsp\)|\[sp", line)]
        assert not spilled, f"{rows} rows spill: {spilled}"


@pytest.mark.parametrize("name", BASES)
def test_kernels_call_nothing_but_memcpy_and_memset(name: str, tmp_path: Path) -> None:
    target = ISAS[name]
    kernels = {k.symbol: k for k in (case.build(target) for case in cases(target)[::3])}
    uses = "".join(f"void *use_{i}(void) {{ return (void *)&{s}; }}\n" for i, s in enumerate(kernels))
    text = '#include "prelude.h"\n' + "".join(k.source for k in kernels.values()) + uses
    (built,) = compile_objects(target, [("prelude.h", prelude(target)), ("k.c", text)], tmp_path)
    assert undefined_symbols(built) <= {"memcpy", "memset", "_GLOBAL_OFFSET_TABLE_"}


def test_objects_do_not_depend_on_the_folder(tmp_path: Path) -> None:
    target = ISAS["x86-64-v4"]
    source = [
        ("prelude.h", prelude(target)),
        ("a.c", '#include "prelude.h"\nfloat f(float x) { return infc_expf(x); }\n'),
    ]
    first, second = (compile_objects(target, source, tmp_path / folder)[0] for folder in ("one", "two/deep"))
    assert first.read_bytes() == second.read_bytes()


def test_zig_leaves_nothing_but_the_object_behind(tmp_path: Path) -> None:
    compile_objects(native(), [("a.c", "int f(void) { return 1; }\n")], tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"a.c", "a.o"}


def test_a_library_exports_what_was_asked_for_and_nothing_else(tmp_path: Path) -> None:
    target = native()
    objects = compile_objects(
        target, [("a.c", "int infc_one(void) { return 1; }\nint other(void) { return 2; }\n")], tmp_path
    )
    library = link(target, objects, tmp_path / "m.so", ["infc_*"])
    assert defined_dynamic_symbols(library) == {"infc_one"}


def test_an_undefined_function_is_found_when_linking(tmp_path: Path) -> None:
    target = native()
    objects = compile_objects(target, [("a.c", "int g(void);\nint infc_one(void) { return g(); }\n")], tmp_path)
    with pytest.raises(InfcError, match=r"undefined symbol: g") as caught:
        link(target, objects, tmp_path / "m.so", ["infc_*"])
    assert caught.value.exit_code == Exit.INTERNAL


def test_a_refused_source_shows_zigs_message_and_the_command(tmp_path: Path) -> None:
    with pytest.raises(InfcError) as caught:
        compile_objects(ISAS["aarch64-neon"], [("bad.c", "int f(void) { return nothing; }\n")], tmp_path)
    assert caught.value.exit_code == Exit.INTERNAL
    assert "undeclared identifier 'nothing'" in caught.value.message
    assert f"cd {tmp_path}" in caught.value.hint
    assert "-target aarch64-linux-gnu.2.28" in caught.value.hint


def test_a_missing_ziglang_is_exit_6_with_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zig_cc.importlib.util, "find_spec", lambda name: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    zig_cc.zig.cache_clear()
    try:
        with pytest.raises(InfcError) as caught:
            zig_cc.zig()
    finally:
        zig_cc.zig.cache_clear()
    assert caught.value.exit_code == Exit.MISSING
    assert "pip install 'infc[build]'" in caught.value.hint


def test_an_unknown_isa_lists_the_known_ones() -> None:
    with pytest.raises(InfcError) as caught:
        isa("x86-64-v5")
    assert "x86-64-v5" in caught.value.message
    assert all(name in caught.value.hint for name in ISAS)


def test_isa_names_are_the_languages_and_their_float32_code_is_a_bases() -> None:
    assert {i.float32 for i in ISAS.values()} == set(BASES)
    assert all(set(i.features) <= set(FEATURES) for i in ISAS.values())
    assert all(set(ISAS[i.float32].features) <= set(i.features) for i in ISAS.values())
    assert native().features == tuple(f for f in native().features if f in machine_features()[1])


def test_machines_without_a_feature_skip_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernel_harness.machine_features", lambda: ("x86_64", frozenset({"sse4_2"})))
    with pytest.raises(pytest.skip.Exception, match=r"SKIPPED x86-64-v4: this machine's CPU lacks .*avx512f"):
        need(ISAS["x86-64-v4"])


def undefined_symbols(path: Path) -> set[str]:
    return {name for name, section in _symbols(path.read_bytes(), 2) if section == 0 and name}


def defined_dynamic_symbols(path: Path) -> set[str]:
    return {name for name, section in _symbols(path.read_bytes(), 11) if section != 0 and name}


def _symbols(data: bytes, kind: int) -> list[tuple[str, int]]:
    """(name, section) of each symbol in the ELF64 tables of section type `kind` (2 .symtab, 11 .dynsym)."""
    offset, count = struct.unpack_from("<Q", data, 40)[0], struct.unpack_from("<H", data, 60)[0]
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, offset + 64 * i) for i in range(count)]
    found: list[tuple[str, int]] = []
    for _, type_, _, _, start, size, strings, _, _, _ in headers:
        if type_ != kind:
            continue
        for at in range(start, start + size, 24):
            name, _, _, section = struct.unpack_from("<IBBH", data, at)
            begin = headers[strings][4] + name
            found.append((data[begin : data.index(b"\0", begin)].decode(), section))
    return found
