"""How many tokens a text of a model folder may have, and which file says so.

sentence-transformers takes max_seq_length of sentence_bert_config.json, else what the tokenizer allows, but no more than
config.json has positions. `infc check --explain` and `infc new` ask here too: nothing but JSON is read, and no library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import FrontendError
from .files import read_json_file
from .module_files import ANY, Known, said_in

DEFAULT_TOKENS = 512
MOST_TOKENS = 1 << 31
NO_LIMIT = 1 << 20
"""What transformers writes for a tokenizer without a limit is far above."""
MODULES = "modules.json"
TRANSFORMER_FILES = ("sentence_bert_config.json", "sentence_roberta_config.json", "sentence_xlm-roberta_config.json")
TOKENIZER_CONFIG = "tokenizer_config.json"
_NOTHING: tuple[Any, ...] = (None, {})
TRANSFORMER: Known = {
    "max_seq_length": ANY, "do_lower_case": ANY, "transformer_task": ("feature-extraction",),
    "modality_config": (None, {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}),
    "module_output_name": ("token_embeddings",), "processing_kwargs": _NOTHING, "unpad_inputs": (None, False),
    "query_length": (None,), "document_length": (None,), "query_expansion": (None,), "model_args": _NOTHING,
    "model_kwargs": _NOTHING, "tokenizer_args": _NOTHING, "processor_kwargs": _NOTHING, "config_args": _NOTHING,
    "config_kwargs": _NOTHING,
}  # fmt: skip
"""Keys of sentence_bert_config.json, and the values that each may have (none listed: any, which is checked here)."""
CROSS_TRANSFORMER = TRANSFORMER | {
    "transformer_task": ("sequence-classification",), "module_output_name": (None, "scores"),
    "modality_config": (None, {"text": {"method": "forward", "method_output_name": "logits"}}),
}  # fmt: skip
"""The same of a CrossEncoder's folder."""
_PADDED = (
    "camembert",
    "data2vec-text",
    "longformer",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
)
"""Model types whose positions begin behind the padding's."""


@dataclass(frozen=True)
class Limit:
    """`tokens`: the most of a text, special ones included; None: no file says one. `origin`: who says so."""

    tokens: int | None = None
    origin: str = "no file of the folder says one"

    def within(self, table: int | None, origin: str) -> Limit:
        """No more than a position table of `table` rows (None: there is none) holds."""
        return self if table is None or (self.tokens is not None and self.tokens <= table) else Limit(table, origin)

    def settled(self) -> Limit:
        """With infc's own, where no file says one."""
        return self if self.tokens is not None else Limit(DEFAULT_TOKENS, self.origin)


def transformer_settings(folder: Path, files: list[Path], known: Known) -> tuple[Limit, bool]:
    """max_seq_length and do_lower_case of TRANSFORMER_FILES. Raises FrontendError."""
    limit, lower = Limit(), False
    for name in TRANSFORMER_FILES:
        if (said := said_in(folder, name, files, known)) is not None:
            found, lower = said.get("max_seq_length"), said.get("do_lower_case") or False
            if type(lower) is not bool:
                raise FrontendError(
                    f"{folder.name}/{name}: do_lower_case is {lower!r:.60}, and true or false is needed"
                )
            if found is not None and (type(found) is not int or not 0 <= found <= MOST_TOKENS):
                raise FrontendError(f"{folder.name}/{name}: max_seq_length is {found!r:.60}, and a count is needed")
            limit = Limit(found, f"max_seq_length of {name}") if found else Limit()
    return limit, lower


def tokenizer_limit(longest: object, config: Mapping[str, Any], folder: str) -> Limit:
    """What transformers' model_max_length allows, no more than config.json has positions. Raises FrontendError."""
    if isinstance(longest, bool) or not isinstance(longest, int | float) or not longest >= 1:
        raise FrontendError(f"{folder}/{TOKENIZER_CONFIG}: model_max_length is {longest!r:.60}, and a count is needed")
    limit = Limit(int(longest), f"model_max_length of {TOKENIZER_CONFIG}") if longest < NO_LIMIT else Limit()
    table = config.get("max_position_embeddings")
    return limit.within(table if type(table) is int and table > 0 else None, "max_position_embeddings of config.json")


def folder_limit(folder: Path, kind: str) -> Limit:
    """The limit of a text of the folder's model under the task `kind`, as a build will find it. Raises FrontendError."""
    config: dict[str, Any] = read_json_file(folder / "config.json", dict)
    limit = Limit()
    if kind == "embed":
        limit, _ = transformer_settings(folder, [], TRANSFORMER)
    elif kind == "rerank" and (folder / MODULES).is_file():
        limit, _ = transformer_settings(folder, [], CROSS_TRANSFORMER)
    if limit.tokens is None:
        path = folder / TOKENIZER_CONFIG
        said: dict[str, Any] = read_json_file(path, dict) if path.is_file() else {}
        longest = said.get("model_max_length")
        limit = tokenizer_limit(NO_LIMIT if longest is None else longest, config, folder.name)
    table = config.get("max_position_embeddings")
    if type(table) is not int or table < 1:
        return limit.settled()
    padding = config.get("pad_token_id", 1)
    if config.get("model_type") in _PADDED and type(padding) is int:
        table = max(1, table - padding - 1)
    return limit.within(table, "positions that config.json leaves for tokens").settled()
