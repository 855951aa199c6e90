"""Every class of transformers' AutoModel that takes `input_ids` and `attention_mask`, shrunk to toy size by rule, against torch.

    python -m tests.frontends.sweep [NAME ...] [--jobs N]

Each class is made, saved and imported in a process of its own (forked after the imports), and its graph is run by the reference
interpreter at two sizes with masked tokens. A class that torch itself does not run with these two inputs is not counted.
"""

# torch and transformers are typed in part: what comes from them is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false
from __future__ import annotations

import argparse
import contextlib
import inspect
import os
import re
import resource
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import transformers

from infc.compiler.errors import InfcError
from infc.compiler.frontends import load_here as load
from infc.compiler.ir.interpret import run
from infc.dsl.spec import Dim, Model, Source

from .families import stir

hf: Any = transformers
SECONDS = 180
MEMORY = 8 << 30
SIZES = ((2, 7), (3, 16))
"""(rows, tokens)."""
TOLERANCE = 1e-4
"""Times max(1, largest value of the reference)."""
VOCABULARY = 160
HEADS, HEAD = 4, 8
RULES: tuple[tuple[str, int], ...] = (
    (r"vocab_size$|num_embeddings$", VOCABULARY),
    (r"num_(key_value|kv)_heads$|n_kv_heads$|num_kv_heads$", 2),
    (r"(num_|n_|encoder_|decoder_)?(attention_)?heads?$|num_attention_heads$|n_head$|.*_attention_heads$|num_heads$", 4),
    (r"head_dim$|d_kv$|qk_rope_head_dim$|qk_nope_head_dim$|v_head_dim$|attention_head_size$|.*_head_dim$|rotary_dim$", 8),
    (r"(intermediate|ffn|feed_forward|mlp)_?(size|dim|hidden_size)$|.*_intermediate_size$|d_ff$|ffn_dim$|.*_ffn_dim$|hidden_dim$|n_inner$|d_inner$", 64),
    (r"hidden_size$|d_model$|n_embd$|dim$|emb_dim$|embed_dim$|embedding_size$|d_embed$|word_embed_proj_dim$|.*_hidden_size$|projection_dim$", 32),
    (r"(num|n)_?(hidden_)?layers?$|.*_layers$|num_blocks$|n_layer$|n_layers$", 2),
    (r"(num|n)_(local_|routed_)?experts$|num_experts$", 4),
    (r"num_experts_per_tok$|top_k$|moe_topk$|moe_top_k$", 2),
    (r".*lora_rank$|.*_rank$", 8),
    (r"max_position_embeddings$|n_positions$|n_ctx$|max_seq_len$|max_sequence_length$|max_target_positions$", 64),
    (r"image_size$", 32), (r"patch_size$", 8),
)  # fmt: skip
"""Names of a config's counts, and what each becomes; the first that fits decides."""

State = Literal["right", "wrong", "refused", "no hint", "not run", "failed", "too long"]


@dataclass(frozen=True)
class Outcome:
    name: str
    state: State
    said: str = ""
    seconds: float = 0.0


def candidates() -> dict[str, type[Any]]:
    """The classes by name."""
    found: dict[str, type[Any]] = {}
    for config in hf.MODEL_MAPPING:
        # Some names of the mapping are of no class, or of one that needs another package.
        with contextlib.suppress(TypeError, ValueError, ImportError):
            classes = hf.MODEL_MAPPING[config]
            for cls in classes if isinstance(classes, tuple) else (classes,):
                if {"input_ids", "attention_mask"} <= set(inspect.signature(cls.forward).parameters):
                    found[cls.__name__] = cls
    return dict(sorted(found.items()))


def shrink(config: Any, depth: int = 0) -> Any:
    """The config with its counts made small, in place: two layers, of two kinds where there are two."""
    layers = _two_layers(config)
    own: Any = config.to_dict().get("per_layer_config") or {}
    if own:
        config.per_layer_config = None
    grouped = getattr(config, "num_key_value_heads", 1) != getattr(config, "num_attention_heads", None)
    for name, value in list(vars(config).items()):
        if isinstance(value, transformers.PreTrainedConfig) and depth < 3:
            shrink(value, depth + 1)
        elif name == "num_key_value_heads" and not grouped:
            config.num_key_value_heads = HEADS
        elif type(value) is int and value > 1:
            _replace(config, name, _small(name, value))
        elif isinstance(value, list) and re.search(r"layer_types$|indexer_types$|layers_block_type$", name):
            _replace(config, name, [value[k] for k in layers])
        elif isinstance(value, dict):
            _replace(config, name, _shrunk_table(name, value))
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id"):
        value = getattr(config, name, None)
        if type(value) is int and value >= VOCABULARY:
            setattr(config, name, VOCABULARY - 1)
    if own:
        kept = {at: own.get(str(k), own.get(k)) for at, k in enumerate(layers)}
        config.per_layer_config = {
            at: {name: _small(name, value) if type(value) is int else value for name, value in said.items()}
            for at, said in kept.items()
            if said
        }
    return config


def _two_layers(config: Any) -> tuple[int, int]:
    """The first layer, and the first of another kind, or the second."""
    kinds: Any = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None)
    if not isinstance(kinds, list):
        return 0, 1
    return 0, next((k for k, kind in enumerate(kinds) if kind != kinds[0]), min(1, len(kinds) - 1))


def _small(name: str, value: int) -> int:
    """A count by its name; an id within the vocabulary."""
    small = next((n for rule, n in RULES if re.fullmatch(rule, name)), None)
    if small is not None and small < value:
        return small
    return VOCABULARY - 1 if name.endswith("token_id") and value >= VOCABULARY else value


