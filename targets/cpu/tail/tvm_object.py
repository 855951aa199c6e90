"""TVM tensor IR → an object file that needs nothing of TVM at run time, and the C function that calls it.

The object's entry `int32_t __tvm_ffi_NAME(void *, TVMFFIAny *args, int32_t n, TVMFFIAny *result)` takes DLTensors. The
only outside name it may have is the one it reports a failed argument check to; glue.h defines that. An object that
needs anything else (libm, TVM's allocator or thread pool) is refused.
"""

from __future__ import annotations

import hashlib
import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from ....compiler.errors import require
from ....compiler.ir.types import DType
from ..isa import Isa
from .lower import Program
from .print_tvm import Refused, TensorIr
from .spell import C_TYPES

ALLOWED_UNDEFINED: frozenset[str] = frozenset({"TVMFFIErrorSetRaisedFromCStrParts", "memcpy", "memmove", "memset"})
"""What glue code or every C library brings (LLVM makes calls of loops that copy); none of them computes."""
_DLPACK: dict[DType, str] = {"float32": "2, 32, 1", "int64": "0, 64, 1", "int32": "0, 32, 1", "bool": "1, 8, 1"}
"""(type code, bits, lanes) of DLPack's DLDataType."""


def object_of(ir: TensorIr, program: Program, symbols: tuple[str, ...], isa: Isa) -> tuple[str, str, bytes] | Refused:
    """(symbol, C text with its function, object file). Raises InfcError (exit 6) where TVM or zig is not installed."""
    digest = hashlib.sha256(f"{ir.function.script()}\n{isa.float32}\n{symbols}".encode()).hexdigest()
    symbol = f"infc_tvm_{digest[:16]}"
    content = compile_function(ir.function.with_attr("global_symbol", symbol), symbol, isa)
    needed = undefined_symbols(content) - ALLOWED_UNDEFINED
    if needed:
        return Refused(f"TVM's object needs {', '.join(sorted(needed))}")
    return symbol, glue(symbol, ir, program, symbols), content


def compile_function(function: Any, symbol: str, isa: Isa) -> bytes:
    """The object of one PrimFunc, without debug sections."""
    tvm: Any = require("tvm")
    cpu, _, without = isa.cpu.partition("-")  # zig: x86_64_v4-prefer_256_bit; LLVM: x86-64-v4, -prefer-256-bit
    target: dict[str, Any] = {"kind": "llvm", "mtriple": f"{isa.arch}-linux-gnu", "mcpu": cpu.replace("_", "-")}
    if without:
        target["mattr"] = [f"-{without.replace('_', '-')}"]
    module = tvm.IRModule({symbol: function})
    compiled = tvm.compile(module, tvm.target.Target(target), tir_pipeline=_pipeline())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "object.o"
        compiled.mod.write_to_file(str(path), "o")
        return without_debug(path.read_bytes())


@cache
def _pipeline() -> str:
    """The name under which TVM knows the passes that code needs: no simplifier, which is not for floats (it takes
    (y + c) - c for y) and repeats an expression wherever its name is used."""
    tvm: Any = require("tvm")
    passes = tvm.tirx.transform

    def factory() -> tuple[Any, Any, Any]:
        needed = (
            passes.FlattenBuffer(),
            passes.VectorizeLoop(True),
            passes.VerifyMemory(),
            passes.AnnotateEntryFunc(),
            passes.SplitHostDevice(),
            passes.MakePackedAPI(),
        )
        module = tvm.tirx.compilation_pipeline
        return tvm.ir.transform.Sequential(list(needed)), module.finalize_host_passes, module.finalize_device_passes

    tvm.tirx.register_tir_pipeline("infc", factory)
    return "infc"


_SECTION = "<IIQQQQIIQQ"
"""Elf64_Shdr: name, type, flags, address, offset, size, link, info, alignment, entry size."""
_SYMTAB, _NOBITS = 2, 8


