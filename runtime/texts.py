"""Texts as a bundle's model takes them, and what its task makes of the outputs: as the bundle's server does, in this process.

The package `tokenizers` is needed for this alone, and imported when the first text comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from .arguments import caller
from .errors import InferError
from .tags import PLACES, WISHES, Wish, Words, wish_of

Array = NDArray[Any]
Row = dict[str, list[int]]
PARTIAL = "pooling_mask"
"""The input that says which tokens are pooled, of a model that leaves its prompt's out; ones where it is not given."""


class TooLong(ValueError):
    """A text has more tokens than the limit and is not to be cut."""


def token_rows(
    tokenizer: Any,
    texts: Iterable[Sequence[str]],
    *,
    limit: int,
    prompt: str,
    pooled_prompt: bool,
    segments: bool,
    first: int,
    places: bool = False,
) -> list[Row]:
    """input_ids, attention_mask and token_type_ids of each text behind the prompt, or of each pair, and pooling_mask where the
    prompt's tokens are not pooled; with `places` where each token stands too. `first` is the number of the first in messages.
    Raises TooLong."""
    left_out = 0 if pooled_prompt else _prompt_tokens(tokenizer, prompt)
    found: list[Row] = []
    for number, (text, *pair) in enumerate(texts, first):
        encoded = tokenizer.encode(prompt + text, *pair)
        count = len(encoded.ids)
        if count > limit:
            raise TooLong(f"{'pair' if pair else 'text'} {number} has {count} tokens, and the limit is {limit}")
        types = list(encoded.type_ids) if segments else [0] * count
        row = {"input_ids": list(encoded.ids), "attention_mask": list(encoded.attention_mask), "token_type_ids": types}
        if not pooled_prompt:
            row[PARTIAL] = [int(at >= left_out) for at in range(count)]
        if places:
            starts, ends = zip(*encoded.offsets, strict=True) if count else ((), ())
            row |= dict(zip(PLACES, (list(starts), list(ends), list(encoded.special_tokens_mask)), strict=True))
        found.append(row)
    return found


def _prompt_tokens(tokenizer: Any, prompt: str) -> int:
    """How many tokens at the front of a text are its prompt's, as sentence-transformers counts them: all that the prompt has
    alone, without a special token at its end."""
    if not prompt:
        return 0
    ids: list[int] = tokenizer.encode(prompt).ids
    special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    return len(ids) - (bool(ids) and ids[-1] in special)


class Texts:
    """The texts of one model. `names`: of a request's texts, one or two."""

    def __init__(self, task: Mapping[str, Any], tokenizer: Path) -> None:
        """`task`: of the manifest. Raises KeyError where it is damaged."""
        self.names = tuple(str(name) for name in task["texts"])
        self._task, self._file = task, tokenizer
        self._kind, self._limit = str(task["kind"]), int(task["limit"])
        self._tokenizer: Any = None

    def rows(self, request: Mapping[str, object]) -> list[Row]:
        """The tokens of a request's texts, a row each. A single query goes with each of several documents. Raises InferError."""
        wishes = WISHES if self._kind == "tag" else ()
        unknown = sorted(set(request) - {*self.names, *wishes})
        if unknown:
            raise caller(f"there is no input {unknown[0]!r} beside texts; the texts are {', '.join(self.names)}")
        if wishes:
            self._wish(request)  # what is wrong with it is said before the model runs
        lists = [self._list(request, name) for name in self.names]
        if len(lists) == 2 and self._kind == "rerank" and isinstance(request[self.names[0]], str):
            lists[0] *= len(lists[1])
        if len({len(given) for given in lists}) > 1:
            counts = " and ".join(f"{name} has {len(given)}" for name, given in zip(self.names, lists, strict=True))
            raise caller(f"{counts} texts: pairs have as many of both")
        task = self._task
        try:
            return token_rows(
                self._opened(), zip(*lists, strict=True), limit=self._limit, prompt=str(task.get("prompt", "")),
                pooled_prompt=bool(task.get("include_prompt", True)), segments=bool(task.get("segments", True)), first=0,
                places=self._kind == "tag",
            )  # fmt: skip
        except TooLong as error:
            raise caller(f"{error}; `truncate` behind the input in the spec cuts it") from None

    def answer(
        self, request: Mapping[str, object], rows: Sequence[Row], outputs: Mapping[str, Sequence[Array]]
    ) -> dict[str, Any]:
        """What the task makes of the outputs of a request's rows, [1, ...] each behind none at all: `embedding`, float32 [rows,
        width]; `label` and `score`, [rows, top] of classes, best first; `score`, float32 [rows], of pairs; `entities`, a list
        for each text, of tokens. Raises InferError."""
        if self._kind == "tag":
            (found,) = outputs.values()
            wish = self._wish(request)
            words = Words(self._opened(), [str(label) for label in self._task["labels"]], self._task.get("unknown"))
            texts = self._list(request, self.names[0])
            scored = zip(texts, rows, found[1:], strict=True)
            return {
                "entities": [words.entities(text, row, _scores("softmax", each[0]), wish) for text, row, each in scored]
            }
        joined = {name: np.concatenate(parts) for name, parts in outputs.items()}
        if self._kind == "embed":
            return joined
        (logits,) = joined.values()
        scores = _scores(str(self._task["activation"]), logits)
        if self._kind == "rerank":
            return {"score": scores[:, 0]}
        order = np.argsort(-scores, axis=1, kind="stable")[:, : int(self._task["top"])]
        return {
            "label": np.array([str(label) for label in self._task["labels"]])[order],
            "score": np.take_along_axis(scores, order, 1),
        }

    def _wish(self, request: Mapping[str, object]) -> Wish:
        return wish_of(request, self._task.get("aggregation") or "none")

    def _list(self, request: Mapping[str, object], name: str) -> list[str]:
        if name not in request:
            raise caller(f"the text {name!r} is missing")
        value = request[name]
        texts = [value] if isinstance(value, str) else value
        if isinstance(texts, bytes | Mapping) or not isinstance(texts, Sequence | np.ndarray):
            raise caller(f"{name!r} must be a text or a list of texts, not {type(value).__name__}")
        listed = [str(text) if isinstance(text, str) else text for text in cast("Sequence[object]", texts)]
        wrong = next((at for at, text in enumerate(listed) if not isinstance(text, str)), None)
        if wrong is not None:
            raise caller(f"{name}[{wrong}] must be a text, not {type(listed[wrong]).__name__}")
        return cast("list[str]", listed)

    def _opened(self) -> Any:
        if self._tokenizer is None:
            try:
                library: Any = import_module("tokenizers")
            except ImportError:
                raise caller(
                    "texts need the package `tokenizers` (pip install tokenizers); without it give "
                    "input_ids and attention_mask"
                ) from None
            try:
                tokenizer = library.Tokenizer.from_file(str(self._file))
            except Exception as error:  # noqa: BLE001 - whatever the library raises
                raise InferError("CALLER", 0, f"{self._file} cannot be read: {error}") from None
            tokenizer.no_padding()
            tokenizer.no_truncation()
            if self._task.get("overflow", "reject") == "truncate":
                tokenizer.enable_truncation(self._limit, direction=str(self._task.get("truncation_side", "right")))
            self._tokenizer = tokenizer
        return self._tokenizer


def _scores(activation: str, logits: Array) -> Array:
    """Scores of logits [rows, classes], in float32."""
    if activation == "none":
        return logits
    if activation == "sigmoid":
        with np.errstate(over="ignore"):
            return np.float32(1) / (np.float32(1) + np.exp(-logits))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
