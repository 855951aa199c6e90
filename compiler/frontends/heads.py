"""What stands behind a classifier's logits: its labels, and the function that makes them scores.

`task classify` follows transformers' text-classification pipeline: softmax over the classes, sigmoid where config.json says
multi_label_classification or there is one class, nothing for a regression. `task rerank` follows sentence-transformers'
CrossEncoder: the function that the folder names, looked up here and never imported, else sigmoid.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ..errors import InfcError
from .errors import FrontendError
from .files import read_bytes
from .imported import Activation

LOGITS = "logits"
MOST_LABELS = 1 << 16
MOST_LABEL = 256
"""Characters of a label."""
LABEL_BYTES = 1 << 20
_KNOWN: dict[str, Activation] = {
    "torch.nn.modules.activation.Sigmoid": "sigmoid", "torch.nn.Sigmoid": "sigmoid",
    "torch.nn.modules.linear.Identity": "none", "torch.nn.Identity": "none",
}  # fmt: skip
_BY_PROBLEM: dict[str, Activation] = {
    "single_label_classification": "softmax", "multi_label_classification": "sigmoid", "regression": "none",
}  # fmt: skip


def classes_of(config: Mapping[str, Any], count: int, name: str) -> tuple[str, ...]:
    """The labels of `count` classes: id2label of config.json, else LABEL_0 and so on, as transformers calls them. Raises
    FrontendError where the table has others, or one of them twice."""
    said: Any = config.get("id2label")
    if said is None:
        return tuple(f"LABEL_{at}" for at in range(count))
    table = cast("dict[str, Any]", said) if isinstance(said, dict) else {}
    labels = tuple(table.get(str(at)) for at in range(count))
    odd = next((at for at, label in enumerate(labels) if str(at) in table and not isinstance(label, str)), None)
    if odd is not None:
        raise FrontendError(
            f"{name}/config.json: id2label has {labels[odd]!r:.80} for class {odd}, and a string is needed"
        )
    if len(table) != count or None in labels:
        raise FrontendError(
            f"{name}/config.json: id2label has labels of {', '.join(map(repr, list(table)[:8]))}, and the model has {count} "
            f"classes, 0 to {count - 1}",
            hint='write one label for each, as in `"id2label": {"0": "no", "1": "yes"}`',
        )
    return checked(cast("tuple[str, ...]", labels), f"{name}/config.json: id2label")


def read_labels(path: Path, count: int) -> tuple[str, ...]:
    """One label a line. Raises InfcError where there are more or fewer than `count`."""
    try:
        text = read_bytes(path, LABEL_BYTES).decode()
    except UnicodeDecodeError as error:
        raise InfcError(f"{path.name} cannot be read as text: {error}") from None
    if text.startswith("\ufeff"):
        raise InfcError(f"{path.name} begins with a byte order mark", hint="save the file as UTF-8 without it")
    labels = tuple(line.removesuffix("\r") for line in text.removesuffix("\n").split("\n"))
    if len(labels) != count:
        raise InfcError(
            f"{path.name} has {len(labels)} labels, and the model has {count} classes", hint="write one label a line"
        )
    return checked(labels, path.name)


def checked(labels: tuple[str, ...], where: str) -> tuple[str, ...]:
    """labels. Raises FrontendError where one is empty, too long or there twice."""
    for at, label in enumerate(labels):
        if not 0 < len(label) <= MOST_LABEL or any(unicodedata.category(c) in ("Cc", "Cs") for c in label):
            raise FrontendError(
                f"{where}: label {at} is {label!r:.80}, and 1 to {MOST_LABEL} characters that are no control characters are needed"
            )
    if len(labels) > MOST_LABELS:
        raise FrontendError(f"{where} has {len(labels)} labels, and at most {MOST_LABELS} are taken")
    most, count = Counter(labels).most_common(1)[0] if labels else ("", 0)
    if count > 1:
        raise FrontendError(f"{where} has the label {most!r:.80} twice")
    return labels


def class_scores(config: Mapping[str, Any], count: int, name: str) -> Activation:
    """What makes scores of a classifier's logits. Raises FrontendError for a problem_type that is not known."""
    problem = config.get("problem_type")
    if problem is None:
        return "sigmoid" if count == 1 else "softmax"
    found = _BY_PROBLEM.get(problem) if isinstance(problem, str) else None
    if found is None:
        raise FrontendError(
            f"{name}/config.json: problem_type is {problem!r:.80}, and {', '.join(_BY_PROBLEM)} are known"
        )
    return "sigmoid" if found == "softmax" and count == 1 else found


def pair_score(config: Mapping[str, Any], said: object, name: str) -> Activation:
    """What makes a score of a reranker's logit; `said`: what config_sentence_transformers.json says. Raises FrontendError for a
    function that is not in the table."""
    nested: Any = config.get("sentence_transformers")
    older: Any = config.get("sbert_ce_default_activation_function")
    if nested is not None and not isinstance(nested, dict):
        raise FrontendError(f"{name}: sentence_transformers is {nested!r:.80}, and an object is needed")
    newer = cast("dict[str, Any]", nested or {})
    # A newer key hides an older one, whatever it says.
    function = said if said is not None else newer.get("activation_fn", older)
    if function is None:
        return "sigmoid"
    if not isinstance(function, str) or function not in _KNOWN:
        raise FrontendError(
            f"{name} names the activation {function!r:.120}, which is not supported",
            hint=f"known are {', '.join(_KNOWN)}; no code of a folder is run",
        )
    return _KNOWN[function]
