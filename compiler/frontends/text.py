"""The tokenizer of a model folder as the folder's own library makes it, and what the library does beside it.

transformers decides by the class in tokenizer_config.json (or the model's) how a folder's files become a tokenizer;
sentence-transformers lower-cases before it where sentence_bert_config.json says so, and takes its limit of tokens from
there, else from tokenizer_config.json and config.json. What goes into a bundle is what they made: one tokenizer.json, the
limit and the side that an over-long text loses. Texts of many kinds are tokenized both ways, and a difference is refused.
"""

# transformers is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import normalizers

from .errors import FrontendError, first_line
from .files import read_json_file
from .imported import Side
from .module_files import TOKENIZER_FILES
from .probe_texts import texts
from .sentence import Settings
from .token_limit import TOKENIZER_CONFIG, Limit, tokenizer_limit
from .tokenizer_check import FILE, FILE_BYTES, SAVE_AGAIN, check_data, open_tokenizer, shown

SETTINGS = (TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json")


@dataclass(frozen=True)
class Text:
    """`tokenizer`: the file; `limit`: tokens that the library takes; `files`: what was read; `close`
    removes the tokenizer where it lies in a temporary folder; `segments`: whether the library tells a model which text of a pair a
    token is of; `frame`: special tokens around a text or a pair; `unknown`: the id of what the vocabulary does not have;
    `joins`: whether tokenizer.json alone says how tokens become text."""

    tokenizer: Path
    limit: Limit
    side: Side
    files: tuple[Path, ...]
    close: Callable[[], None]
    segments: bool
    frame: int
    unknown: int | None
    joins: bool


def library_text(
    folder: Path,
    config: Mapping[str, Any],
    said: Settings,
    maximum: float | None,
    work: Path | None,
    *,
    pairs: bool = False,
) -> Text:
    """The tokenizer of the folder, written below `work` (None: a folder of its own). `maximum`: the greatest id that the
    model has an embedding for; `pairs`: whether texts come two by two.

    Raises FrontendError where there is none, the library refuses it, or it has no form that a server can read.
    """
    import transformers

    sources = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    if not sources:
        raise FrontendError(
            f"{folder.name} has no tokenizer.json, which a task of text needs",
            hint="save it with `AutoTokenizer.from_pretrained(...).save_pretrained(folder)`",
        )
    if sources[0].name == FILE:
        check_data(
            read_json_file(sources[0], dict, FILE_BYTES), shown(sources[0]), None if maximum is None else int(maximum)
        )
    settings = [folder / name for name in SETTINGS if (folder / name).is_file()]
    for path in settings:
        read_json_file(path, dict)
    os.environ["TIKTOKEN_CACHE_DIR"] = ""  # it keeps what it read by its path, whatever is there later
    given = {} if said.limit.tokens is None else {"model_max_length": said.limit.tokens}
    try:
        made: Any = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **given
        )
        backend = made.backend_tokenizer if made.is_fast else None
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise FrontendError(
            f"{shown(sources[0])} is no tokenizer that transformers {transformers.__version__} takes: {first_line(error)[:300]}",
            hint=SAVE_AGAIN,
        ) from None
    if backend is None:
        raise FrontendError(f"{folder.name}: {type(made).__name__} has no fast tokenizer, which the server needs")
    side = str(made.truncation_side)
    if side not in ("left", "right"):
        raise FrontendError(
            f"{folder.name}/{TOKENIZER_CONFIG}: truncation_side is {side!r:.60}, and left or right is needed"
        )
    if said.lower:
        own = [] if backend.normalizer is None else [backend.normalizer]
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
    backend.no_padding()
    backend.no_truncation()
    holder = tempfile.TemporaryDirectory(prefix="infc-text-") if work is None else None
    place = Path(holder.name if holder else work or "") / "text" / folder.name
    place.mkdir(parents=True, exist_ok=True)
    backend.save(str(place / FILE))
    most = tokenizer_limit(made.model_max_length, config, folder.name) if said.limit.tokens is None else said.limit
    _compare(made, place / FILE, side, most.tokens, pairs)
    segments = "token_type_ids" in made.model_input_names
    close = holder.cleanup if holder else lambda: None
    frame = int(backend.num_special_tokens_to_add(pairs))
    unknown = made.unk_token_id if type(made.unk_token_id) is int else None
    joins = type(made).convert_tokens_to_string is transformers.PreTrainedTokenizerFast.convert_tokens_to_string
    return Text(place / FILE, most, side, (*sources, *settings), close, segments, frame, unknown, joins)


def _compare(made: Any, path: Path, side: Side, limit: int | None, pairs: bool) -> None:
    """Raises FrontendError naming the first text of which the file makes other ids (of a pair: or segments) than the
    library."""
    ours = open_tokenizer(path, limit, side)
    cut: dict[str, Any] = {} if limit is None else {"truncation": True, "max_length": limit}
    every = list(texts(list(ours.get_vocab(with_added_tokens=True)), limit))
    # Each with its neighbour: short and long ones meet.
    for number, text in enumerate(every):
        if pairs:
            other = every[number - 1]
            # In lists: alone, the library takes an empty second text for none.
            theirs, found = made([text], [other], return_token_type_ids=True, **cut), ours.encode(text, other)
            want = list(zip(theirs["input_ids"][0], theirs["token_type_ids"][0], strict=True))
            got = list(zip(found.ids, found.type_ids, strict=True))
        else:
            want, got = list(made(text, **cut)["input_ids"]), list(ours.encode(text).ids)
        if want != got:
            raise FrontendError(
                f"{shown(path)} makes other tokens of {text[:60]!r} than {type(made).__name__} of transformers: "
                f"{got[:8]} and {want[:8]}",
                hint=SAVE_AGAIN,
            )


@contextlib.contextmanager
def silent() -> Generator[None]:
    """transformers' progress bars, log lines and warnings held back."""
    from transformers.utils import logging as hf_logging

    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity(logging.CRITICAL)
    hf_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()
