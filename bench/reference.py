"""The models in float32 torch: `python -m bench.reference MODEL SHAPE...` writes what peers start from.

The model's artifact folder gets, for each shape, SHAPE.npz (the inputs), SHAPE.onnx (static shapes, attention spelt out,
which is what fusers recognize) and SHAPE.npy (eager torch's float32 outputs); an encoder's also calibrate.jsonl (texts to
calibrate with, which none of the measured inputs is from); MiniLM's also dynamic.onnx, stream.npz with stream.npy
(sentences of mixed lengths and their embeddings), and start.json (a text and its embedding). A process of its own, so that no peer shares torch's threads.
"""

# pyright: basic

from __future__ import annotations

import json
import shutil
import sys
import warnings
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .artifacts import made
from .cases import make_case
from .models import ENCODERS, MINILM, MLP, STREAMED, artifacts, model_folder, sentences

STREAM = 500
"""Sentences of the stream: all for accuracy, the first of them timed."""

CALIBRATE = 256
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
MODEL_PY = '''"""The tabular network of bench/, with its weights from mlp.npz."""

from pathlib import Path

import numpy as np
import torch
from torch import nn


class Mlp(nn.Module):
    def __init__(self, arrays) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(len(arrays.files) // 2):
            weight, bias = torch.from_numpy(arrays[f"weight{i}"]), torch.from_numpy(arrays[f"bias{i}"])
            linear = nn.Linear(weight.shape[1], weight.shape[0])
            linear.weight.data, linear.bias.data = weight, bias
            layers += [nn.ReLU(), linear] if layers else [linear]
        self.layers = nn.Sequential(*layers)

    def forward(self, features):
        return self.layers(features)


def make() -> nn.Module:
    return Mlp(np.load(Path(__file__).with_name("mlp.npz"))).eval()
'''


class Embedder(nn.Module):
    """int64 [batch, tokens] ids and mask → float32 [batch, hidden]: the encoder, the mean over kept tokens, length 1."""

    def __init__(self, name: str, attention: str) -> None:
        super().__init__()
        from transformers import AutoModel

        folder = model_folder(name)
        self.encoder = AutoModel.from_pretrained(folder, attn_implementation=attention, dtype=torch.float32).eval()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
        kept = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return nn.functional.normalize((hidden * kept).sum(1) / kept.sum(1), dim=-1)


def torch_model(name: str, attention: str = "sdpa") -> nn.Module:
    """The model, eval mode, float32."""
    if name != "mlp":
        return Embedder(name, attention).eval()
    sys.path.insert(0, str(model_folder(name)))
    try:
        return import_module("model").make()
    finally:
        sys.path.pop(0)


def tensors(name: str, shape: str) -> tuple[torch.Tensor, ...]:
    """The inputs of a shape, in the order of `forward`."""
    with np.load(artifacts(name) / f"{shape}.npz") as arrays:
        return tuple(torch.from_numpy(arrays[key]) for key in arrays.files)


def main(name: str, shapes: list[str]) -> None:
    folder = artifacts(name)
    if name == "bert-base":
        make_bert(folder)
    if name == "mlp":
        make_mlp(folder)
    plain = torch_model(name, "eager")
    if name in ENCODERS:
        words = token_stream()
        made(folder / "calibrate.jsonl", write_calibration)
    if name == STREAMED:
        made(folder / "stream.npz", lambda file: write_stream(file, words))
        made(folder / "stream.npy", lambda file: write_answers(file, plain, folder))
        made(folder / "start.json", lambda file: write_start(file, plain))
        made(folder / "dynamic.onnx", lambda file: export(plain, example(words, 2, 40), file, dynamic=True))
    for shape in shapes:
        case = make_case(name, shape, "float32")
        if name == "mlp":
            rng = np.random.default_rng(case.batch)
            arrays = {"features": rng.normal(size=(case.batch, MLP[0])).astype(np.float32)}
        else:
            arrays = example(words, case.batch, case.tokens)
        made(folder / f"{shape}.npz", lambda file, arrays=arrays: save(file, arrays))
        with torch.inference_mode():
            wanted = plain(*tensors(name, shape)).numpy()
        made(folder / f"{shape}.npy", lambda file, wanted=wanted: save(file, wanted))
        made(folder / f"{shape}.onnx", lambda file, arrays=arrays: export(plain, arrays, file, dynamic=False))


