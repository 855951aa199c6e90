"""Models beyond the named families: each agrees with torch or is refused by name, with the place; never a wrong answer."""

# torch and transformers are typed in part: what comes from them is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

from infc.compiler.errors import Exit, InfcError
from tests.frontends.families import IDS, TEXT

from .support import Array, compare_with_torch, compiled, write_spec

MOST_TOKENS = 24
IMAGE: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
PIXELS = "input pixel_values: float32[batch, 3, 32, 32]"


def text(**changes: Any) -> dict[str, Any]:
    """The families' small configuration with more settings."""
    return {**TEXT, **changes}


# ── classes of transformers ──────────────────────────────────────────────────────────────────────────────────────────

QUICK = ("bert for questions", "swin")
CLASSES: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "bert for questions": (lambda: hf.BertForQuestionAnswering(hf.BertConfig(**TEXT)), ()),
    "bert for sequences": (lambda: hf.BertForSequenceClassification(hf.BertConfig(**text(num_labels=3))), ()),
    "bert for masked words": (lambda: hf.BertForMaskedLM(hf.BertConfig(**TEXT)), ()),
    "bert for tokens": (lambda: hf.BertForTokenClassification(hf.BertConfig(**TEXT)), ()),
    "roberta for sequences": (lambda: hf.RobertaForSequenceClassification(hf.RobertaConfig(**TEXT)), ()),
    "camembert": (lambda: hf.CamembertModel(hf.CamembertConfig(**TEXT, pad_token_id=1)), ()),
    "modernbert for sequences": (
        lambda: hf.ModernBertForSequenceClassification(
            hf.ModernBertConfig(**text(**IDS, local_attention=8, global_attn_every_n_layers=2))
        ),
        (),
    ),
    "squeezebert": (lambda: hf.SqueezeBertModel(hf.SqueezeBertConfig(**TEXT, embedding_size=32)), ()),
    "rembert": (
        lambda: hf.RemBertModel(hf.RemBertConfig(**TEXT, input_embedding_size=16, output_embedding_size=16)),
        (),
    ),
    "roformer": (lambda: hf.RoFormerModel(hf.RoFormerConfig(**TEXT)), ()),
    "nomic": (lambda: hf.NomicBertModel(hf.NomicBertConfig(**TEXT)), ()),
    "layoutlm": (lambda: hf.LayoutLMModel(hf.LayoutLMConfig(**TEXT)), ()),
    "t5 encoder": (
        lambda: hf.T5EncoderModel(hf.T5Config(vocab_size=120, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)),
        (),
    ),
    "gpt2": (lambda: hf.GPT2Model(hf.GPT2Config(vocab_size=120, n_positions=40, n_embd=32, n_layer=2, n_head=4)), ()),
    "llama": (lambda: hf.LlamaModel(hf.LlamaConfig(**TEXT, num_key_value_heads=2)), ()),
    "swin": (
        lambda: hf.SwinModel(
            hf.SwinConfig(image_size=32, patch_size=4, embed_dim=16, depths=[2, 1], num_heads=[2, 4], window_size=4)
        ),
        (PIXELS,),
    ),
    "deit": (lambda: hf.DeiTModel(hf.DeiTConfig(**IMAGE)), (PIXELS,)),
    "vit for images": (lambda: hf.ViTForImageClassification(hf.ViTConfig(**IMAGE)), (PIXELS,)),
    "resnet for images": (
        lambda: hf.ResNetForImageClassification(
            hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        ),
        (PIXELS,),
    ),
    "mobilenet v2": (lambda: hf.MobileNetV2Model(hf.MobileNetV2Config(depth_multiplier=0.35)), (PIXELS,)),
    "convnext v2": (
        lambda: hf.ConvNextV2Model(
            hf.ConvNextV2Config(hidden_sizes=[8, 16], depths=[1, 1], image_size=32, num_stages=2)
        ),
        (PIXELS,),
    ),
}


