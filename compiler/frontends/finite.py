"""Weights that are no numbers: NaN in a parameter or buffer, and infinity in a parameter, are refused by name.

Buffers (masks) and constants may be infinite. Only what the model uses stops a build: a head that is not part of it is
named in a note.
"""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import torch

from .errors import FrontendError

CHUNK = 1 << 22
"""Elements looked at together: what a check takes beside the weights themselves."""
_DIRECT = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

Named = tuple[str, torch.Tensor, bool]
"""A weight's name, its values, and whether it is a parameter."""


def check_module(module: Any, used: Collection[str], source: str, *, nan_allowed: bool) -> tuple[str, ...]:
    """Notes on a module's weights outside of `used`. Raises FrontendError where one of `used` is no number."""
    return check_finite(weights_of_module(module), used, source, nan_allowed=nan_allowed)


def check_exported(
    program: Any, used: Collection[str], source: str, *, nan_allowed: bool, said: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """As check_module, for the parameters, buffers and constants of a torch.export.ExportedProgram. `said` gives the names
    that `used` and messages have where the program's own differ."""
    parameters = set(program.graph_signature.parameters)
    names = said or {}
    held: dict[str, Any] = {**program.constants, **program.state_dict}
    state = ((names.get(n, n), t, n in parameters) for n, t in held.items() if isinstance(t, torch.Tensor))
    return check_finite(state, used, source, nan_allowed=nan_allowed)


def weights_of_module(module: Any) -> Iterator[Named]:
    """Every parameter and buffer of a module, under each of its names."""
    for name, tensor in module.named_parameters(remove_duplicate=False):
        yield name, tensor.detach(), True
    for name, tensor in module.named_buffers(remove_duplicate=False):
        yield name, tensor.detach(), False


def check_finite(weights: Iterable[Named], used: Collection[str], source: str, *, nan_allowed: bool) -> tuple[str, ...]:
    """Notes on weights that are no numbers and not in `used`. Raises FrontendError naming the first of those in `used`:
    tensor, first index, how many. `source` is what the message begins with."""
    if nan_allowed:
        return ()
    notes: list[str] = []
    seen: set[tuple[int, tuple[int, ...], bool]] = set()
    for name, tensor, parameter in weights:
        key = (tensor.data_ptr(), tuple(tensor.shape), parameter)
        if not tensor.is_floating_point() or tensor.numel() == 0 or tensor.is_meta or key in seen:
            continue
        if _is_fine(tensor, parameter):
            seen.add(key)
            continue
        said = _what_is_wrong(name, tensor, parameter)
        if name in used:
            raise FrontendError(
                f"{source}: {said}",
                hint="the checkpoint is damaged, or write `nan allowed` behind the source",
            )
        notes.append(f"{said}; the model does not use it")
    return tuple(notes)


def _chunks(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Its elements in order, flat, without a copy of the whole."""
    if tensor.is_contiguous():
        yield from tensor.view(-1).split(CHUNK)
    else:
        for part in tensor.split(max(1, CHUNK * len(tensor) // tensor.numel())):
            yield part.reshape(-1)


def _is_fine(tensor: torch.Tensor, parameter: bool) -> bool:
    for chunk in _chunks(tensor):
        values = chunk.detach() if chunk.dtype in _DIRECT else chunk.detach().float()
        if bool(torch.isfinite(values.sum())):
            continue  # at the speed of memory; a sum that is no number may also have run over
        low, high = torch.aminmax(values)  # NaN where any is
        bad = ~torch.isfinite(low) | ~torch.isfinite(high) if parameter else torch.isnan(low) | torch.isnan(high)
        if bool(bad):
            return False
    return True


def _what_is_wrong(name: str, tensor: torch.Tensor, parameter: bool) -> str:
    """`parameter 'a.weight' f32[2, 3] holds nan at [0, 1] (and 4 more)`."""
    count, first, value, at = 0, -1, 0.0, 0
    for chunk in _chunks(tensor):
        values = chunk.detach() if chunk.dtype in _DIRECT else chunk.detach().float()
        bad = ~torch.isfinite(values) if parameter else torch.isnan(values)
        found = int(bad.sum())
        if found and first < 0:
            place = int(bad.to(torch.uint8).argmax())
            first, value = at + place, float(values[place])
        count += found
        at += chunk.numel()
    index: list[int] = []
    for extent in reversed(tensor.shape):
        index.insert(0, first % extent)
        first //= extent
    kind = "parameter" if parameter else "buffer"
    more = f" (and {count - 1:,} more)" if count > 1 else ""
    return f"{kind} {name!r} of shape {list(tensor.shape)} holds {value} at {index}{more}"