def make_bert(folder: Path) -> None:
    """A BERT-base of seeded random weights with MiniLM's tokenizer, as a Hugging Face folder."""
    target = folder / "model"
    if target.is_dir():
        return
    from transformers import BertConfig, BertModel

    torch.manual_seed(20260)
    temporary = folder / "model.new"
    BertModel(BertConfig(), add_pooling_layer=False).eval().save_pretrained(temporary)
    for file in TOKENIZER:
        shutil.copyfile(MINILM / file, temporary / file)
    temporary.rename(target)


def make_mlp(folder: Path) -> None:
    """mlp.npz (weights as torch draws them) and model.py beside it."""
    torch.manual_seed(7)
    arrays: dict[str, np.ndarray] = {}
    for i, (inner, outer) in enumerate(pairwise(MLP)):
        linear = nn.Linear(inner, outer)
        arrays |= {f"weight{i}": linear.weight.detach().numpy(), f"bias{i}": linear.bias.detach().numpy()}
    made(folder / "model" / "mlp.npz", lambda file: save(file, arrays))
    made(folder / "model" / "model.py", lambda file: file.write_text(MODEL_PY, encoding="utf-8"))


def token_stream() -> np.ndarray:
    """Token ids of many sentences one after the other, without special tokens."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return np.concatenate([tokenizer.encode(t, add_special_tokens=False).ids for t in sentences(600, seed=11)])


def example(words: np.ndarray, batch: int, tokens: int) -> dict[str, np.ndarray]:
    """`batch` rows of exactly `tokens` tokens of running text between [CLS] and [SEP], nothing padded."""
    rng = np.random.default_rng(batch * 1000 + tokens)
    starts = rng.integers(0, len(words) - tokens, batch)
    ids = np.stack([words[s : s + tokens] for s in starts]).astype(np.int64)
    ids[:, 0], ids[:, -1] = 101, 102
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def write_calibration(file: Path) -> None:
    texts = sentences(CALIBRATE, seed=3)
    file.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts), encoding="utf-8")


def write_stream(file: Path, words: np.ndarray) -> None:
    """Sentences of 4 to 200 tokens, lengths log-normal with a median of 32: `ids` one after the other, and `lengths`."""
    rng = np.random.default_rng(5)
    lengths = np.clip(np.rint(np.exp(rng.normal(np.log(32), 0.8, STREAM))), 4, 200).astype(np.int64)
    starts = rng.integers(0, len(words) - 200, STREAM)
    rows = [np.concatenate([[101], words[s : s + n - 2], [102]]) for s, n in zip(starts, lengths, strict=True)]
    save(file, {"ids": np.concatenate(rows).astype(np.int64), "lengths": lengths})


def write_answers(file: Path, model: nn.Module, folder: Path) -> None:
    """The embedding of each sentence of the stream, computed alone."""
    with np.load(folder / "stream.npz") as arrays:
        rows = np.split(arrays["ids"], np.cumsum(arrays["lengths"])[:-1])
    with torch.inference_mode():
        answers = [model(t := torch.from_numpy(row)[None], torch.ones_like(t)).numpy()[0] for row in rows]
    save(file, np.stack(answers))


def write_start(file: Path, model: nn.Module) -> None:
    """A text and its embedding, for the suite that starts servers."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    tokenizer.no_padding()
    (text,) = sentences(1, seed=13)
    with torch.inference_mode():
        ids = torch.tensor([tokenizer.encode(text).ids])
        file.write_text(json.dumps({"text": text, "embedding": model(ids, torch.ones_like(ids))[0].tolist()}))


def save(file: Path, value: np.ndarray | dict[str, np.ndarray]) -> None:
    with file.open("wb") as out:
        if isinstance(value, dict):
            np.savez(out, **value)  # type: ignore[arg-type]
        else:
            np.save(out, value)


def export(model: nn.Module, arrays: dict[str, np.ndarray], file: Path, dynamic: bool) -> None:
    """ONNX with static shapes, or with a dynamic batch and length."""
    names = list(arrays)
    output = "embedding" if "input_ids" in arrays else "score"
    axes = {name: {0: "batch", 1: "tokens"} for name in names} | {output: {0: "batch"}} if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, tuple(torch.from_numpy(a) for a in arrays.values()), str(file), dynamo=False, opset_version=17,
            input_names=names, output_names=[output], dynamic_axes=axes,
        )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