def save(module: Any, folder: Path) -> None:
    """Weights wide enough that every layer matters."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    module.eval().save_pretrained(folder)


def folder_spec(module: Any, folder: Path, *lines: str) -> Path:
    save(module, folder / "model")
    tokens = () if lines else (f"dim tokens in 1..{MOST_TOKENS}",)
    return write_spec(folder, 'source huggingface("model")', "dim batch in 1..5", *tokens, *lines)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.full) for n in CLASSES])
def test_other_classes_of_transformers_agree_with_torch(name: str, tmp_path: Path) -> None:
    make, lines = CLASSES[name]
    with compiled(folder_spec(make(), tmp_path, *lines), tmp_path / "work") as built:
        compare_with_torch(built)


REFUSED: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "nystromformer": (
        lambda: hf.NystromformerModel(hf.NystromformerConfig(**TEXT, segment_means_seq_len=8, num_landmarks=4)),
        ("NystromformerModel", "modeling_nystromformer.py:"),
    ),
    "fnet": (
        lambda: hf.FNetModel(
            hf.FNetConfig(vocab_size=120, hidden_size=32, num_hidden_layers=1, intermediate_size=64)
        ),
        ("complex64", "modeling_fnet.py:"),
    ),
    "longformer": (
        lambda: hf.LongformerModel(hf.LongformerConfig(**TEXT, attention_window=4)),
        ("modeling_longformer.py:", "depends on the values"),
    ),
    "wav2vec2": (
        lambda: hf.Wav2Vec2Model(
            hf.Wav2Vec2Config(
                hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64, conv_dim=(8,),
                conv_kernel=(3,), conv_stride=(2,), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
            )
        ),
        ("Wav2Vec2Model", "input_values", "torch("),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "nystromformer" else pytest.mark.full) for n in REFUSED]
)
def test_classes_that_cannot_be_are_refused_by_name_and_place(name: str, tmp_path: Path) -> None:
    make, said = REFUSED[name]
    with pytest.raises(InfcError) as caught, compiled(folder_spec(make(), tmp_path), tmp_path / "work"):
        pass
    assert caught.value.exit_code == Exit.USAGE
    for text in said:
        assert text in str(caught.value)


# ── factories ────────────────────────────────────────────────────────────────────────────────────────────────────────

MODULES = """
import torch
import torch.nn.functional as F
from torch import nn


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 16, batch_first=True)
        self.out = nn.Linear(16, 3)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0)
        self.layers = nn.TransformerEncoder(layer, 2)

    def forward(self, x):
        return self.layers(x)


class TextCnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.conv, self.out = nn.Embedding(50, 16), nn.Conv1d(16, 24, 3, padding=1), nn.Linear(24, 4)

    def forward(self, ids):
        return self.out(F.relu(self.conv(self.words(ids).transpose(1, 2))).amax(2))


class Bags(nn.Module):
    def __init__(self):
        super().__init__()
        self.sum, self.mean, self.max = (nn.EmbeddingBag(10, 4, mode=m) for m in ("sum", "mean", "max"))
        self.most = nn.EmbeddingBag(10, 4, mode="max", padding_idx=3)
        self.average = nn.EmbeddingBag(10, 4, padding_idx=-1)

    def forward(self, ids, scale):
        plain = self.sum(ids, per_sample_weights=scale), self.mean(ids), self.max(ids)
        return *plain, self.most(ids), self.average(ids), F.embedding_bag(ids, self.sum.weight, mode="sum", padding_idx=3)


