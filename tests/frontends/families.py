"""Small random-weight models of each supported family, saved as Hugging Face folders."""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from infc.dsl.spec import Dim, Input, Model, Source, Task

hf: Any = transformers
TEXT: dict[str, Any] = {
    "vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 258,
}  # fmt: skip
IDS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
MOST_TOKENS = 256
MOST_ROWS = 8
SHAPES = ((1, 1), (3, 17), (MOST_ROWS, MOST_TOKENS))
"""(rows, tokens): both bounds and one between."""


@dataclass(frozen=True)
class Family:
    """A class of transformers with a small configuration. `whole`: attention ops expected (None: its own)."""

    make: Callable[[], Any]
    image: tuple[int, int] | None = None
    whole: int | None = 2


FAMILIES: dict[str, Family] = {
    "bert": Family(lambda: hf.BertModel(hf.BertConfig(**TEXT))),
    "distilbert": Family(
        lambda: hf.DistilBertModel(
            hf.DistilBertConfig(
                vocab_size=120, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=258
            )
        )
    ),
    "roberta": Family(lambda: hf.RobertaModel(hf.RobertaConfig(**TEXT, type_vocab_size=1))),
    "xlm-roberta": Family(lambda: hf.XLMRobertaModel(hf.XLMRobertaConfig(**TEXT, type_vocab_size=1))),
    "mpnet": Family(lambda: hf.MPNetModel(hf.MPNetConfig(**TEXT)), whole=None),
    "albert": Family(lambda: hf.AlbertModel(hf.AlbertConfig(**TEXT, embedding_size=16))),
    "electra": Family(lambda: hf.ElectraModel(hf.ElectraConfig(**TEXT, embedding_size=16))),
    "deberta-v2": Family(
        lambda: hf.DebertaV2Model(
            hf.DebertaV2Config(
                **TEXT,
                relative_attention=True,
                pos_att_type=["p2c", "c2p"],
                max_relative_positions=-1,
                position_buckets=8,
                norm_rel_ebd="layer_norm",
                share_att_key=True,
                position_biased_input=False,
                type_vocab_size=0,
            )
        ),
        whole=None,
    ),
    "modernbert": Family(
        lambda: hf.ModernBertModel(hf.ModernBertConfig(**TEXT, **IDS, local_attention=8, global_attn_every_n_layers=2))
    ),
    "mixtral": Family(
        lambda: hf.MixtralModel(
            hf.MixtralConfig(
                **TEXT, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, sliding_window=None
            )
        )
    ),
    "gpt-oss": Family(
        lambda: hf.GptOssModel(
            hf.GptOssConfig(
                **TEXT, num_key_value_heads=2, head_dim=8, num_local_experts=4, num_experts_per_tok=2, sliding_window=8
            )
        ),
        whole=None,
    ),
    "vit": Family(
        lambda: hf.ViTModel(
            hf.ViTConfig(
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=64,
                image_size=32,
                patch_size=8,
            )
        ),
        image=(32, 32),
    ),
    "resnet": Family(
        lambda: hf.ResNetModel(
            hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="bottleneck")
        ),
        image=(40, 24),
        whole=None,
    ),
    "convnext": Family(
        lambda: hf.ConvNextModel(hf.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], image_size=32, num_stages=2)),
        image=(32, 32),
        whole=None,
    ),
}


def stir(module: Any, scale: float) -> None:
    """Adds noise to every parameter, so that none is zeros or ones."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(scale * torch.randn_like(weight))


def save_family(name: str, folder: Path) -> Path:
    """The family's folder, its weights drawn wide enough that every layer matters. Norms and buffers keep their own."""
    torch.manual_seed(0)
    module = FAMILIES[name].make().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    module.save_pretrained(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    """A BERT tokenizer of a few words."""
    words = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b"])}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def model_of(name: str, folder: Path, *, task: Task | None = None, **changes: Any) -> Model:
    """A spec's model over the saved folder: rows 1..8, tokens 1..256."""
    family = FAMILIES[name]
    dims = [Dim(name="batch", lo=1, hi=MOST_ROWS)]
    inputs: tuple[Input, ...] = ()
    if family.image is None:
        dims.append(Dim(name="tokens", lo=1, hi=MOST_TOKENS))
    elif name == "resnet":
        inputs = (Input(name="pixel_values", dtype="float32", dims=("batch", 3, *family.image)),)
    arguments: dict[str, Any] = {"dims": tuple(dims), "inputs": inputs, "task": task or Task(), **changes}
    return Model(name=name, source=Source(kind="huggingface", path=str(folder), written=folder.name), **arguments)


def inputs_of(name: str, given: tuple[str, ...], rows: int, tokens: int) -> dict[str, NDArray[Any]]:
    """Seeded inputs of one shape; where there are several rows, some are padded (1...10...0)."""
    rng = np.random.default_rng(rows * 100 + tokens)
    image = FAMILIES[name].image
    if image is not None:
        return {"pixel_values": rng.standard_normal((rows, 3, *image)).astype(np.float32)}
    mask = np.ones((rows, tokens), dtype=np.int64)
    if rows > 1:
        mask[1, tokens // 2 :] = 0
        mask[2, tokens - 1 :] = 0
    ids = rng.integers(5, 120, (rows, tokens))
    ids[mask == 0] = 1 if "roberta" in name or name == "mpnet" else 0
    found = {"input_ids": ids, "attention_mask": mask}
    if "token_type_ids" in given:
        found["token_type_ids"] = rng.integers(0, 2, (rows, tokens))
    return found
