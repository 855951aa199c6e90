"""What a frontend gives: the graph, its MLIR, a reference to compare with, and what the bundle's task needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ...dsl.spec import Aggregation, Policy, Pooling
from ..ir.graph import Array, Graph

Side = Literal["left", "right"]
TextKind = Literal["embed", "classify", "rerank", "tag"]
Activation = Literal["softmax", "sigmoid", "none"]
Tokenize = Callable[[Sequence[Sequence[str]], bool], list[dict[str, list[int]]]]
"""Texts, and whether they are cut at the limit -> input_ids, attention_mask, token_type_ids and pooling_mask of each."""
Reference = Callable[[Mapping[str, Array]], dict[str, Array]]
"""Runs the original model: inputs by name (one whole batch) -> outputs by the Graph's names. float32, as torch computes."""


@dataclass(frozen=True)
class TextTask:
    """A task of texts, resolved. `texts`: the names under which a request gives its text, or a pair; `limit` counts special
    tokens too; `tokenizer` is the tokenizer.json that the folder's library made, `side` where a text that is too long is cut (of
    a pair, the longer one first); without `segments` the model is not told which text of a pair a token is of.

    Of `embed`: `prompt` stands before each text, unless a request asks for another, one of `prompts` by its name, say; without
    `include_prompt` its tokens are not pooled; `dimensions`: fewer than it has, to which an embedding may be cut (Matryoshka).
    Of `classify` and `rerank`: `activation` makes scores of logits; an answer names the `top` best of `labels`.
    Of `tag`: `aggregation` makes entities of labelled tokens; `unknown` is the id of what the vocabulary does not have.
    """

    kind: TextKind
    texts: tuple[str, ...]
    tokenizer: Path
    limit: int
    overflow: Policy
    side: Side
    segments: bool = True
    prompt: str = ""
    prompts: Mapping[str, str] = field(default_factory=dict[str, str])
    include_prompt: bool = True
    pooling: tuple[Pooling, ...] = ()
    normalize: bool = False
    dimensions: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    activation: Activation | None = None
    top: int = 1
    aggregation: Aggregation = "none"
    unknown: int | None = None


@dataclass(frozen=True)
class Imported:
    """A model, imported. `used_files` are those that the result depends on (for the cache key; of a folder, the names in it);
    `text` is None for `task tensor`; `notes` are for the build report. Call `close` when the reference is done with."""

    graph: Graph
    mlir: str
    reference: Reference
    used_files: tuple[Path, ...]
    text: TextTask | None = None
    notes: tuple[str, ...] = ()
    close: Callable[[], None] = lambda: None
    layers: Reference | None = None
    """The output of each layer of the original model, by module path, as the reference runs it; None where the source has
    no modules (an exported program)."""

    tokenize: Tokenize | None = None
    """Tokenizes in the worker; None where the model was imported in this process, or takes no text."""

    @property
    def tokenizer(self) -> Path | None:
        """The tokenizer file that goes into the bundle."""
        return self.text.tokenizer if self.text is not None else None


@dataclass(frozen=True)
class Options:
    """`work` is a folder for what a frontend writes (weights of a factory's module); None: a temporary one."""

    work: Path | None = None
    python: str | None = None
    """The interpreter that a factory runs in; None: this one."""
    require_sandbox: bool = False
    """Refuse to import what people did not write themselves where the kernel cannot lock the worker in."""
    import_memory: int = 0
    """Bytes that an import may take; 0: by the source's size."""
    import_seconds: float = 0.0
    """Seconds that it may take; 0: by the source's size."""
    allow_paths: tuple[str, ...] = ()
    """Folders beside the spec's that a model's links may lead to (--allow-path)."""
    warn: Callable[[str], None] = lambda _: None