def _sections(content: bytes) -> list[tuple[int, ...]]:
    if content[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a 64-bit little-endian ELF file")
    offset, count = struct.unpack_from("<Q", content, 0x28)[0], struct.unpack_from("<H", content, 0x3C)[0]
    return [struct.unpack_from(_SECTION, content, offset + 64 * k) for k in range(count)]


def _text(content: bytes, at: int) -> str:
    return content[at : content.index(b"\0", at)].decode()


def without_debug(content: bytes) -> bytes:
    """An ELF64 object less its debug sections and their relocations. Section numbers stay: those left empty are void."""
    sections = _sections(content)
    names = sections[struct.unpack_from("<H", content, 0x3E)[0]][4]
    out = bytearray(content[:64])
    headers: list[bytes] = []
    for section in sections:
        name, kind, flags, address, offset, size, link, info, align, entry = section
        if ".debug_" in _text(content, names + name):
            headers.append(bytes(64))
            continue
        if kind not in (0, _NOBITS):
            out += bytes(-len(out) % max(1, align))
            data = content[offset : offset + size]
            offset = len(out)
            out += data
        headers.append(struct.pack(_SECTION, name, kind, flags, address, offset, size, link, info, align, entry))
    out += bytes(-len(out) % 8)
    struct.pack_into("<Q", out, 0x28, len(out))
    return bytes(out) + b"".join(headers)


def undefined_symbols(content: bytes) -> frozenset[str]:
    """Names that an ELF64 object leaves to others, weak variables of TVM's runtime included."""
    found: set[str] = set()
    sections = _sections(content)
    for section in sections:
        if section[1] != _SYMTAB:
            continue
        names = sections[section[6]][4]
        for at in range(section[4] + 24, section[4] + section[5], 24):
            name, _, _, where = struct.unpack_from("<IBBH", content, at)
            text = _text(content, names + name)
            if text and (where == 0 or text.startswith("__TVMBackend")):
                found.add(text)
    return frozenset(found)


@cache
def _glue_types() -> str:
    return (Path(__file__).parent / "tvm_glue.h").read_text(encoding="utf-8")


def glue(symbol: str, ir: TensorIr, program: Program, symbols: tuple[str, ...]) -> str:
    """The C function with a tail kernel's signature that calls the object."""
    tensors = [(f"(void *){name}", "0, 32, 1") for name in ir.tables]
    tensors.append(("out", _DLPACK[program.out.dtype]))
    tensors += [(f"(void *)in[{k}]", _DLPACK[program.operands[k].type.dtype]) for k in ir.operands]
    scalars = ["begin", "end", *(f"dim[{symbols.index(s)}]" for s in ir.sizes)]
    rows = [f"        {{{data}, {{1, 0}}, 1, {{{code}}}, &length, &stride, 0}}," for data, code in tensors]
    args = [f"        {{.type = 1, .value = {{.integer = {s}}}}}," for s in scalars]
    args += [f"        {{.type = 7, .value = {{.tensor = &tensors[{k}]}}}}," for k in range(len(tensors))]
    total = len(scalars) + len(tensors)
    size = f"sizeof({C_TYPES[program.out.dtype]})"
    return "\n".join(
        [
            _glue_types(),
            f"int32_t __tvm_ffi_{symbol}(void *, const infc_tvm_any *, int32_t, infc_tvm_any *);",
            f"static __attribute__((noinline, unused)) void {symbol}(void *out, const void *const *in, const int64_t *dim,",
            "    const int32_t *row_of, const int32_t *pos_of, int64_t begin, int64_t end)",
            "{",
            "    (void)in, (void)dim, (void)row_of, (void)pos_of;",
            "    if (begin >= end) return;",
            "    int64_t length = INT64_C(1) << 40, stride = 1;",
            f"    infc_tvm_tensor tensors[{len(tensors)}] = {{",
            *rows,
            "    };",
            f"    const infc_tvm_any args[{total}] = {{",
            *args,
            "    };",
            "    infc_tvm_any result = {0};",
            f"    if (__tvm_ffi_{symbol}(NULL, args, {total}, &result) != 0)",
            f"        infc_tvm_failed(out, {size});",
            "}",
            "",
        ]
    )
