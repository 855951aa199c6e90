"""A .pt2 file as a program of torch's: read as data, checked, and rebuilt from what was checked.

    file -> Archive -> JSON -> schema -> Rewritten, Stored -> ExportedProgram

torch never sees the file. Its deserializer gets objects of ours and tensors over the file's own bytes.
"""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import schema, strict_json
from .archive import Archive, read_archive
from .refused import Refused, pickled, shown
from .tensors import Stored, map_tensors, read_stored

FIXED = {"archive_format": b"pt2", "byteorder": b"little", "archive_version": b"0"}


@dataclass(frozen=True)
class Checked:
    """A file that was read: the program's JSON (`schema.py` says of what form) and where its weights lie."""

    archive: Archive
    program: dict[str, Any]
    weights: Mapping[str, Stored]
    constants: Mapping[str, Stored]


@dataclass(frozen=True)
class Opened:
    """A program. `inputs` are the file's names of its user inputs, in order; `outputs` a name for each leaf that it
    returns; `said` gives what its identifiers stand for; `stored` are its weights by the address of their first element."""

    program: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    said: Mapping[str, str]
    stored: Mapping[int, Stored]


def read_program(file: Path) -> Checked:
    """The checks that need no torch. Raises Refused."""
    archive = read_archive(file)
    for name, wanted in FIXED.items():
        if name in archive.entries:
            found = archive.read(name, 64)
            if found != wanted:
                raise Refused(f"its {name} is {shown(found)}, and {shown(wanted)} is read")
    what = "the entry 'models/model.json'"
    program = schema.check("ExportedProgram", strict_json.parse(archive.read("models/model.json"), what), what)
    weights, constants = read_stored(archive)
    if weights.keys() & constants.keys():
        raise Refused(f"the weight {shown(min(weights.keys() & constants.keys()))} is there twice")
    return Checked(archive, program, weights, constants)


def open_program(checked: Checked, root: str) -> Opened:
    """The program, built by torch from what was checked. `root` is the folder that source lines are shown relative to.
    Raises Refused, and whatever torch says of a program that does not fit together."""
    from torch._export.serde.serialize import ExportedProgramDeserializer

    from .rewrite import rewrite

    made = rewrite(checked.program, root)
    tables: list[dict[str, Any]] = []
    stored: dict[int, Stored] = {}
    for table in (checked.weights, checked.constants):
        taken = {name: each for name, each in table.items() if name in made.parameters}
        tensors = map_tensors(checked.archive, taken) if taken else {}
        stored.update({tensors[n].data_ptr(): each for n, each in taken.items() if each.elements and each.contiguous})
        tables.append({made.names.weight(name): tensor for name, tensor in tensors.items()})
    for name, kind in made.parameters.items():
        if name not in checked.weights and name not in checked.constants:
            raise Refused(f"the {kind} {shown(name)} of the program is not among the archive's weights")
    with _no_pickles():
        program = ExportedProgramDeserializer().deserialize(made.program, tables[0], tables[1], None)
    return Opened(program, made.inputs, made.outputs, dict(made.names.original), stored)


@contextlib.contextmanager
def _no_pickles() -> Generator[None]:
    """torch.load raises, whoever calls it."""
    import torch

    original = torch.load

    def refused(*_: Any, **__: Any) -> Any:
        raise pickled("that torch asks for")

    torch.load = refused
    try:
        yield
    finally:
        torch.load = original