def _shrunk_table(name: str, value: Any) -> Any:
    """Rotary sections that fill half a head."""
    if name in ("rope_parameters", "rope_scaling") and "mrope_section" in value:
        parts = len(value["mrope_section"])
        return {**value, "mrope_section": [HEAD // 2 - parts + 1, *[1] * (parts - 1)]}
    return value


def _replace(config: Any, name: str, value: Any) -> None:
    # Some names are read only, or checked against others that are still large.
    with contextlib.suppress(Exception):
        setattr(config, name, value)


def inputs_of(rows: int, tokens: int) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(rows)
    mask = np.ones((rows, tokens), np.int64)
    mask[0, tokens - 3 :] = 0
    return {"input_ids": rng.integers(4, VOCABULARY - 10, (rows, tokens)), "attention_mask": mask}


def attempt(name: str, cls: type[Any], work: Path) -> tuple[State, str]:
    """What becomes of one class."""
    torch.manual_seed(0)
    try:
        config = shrink(cls.config_class())  # pyright: ignore[reportAttributeAccessIssue]
        module = cls(config).eval()
        # A router of zeros finds all experts equal, and a choice among equal ones is nobody's promise.
        stir(module, 0.05)
        with torch.no_grad():
            given = {k: torch.from_numpy(v) for k, v in inputs_of(*SIZES[0]).items()}
            module(**given)
    except Exception as error:  # noqa: BLE001 - whatever the class says of a toy
        return "not run", f"{type(error).__name__}: {error}"[:200]
    try:
        module.config.architectures = [name]
        module.save_pretrained(work / "model")
        cls.from_pretrained(work / "model", dtype=torch.float32)  # pyright: ignore[reportAttributeAccessIssue]
    except Exception as error:  # noqa: BLE001 - the rule made what the class itself does not take back
        return "not run", f"{type(error).__name__}: {error}"[:200]
    dims = (Dim(name="batch", lo=1, hi=8), Dim(name="tokens", lo=1, hi=32))
    model = Model(name="m", source=Source(kind="huggingface", path=str(work / "model")), dims=dims)
    try:
        found = load(model, work)
    except InfcError as error:
        return ("refused" if error.hint else "no hint"), error.message[:300]
    want: Any = {}
    for size in SIZES:
        inputs = {k: v for k, v in inputs_of(*size).items() if k in found.graph.input_specs}
        want, got = found.reference(inputs), run(found.graph, inputs)
        for output, right in want.items():
            have, kept = got[output], right
            if have.shape != right.shape:
                return "wrong", f"{output} at {size}: shape {have.shape}, and torch has {right.shape}"
            if right.ndim == 3 and right.shape[:2] == size:
                mask = inputs_of(*size)["attention_mask"] == 1
                have, kept = have[mask], right[mask]
            if kept.size and not np.abs(have - kept).max() <= TOLERANCE * max(1.0, float(np.abs(kept).max())):
                return "wrong", f"{output} at {size} differs by {np.abs(have - kept).max():.3g}"
    return "right", ", ".join(want)


def forked(name: str, cls: type[Any]) -> tuple[int, int, Path]:
    """Starts an attempt: its process, the pipe that it answers through, and its folder."""
    work = Path(tempfile.mkdtemp(prefix="sweep-"))
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read, work
    os.close(read)
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        torch.set_num_threads(1)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY * 4, MEMORY * 4))
        state, said = attempt(name, cls, work)
    except BaseException as error:  # noqa: BLE001 - a fault of ours, and told as one
        state, said = "failed", f"{type(error).__name__}: {error}"[:300]
    os.write(write, f"{state}\t{' '.join(said.split())}".encode()[:4000])
    os._exit(0)


def sweep(classes: dict[str, type[Any]], jobs: int = 2) -> Iterator[Outcome]:
    """What becomes of each class, as they end."""
    waiting = list(classes.items())
    running: dict[int, tuple[str, int, Path, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            name, cls = waiting.pop(0)
            pid, pipe, work = forked(name, cls)
            running[pid] = (name, pipe, work, time.monotonic())
        time.sleep(0.1)
        for pid, (name, pipe, work, begin) in list(running.items()):
            seconds = time.monotonic() - begin
            done, _ = os.waitpid(pid, os.WNOHANG)
            if not done and seconds < SECONDS:
                continue
            if not done:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            with os.fdopen(pipe, "rb") as answer:
                state, _, said = (
                    answer.read().decode(errors="replace").partition("\t") if done else ("too long", "", "")
                )
            shutil.rmtree(work, ignore_errors=True)
            del running[pid]
            yield Outcome(name, state or "failed", said or "the process ended", seconds)  # pyright: ignore[reportArgumentType]


def share(outcomes: list[Outcome]) -> float:
    """Of those that torch runs, the share that is right."""
    counted = [o for o in outcomes if o.state != "not run"]
    return sum(o.state == "right" for o in counted) / max(len(counted), 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    classes = candidates()
    if arguments.names:
        classes = {name: classes[name] for name in arguments.names}
    outcomes: list[Outcome] = []
    for outcome in sweep(classes, arguments.jobs):
        outcomes.append(outcome)
        print(f"{outcome.state:9} {outcome.name} ({outcome.seconds:.0f} s) {outcome.said}", flush=True)
    print(dict(Counter(o.state for o in outcomes)), f"{share(outcomes):.1%} right of those that torch runs")


if __name__ == "__main__":
    main()
