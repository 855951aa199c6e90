"""Logits of tokens as entities, as transformers' token-classification pipeline makes them, and as the bundle's server does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, cast, get_args

import numpy as np
from numpy.typing import NDArray

from .arguments import caller

Array = NDArray[Any]
Aggregation = Literal["none", "simple", "first", "average", "max"]
PLACES = ("starts", "ends", "special")
"""Columns of a row of tokens: where each stands, in code points, and whether the tokenizer put it there."""


WISHES = ("aggregation_strategy", "ignore_labels")
"""What a request may say of its entities."""


class Entity(TypedDict, total=False):
    """`entity` and `index` of a token, `entity_group` of what is made of several; `start` and `end` in code points."""

    entity: str
    entity_group: str
    score: float
    index: int
    word: str
    start: int
    end: int


@dataclass(frozen=True)
class Wish:
    """How tokens become entities, and the labels that are left out."""

    aggregation: Aggregation
    ignore: tuple[str, ...]


def wish_of(request: Mapping[str, object], usual: Aggregation) -> Wish:
    """What a request says, under the pipeline's names. Raises InferError."""
    how, ignore = (request.get(name) for name in WISHES)
    known = get_args(Aggregation)
    if how is not None and how not in known:
        raise caller(f"aggregation_strategy must be one of {', '.join(known)}, not {how!r:.80}")
    if ignore is None:
        labels: Sequence[object] = ("O",)
    elif isinstance(ignore, list | tuple):
        labels = cast("Sequence[object]", ignore)
    else:
        raise caller(f"ignore_labels must be a list of labels, not {type(ignore).__name__}")
    if not all(isinstance(label, str) for label in labels):
        raise caller("ignore_labels must be a list of labels, and one of them is no text")
    return Wish(cast("Aggregation", how or usual), tuple(cast("Sequence[str]", labels)))


@dataclass(frozen=True)
class _Piece:
    """A token of the text itself; `part`: it goes on with the word of the one before."""

    index: int
    word: str
    scores: Array
    start: int
    end: int
    part: bool


@dataclass(frozen=True)
class _Found:
    label: str
    score: float
    word: str
    start: int
    end: int
    index: int | None = None


class Words:
    """Makes entities. `tokenizer`: of the package `tokenizers`; `unknown`: the id of what its vocabulary does not have."""

    def __init__(self, tokenizer: Any, labels: Sequence[str], unknown: int | None) -> None:
        self._tokenizer, self._labels, self._unknown = tokenizer, labels, unknown
        self._marks = bool(getattr(tokenizer.model, "continuing_subword_prefix", None))

    def entities(self, text: str, row: Mapping[str, Sequence[int]], scores: Array, wish: Wish) -> list[Entity]:
        """Entities of a text whose tokens are `row`, with scores, float32 [tokens, labels]."""
        pieces = self._pieces(text, row, scores)
        if wish.aggregation == "none":
            found = [self._token(piece) for piece in pieces]
        elif wish.aggregation == "simple":
            found = self._grouped(self._token(piece) for piece in pieces)
        else:
            found = self._grouped(self._word(word, wish.aggregation) for word in _words(pieces))
        return [_shown(entity) for entity in found if entity.label not in wish.ignore]

    def _pieces(self, text: str, row: Mapping[str, Sequence[int]], scores: Array) -> list[_Piece]:
        pieces: list[_Piece] = []
        columns = zip(row["input_ids"], *(row[name] for name in PLACES), strict=True)
        for index, (number, start, end, special) in enumerate(columns):
            if special:
                continue
            word, seen = str(self._tokenizer.id_to_token(number) or ""), text[start:end]
            part = len(word) != len(seen) if self._marks else start > 0 and " " not in text[start - 1 : start + 1]
            if number == self._unknown:
                word, part = seen, False
            pieces.append(_Piece(index, word, scores[index], start, end, part))
        return pieces

    def _token(self, piece: _Piece) -> _Found:
        at = int(piece.scores.argmax())
        return _Found(self._labels[at], float(piece.scores[at]), piece.word, piece.start, piece.end, piece.index)

    def _word(self, pieces: list[_Piece], how: Aggregation) -> _Found:
        scores = pieces[0].scores
        if how == "average":
            scores = np.mean([piece.scores for piece in pieces], axis=0)
        elif how == "max":
            scores = max(pieces, key=lambda piece: float(piece.scores.max())).scores
        at = int(scores.argmax())
        word = self._join([piece.word for piece in pieces])
        return _Found(self._labels[at], float(scores[at]), word, pieces[0].start, pieces[-1].end)

    def _grouped(self, entities: Iterable[_Found]) -> list[_Found]:
        """Neighbours of one kind as one: what begins with `B-` begins a new one."""
        groups: list[list[_Found]] = []
        for entity in entities:
            if groups and not entity.label.startswith("B-") and _kind(groups[-1][-1].label) == _kind(entity.label):
                groups[-1].append(entity)
            else:
                groups.append([entity])
        return [
            _Found(
                group[0].label.split("-", 1)[-1], float(np.mean([entity.score for entity in group])),
                self._join([entity.word for entity in group]), group[0].start, group[-1].end,
            )
            for group in groups
        ]  # fmt: skip

    def _join(self, words: list[str]) -> str:
        decoder = self._tokenizer.decoder
        return " ".join(words) if decoder is None else str(decoder.decode(words))


def _words(pieces: Sequence[_Piece]) -> list[list[_Piece]]:
    words: list[list[_Piece]] = []
    for piece in pieces:
        if words and piece.part:
            words[-1].append(piece)
        else:
            words.append([piece])
    return words


def _kind(label: str) -> str:
    return label[2:] if label.startswith(("B-", "I-")) else label


def _shown(found: _Found) -> Entity:
    rest: Entity = {"score": found.score, "word": found.word, "start": found.start, "end": found.end}
    if found.index is None:
        return {"entity_group": found.label, **rest}
    return {"entity": found.label, "index": found.index, **rest}
