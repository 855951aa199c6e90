"""Mutated model folders and `.bin` checkpoints through the whole import, in forked children."""

# torch and transformers are typed in part: what comes from them is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
import transformers

from infc.compiler.frontends import load_here

from .families import model_of
from .fuzz_mutate import json_text, mutated_bytes, mutated_json
from .fuzz_run import run_children

CONFIG, WEIGHTS, PICKLE = "config.json", "model.safetensors", "pytorch_model.bin"


class _Touch:
    """Unpickled by a reader that runs what it reads, makes the canary."""

    def __reduce__(self) -> Any:
        return os.open, ("canary", os.O_CREAT)


def run_folders(count: int, seed: int, folder: Path) -> Counter[str]:
    """`count` folders of a small BERT with config.json, the safetensors file or a .bin file made wrong."""
    source = folder / "model"
    config = transformers.BertConfig(
        vocab_size=12, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=258, architectures=["BertModel"],
    )  # fmt: skip
    module: Any = transformers.BertModel(config)
    module.save_pretrained(source)
    good = {name: (source / name).read_bytes() for name in (CONFIG, WEIGHTS)}
    spec = model_of("bert", source)
    load_here(spec, folder)  # what is imported on the way is imported here
    names = [CONFIG, WEIGHTS, PICKLE]

    def prepare(data: bytes) -> bool:
        name, _, content = data.partition(b"\n")
        for each in names:
            (source / each).unlink(missing_ok=True)
        (source / CONFIG).write_bytes(good[CONFIG])
        if name.decode() != PICKLE:
            (source / WEIGHTS).write_bytes(good[WEIGHTS])
        (source / name.decode()).write_bytes(content)
        return True

    return run_children(
        _mutants(good, module.state_dict(), random.Random(seed)), count, f"folders, seed {seed}", prepare,
        lambda: load_here(spec, folder), folder,
    )  # fmt: skip


def _mutants(good: dict[str, bytes], state: dict[str, Any], rng: random.Random) -> Iterator[bytes]:
    """A file's name, a line feed, and its content."""
    config = json_text(json.dumps(json.loads(good[CONFIG])).encode())
    length = int.from_bytes(good[WEIGHTS][:8], "little")
    header, rest = json_text(good[WEIGHTS][8 : 8 + length].rstrip()), good[WEIGHTS][8 + length :]
    pickles = [_saved(state), _saved(state, _use_new_zipfile_serialization=False), _saved({**state, "x": _Touch()})]
    while True:
        kind = rng.random()
        if kind < 0.6:
            yield CONFIG.encode() + b"\n" + mutated_json(config, rng)
        elif kind < 0.8:
            text = mutated_json(header, rng)
            whole = len(text).to_bytes(8, "little") + text + rest
            yield WEIGHTS.encode() + b"\n" + (mutated_bytes(whole, rng) if rng.random() < 0.2 else whole)
        else:
            yield PICKLE.encode() + b"\n" + mutated_bytes(rng.choice(pickles), rng, tail=2000)


def _saved(state: dict[str, Any], **how: Any) -> bytes:
    made = BytesIO()
    torch.save(state, made, **how)
    return made.getvalue()