class Round(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Conv1d(8, 16, 3, padding=2, padding_mode="circular")
        self.plane = nn.Conv2d(3, 4, 5, padding=(1, 2), padding_mode="circular", stride=2)

    def forward(self, x, img):
        return self.line(x.transpose(1, 2)).transpose(1, 2), self.plane(img)


class Missing(nn.Module):
    def forward(self, x):
        return torch.where(torch.isnan(x), torch.zeros_like(x), x) * 2, x.ne(x), (x == x).to(torch.int64)


class Integers(nn.Module):
    def forward(self, x):
        return {"top": x.argmax(-1), "positive": x > 0, "rounded": x.round().to(torch.int32)}


class Centred(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class Columns(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        return self.layer(x.permute(1, 0))


class Crossing(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, q, kv):
        return self.attention(q, kv, kv, need_weights=False)[0]


class Lengths(nn.Module):
    def forward(self, x):
        return x.softmax(1), x.cumsum(1), x.mean(1), x.std(1), x.flip(1), x[:, -1]


class Vision(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16), nn.SiLU(), nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=4), nn.GroupNorm(4, 16), nn.GELU(),
            nn.Conv2d(16, 32, 1), nn.Hardswish(), nn.AvgPool2d(2, ceil_mode=True), nn.PixelShuffle(2),
            nn.AdaptiveAvgPool2d((2, 2)), nn.Flatten(), nn.Linear(32, 5),
        )

    def forward(self, x):
        return self.body(x)


class Constant(nn.Module):
    def forward(self, x):
        return x * 2, torch.ones(4)


class Branch(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Random(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return x + self.calls
"""

WORKS: dict[str, tuple[str, ...]] = {
    "Missing": ("input x: float32[batch, 8], nan allowed",),
    "Recurrent": ("input x: float32[batch, 6, 8]",),
    "Encoder": ("input x: float32[batch, tokens, 32]", "dim tokens in 1..20"),
    "TextCnn": ("input ids: int64[batch, tokens], range 0..49", "dim tokens in 3..20"),
    "Bags": ("input ids: int64[batch, n], range 0..9", "input scale: float32[batch, n]", "dim n in 1..12"),
    "Round": ("input x: float32[batch, tokens, 8]", "input img: float32[batch, 3, 9, 8]", "dim tokens in 2..9"),
    "Integers": ("input x: float32[batch, 8]",),
    "Centred": ('input "x" as y: float32[batch, 8]',),
    "Columns": ("input x: float32[8, batch]",),
    "Crossing": (
        "input q: float32[batch, n, 32]", "input kv: float32[batch, m, 32]", "dim n in 1..9", "dim m in 1..7",
    ),
    "Lengths": ("input x: float32[batch, tokens, 4]", "dim tokens in 2..9"),
    "Vision": ("input x: float32[batch, 3, 40, 40]",),
}  # fmt: skip
FAILS: dict[str, tuple[str, ...]] = {
    "Branch": ("modules.py:", "depends on the values"),
    "Constant": ("output1", "no batch dimension"),
    "Random": ("modules.py:", "randn_like"),
    "Counter": ("calls",),
}


def module_spec(name: str, folder: Path, *lines: str) -> Path:
    (folder / "modules.py").write_text(MODULES)
    return write_spec(folder, f'source torch("modules.py:{name}")', "dim batch in 1..6", *lines)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "Missing" else pytest.mark.full) for n in WORKS])
def test_modules_of_all_kinds_agree_with_torch(name: str, tmp_path: Path) -> None:
    def add_nan(inputs: dict[str, Array]) -> None:
        if name == "Missing":
            inputs["x"][0, 0] = np.nan
        if name == "Bags":
            inputs["ids"][0] = 3  # nothing but padding

    with compiled(module_spec(name, tmp_path, *WORKS[name]), tmp_path / "work") as built:
        compare_with_torch(built, edit=add_nan)


@pytest.mark.full
@pytest.mark.parametrize("name", FAILS)
def test_modules_that_cannot_be_are_refused_by_name_and_place(name: str, tmp_path: Path) -> None:
    spec = module_spec(name, tmp_path, "input x: float32[batch, 4]")
    with pytest.raises(InfcError) as caught, compiled(spec, tmp_path / "work"):
        pass
    assert caught.value.exit_code == Exit.USAGE
    for text in FAILS[name]:
        assert text in str(caught.value)
    assert "0x" not in str(caught.value), "an address of this process means nothing to a reader"
