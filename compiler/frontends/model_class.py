"""The class of transformers that a folder's config.json names, and what helps where there is none of that name."""

# torch and transformers are typed in part: what comes from them is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from .checkpoint import find_checkpoint
from .errors import FrontendError

COMPARED = (
    "bert", "distilbert", "roberta", "albert", "electra", "mpnet", "deberta", "deberta-v2", "modernbert", "nomic_bert", "t5",
    "vit", "dinov2", "resnet", "convnext",
)  # fmt: skip
"""Model types whose tensors' names an unknown checkpoint's are compared with."""
SPELLED = 0.85
"""Likeness of two names, as difflib counts it, from which one is taken for a misspelt other."""
ALIKE = 0.6
"""Share of names in common, of all names of both, from which two models are said to be alike."""


def class_of(folder: Path, config: Mapping[str, Any], base: bool) -> Any:
    """The transformers class that config names; with `base`, the model without a head. Raises FrontendError."""
    name = str(config["architectures"][0])
    kind = str(config["model_type"])
    found = getattr(transformers, name, None)
    if found is None or not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        remote = (
            " (its code is in the folder, and infc runs no code of a model folder)" if config.get("auto_map") else ""
        )
        raise FrontendError(
            f"{folder.name}/config.json names the class {name!r:.80}, which transformers {transformers.__version__} "
            f"does not have{remote}",
            hint=_instead(folder, name, kind, remote=bool(remote)),
        )
    if found.config_class is not None and found.config_class.model_type != kind:
        raise FrontendError(
            f"{folder.name}/config.json names the class {name!r:.80}, which is for model_type "
            f"{found.config_class.model_type!r}, and says model_type {kind!r:.80}"
        )
    if base:
        # As sentence-transformers: of T5 and its like the encoder, else AutoModel's class.
        encoders: Any = transformers.MODEL_FOR_TEXT_ENCODING_MAPPING
        others: Any = transformers.MODEL_MAPPING
        return encoders.get(found.config_class, None) or others.get(found.config_class, found)
    return found


def _instead(folder: Path, name: str, kind: str, *, remote: bool) -> str:
    """What to do about a class that transformers does not have."""
    known = [n for n in dir(transformers) if n.endswith(("Model", "Classification", "LM"))]
    near = difflib.get_close_matches(name[:80], known, 1, SPELLED)
    if near and not remote:
        return f"did you mean {near[0]!r}?"
    own = _base_class(kind)
    trusted = ", trust_remote_code=True" if remote else ""
    loader = "transformers.AutoModel.from_pretrained" if remote else "your_code.load"
    factory = (
        f'code that you trust goes into a file of your own: `source torch("model.py:make")`, where `def make(): return '
        f'{loader}("{folder.name}"{trusted})`, and input lines'
    )
    if own is not None:
        return f"for model_type {kind!r} transformers has {own.__name__!r}; {factory}"
    alike = near_by_structure(folder)
    if alike is not None:
        return f"its tensors are named as {alike}'s are: compare the two before you name that class; {factory}"
    return factory


def _base_class(kind: str) -> Any:
    """The model without a head of a model type, the first where there are several; None where transformers has none."""
    configs: Any = transformers.CONFIG_MAPPING
    models: Any = transformers.MODEL_MAPPING
    found = models.get(configs[kind], None) if kind in configs else None
    return found[0] if isinstance(found, tuple) else found


def near_by_structure(folder: Path) -> str | None:
    """The class of COMPARED whose tensors are named most like the checkpoint's; None where none is alike or the checkpoint
    cannot be read."""
    try:
        ours = _forms(find_checkpoint(folder).tensors)
    except FrontendError:
        return None
    best, share = None, ALIKE
    for cls in filter(None, map(_base_class, COMPARED)):
        with torch.device("meta"):
            theirs = _forms(cls(cls.config_class()).state_dict())
        found = len(ours & theirs) / max(len(ours | theirs), 1)
        if found > share:
            best, share = cls.__name__, found
    return best


def _forms(names: Iterable[str]) -> frozenset[str]:
    """Names without their numbers, and without a first part that all but a few share (a head's base model)."""
    forms = {re.sub(r"\d+", "N", name) for name in names}
    first = [name.partition(".")[0] for name in forms]
    common = max(set(first), key=first.count, default="")
    if first.count(common) > 0.9 * len(first) and not any(f.startswith(f"{common}.N.") for f in forms):
        forms = {name.removeprefix(f"{common}.") for name in forms}
    return frozenset(forms)
