"""The tokenizer that goes into a bundle is one that the server can read, and fits the model beside it."""

from __future__ import annotations

from pathlib import Path

from ..errors import InfcError, require
from ..ir.graph import Graph

IDS = "input_ids"


def check_tokenizer(path: Path, graph: Graph) -> None:
    """Raises InfcError (exit 2) where tokenizer.json is damaged, or gives ids that the model has no embedding for."""
    tokenizers = require("tokenizers")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - the package raises Exception itself
        raise InfcError(
            f"{path} is no tokenizer: {error}",
            hint="save it again with `AutoTokenizer.from_pretrained(...).save_pretrained(folder)`",
        ) from None
    spec = graph.input_specs.get(IDS)
    vocabulary: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    if spec is None or spec.maximum is None or not vocabulary:
        return
    most, token = max((number, token) for token, number in vocabulary.items())
    if most > spec.maximum:
        raise InfcError(
            f"{path} gives token {token!r} the id {most}, and the model's vocabulary ends at {int(spec.maximum)}",
            hint="the tokenizer belongs to another model",
        )
