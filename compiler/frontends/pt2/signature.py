"""A program's signature: what callers give, and that outputs are all that it gives."""

from __future__ import annotations

from typing import Any

from .refused import Refused, pickled, shown


def user_inputs(specs: list[dict[str, Any]], inputs: list[dict[str, Any]]) -> list[str]:
    """The file's names of what callers give, in order. Raises Refused where the signature differs from the graph's inputs."""
    if len(specs) != len(inputs):
        raise Refused(f"the program takes {len(inputs)} values, and its signature has {len(specs)}")
    found: list[str] = []
    for spec, argument in zip(specs, inputs, strict=True):
        ((kind, row),) = spec.items()
        if kind == "custom_obj":
            raise pickled(row["custom_obj_name"][:100])
        if kind == "token":
            raise Refused("the program has side effects", "export a module that computes its outputs only")
        said = row["arg"] if kind == "user_input" else {"as_tensor": row["arg"]} if kind != "constant_input" else None
        if said is not None and said != argument:
            raise Refused("the program's inputs differ from those of its signature")
        if kind == "constant_input":
            found.append(row["name"])
        elif kind == "user_input":
            ((sort, value),) = argument.items()
            named = sort in ("as_tensor", "as_sym_int")
            name = (value.get("name") or value.get("as_name")) if named else None
            found.append(name if isinstance(name, str) else f"input{len(found)}")
    return found


def check_outputs(specs: list[dict[str, Any]]) -> None:
    """Raises Refused unless all that a program gives are its outputs."""
    for spec in specs:
        ((kind, row),) = spec.items()
        changed = row.get("buffer_name", row.get("user_input_name", row.get("parameter_name")))
        if kind.endswith("_mutation"):
            raise Refused(
                f"forward changes {shown(changed)}, and nothing is kept from one request to the next",
                "make a new tensor instead of changing one in place; call `.eval()` where a layer counts in training",
            )
        if kind != "user_output":
            raise Refused(
                f"the program has a {kind}, and programs of inference are read", "export the model in eval mode"
            )
