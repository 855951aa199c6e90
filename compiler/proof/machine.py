"""Whether a measurement speaks of the machine that a spec declares."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...dsl.spec import Accept, Hardware

_TOLD = ("avx", "fma", "f16c", "bmi", "amx", "sse4", "asimd", "sve", "i8mm", "bf16")
"""Prefixes of the features that a fingerprint tells."""
MEMORY_SHARE = 0.9
"""Of the declared memory; a machine sold with 4 GiB shows somewhat less."""


def misfit(
    fingerprint: Mapping[str, Any], hardware: Hardware, features: Sequence[str], accepts: Sequence[Accept]
) -> str:
    """Why a measurement on the machine of `fingerprint` is no proof for `hardware`; "" where it is.

    An unnamed machine is fit by instruction set (`features`), cores and memory. A named one of the catalogue is also its
    chip: the one that the machine says, or one of `accept cpu "NAME"`.
    """
    name = str(fingerprint.get("model_name") or "an unnamed chip")
    if any(accept.kind == hardware.kind and accept.name.casefold() == name.casefold() for accept in accepts):
        return ""
    isa = {_plain(flag) for flag in fingerprint.get("isa") or ()}
    told = [f for f in features if _plain(f).startswith(_TOLD)]
    absent = [feature for feature in told if _plain(feature) not in isa]
    if absent:
        return f"{name} lacks {', '.join(absent)}"
    cores = fingerprint.get("cores")
    if hardware.cores is not None and (not isinstance(cores, int) or cores < hardware.cores):
        return f"{name} has {cores} cores here, and the spec declares {hardware.cores}"
    memory = fingerprint.get("memory_bytes")
    wanted = hardware.memory_bytes
    if wanted is not None and isinstance(memory, int) and memory < MEMORY_SHARE * wanted:
        return f"this machine has {memory >> 20} MiB, and the spec declares {wanted >> 20} MiB"
    machine = hardware.machine
    if machine is None:
        return ""
    chip = (machine.vendor or "").partition(" (")[0]
    if chip and chip.casefold() in name.casefold():
        return ""
    said = f"{machine.name!r} is {chip}" if chip else f"nothing says which chip {machine.name!r} is"
    return f'this machine is {name}, and {said}; `accept {hardware.kind} "{name}"` takes it all the same'


def _plain(flag: str) -> str:
    return re.sub(r"[^a-z0-9]", "", flag.lower())
