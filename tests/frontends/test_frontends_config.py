"""A config.json that the checkpoint beside it cannot bear out is refused by name, in seconds, before a module is made."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from infc.compiler.frontends.config_check import Held, check_config, held_by
from infc.compiler.frontends.errors import FrontendError
from infc.compiler.frontends.huggingface import load_module, read_config

from .families import FAMILIES, save_family

SECONDS = 30
"""Far above what a refusal takes on a loaded machine, far below what ten million layers take."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("families")
    for name in ("bert", "distilbert", "resnet", "convnext", "vit"):
        save_family(name, folder / name)
    return folder


def changed(saved: Path, name: str, folder: Path, **changes: Any) -> Path:
    for file in (saved / name).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def test_an_adapter_is_refused(saved: Path, tmp_path: Path) -> None:
    folder = changed(saved, "bert", tmp_path)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(FrontendError, match="adapters are not applied"):
        load_module(folder, read_config(folder), base=True)


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("bert", {"transformers_weights": "other.safetensors"}, "has transformers_weights"),
    ("bert", {"configuration_files": ["config.4.0.0.json"]}, "has configuration_files"),
    ("vit", {"qkv_bias": "4"}, "expected bool, got str"),
    ("bert", {"quantization_config": {"quant_method": "nothing known"}}, "has quantization_config"),
    ("bert", {"compression_config": {}}, "has compression_config"),
    ("bert", {"vocab_size": 0}, "vocab_size is 0"),
    ("bert", {"vocab_size": -1}, "vocab_size is -1"),
    ("bert", {"vocab_size": "120"}, "vocab_size is '120'"),
    ("bert", {"vocab_size": [120]}, "config.json"),
    ("bert", {"vocab_size": 1.5}, "vocab_size is 1.5"),
    ("bert", {"vocab_size": True}, "vocab_size is True"),
    ("bert", {"vocab_size": 10**9}, "vocab_size is 1000000000"),
    ("bert", {"vocab_size": 10**40}, "vocab_size"),
    ("bert", {"hidden_size": 10**9}, "hidden_size"),
    ("bert", {"hidden_size": 65_000}, "elements"),
    ("bert", {"intermediate_size": {"a": 1}}, "intermediate_size"),
    ("bert", {"num_hidden_layers": 10_000_000}, "num_hidden_layers is 10000000"),
    (
        "bert",
        {"num_hidden_layers": 40},
        "makes more layers than the checkpoint has: there is no tensor 'encoder.layer.10.",
    ),
    ("bert", {"num_hidden_layers": -3}, "num_hidden_layers is -3"),
    ("bert", {"num_attention_heads": 0}, "num_attention_heads"),
    ("bert", {"num_attention_heads": 5}, "multiple|heads"),
    ("bert", {"max_position_embeddings": 10**12}, "max_position_embeddings"),
    ("bert", {"hidden_dropout_prob": "often"}, "hidden_dropout_prob"),
    ("bert", {"layer_norm_eps": "small"}, "layer_norm_eps"),
    ("bert", {"hidden_act": 7}, "config.json|model|bert|cannot"),
    ("bert", {"hidden_act": "exec"}, "cannot|config.json"),
    ("bert", {"architectures": ["BertModel"], "text_config": {"num_hidden_layers": 10**8}}, "text_config.num_hidden"),
    ("distilbert", {"n_layers": 10_000_000}, "n_layers"),
    ("distilbert", {"dim": 2**31}, "dim"),
    ("resnet", {"depths": [1, 10_000_000]}, r"depths\[1\]"),
    ("resnet", {"depths": [60] * 50}, "depths makes 3,000 layers"),
    ("resnet", {"depths": [1] * 100_000}, "depths is a list of 100,000"),
    ("resnet", {"hidden_sizes": [8, 10**9]}, r"hidden_sizes\[1\]"),
    ("resnet", {"hidden_sizes": "8,16"}, "cannot|config.json"),
    ("resnet", {"depths": None}, "cannot|config.json"),
    ("convnext", {"hidden_sizes": [8, 60_000]}, "elements"),
    ("vit", {"image_size": 10**9}, "image_size"),
    ("vit", {"patch_size": 0}, "patch_size"),
    ("vit", {"num_channels": 10**7}, "num_channels"),
]


@pytest.mark.parametrize(("name", "changes", "said"), BAD, ids=[f"{n}-{json.dumps(c)[:40]}" for n, c, _ in BAD])
def test_an_impossible_config_is_refused_before_a_module_is_made(
    saved: Path, tmp_path: Path, name: str, changes: dict[str, Any], said: str
) -> None:
    folder = changed(saved, name, tmp_path, **changes)
    begun = time.monotonic()
    with pytest.raises(FrontendError, match=said):
        load_module(folder, read_config(folder), base=False)
    assert time.monotonic() - begun < SECONDS


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_familys_own_config_is_taken(tmp_path: Path, name: str) -> None:
    folder = save_family(name, tmp_path)
    assert load_module(folder, read_config(folder), base=False).missing == ()


def test_configs_of_published_sizes_are_taken() -> None:
    """Numbers far above any extent that make nothing larger: ids, angles, generation limits, lists of labels."""
    large = held_by([(50368, 768), *[(768, 768)] * 132])
    check_config(
        {
            "vocab_size": 50368, "num_hidden_layers": 22, "rope_theta": 10_000_000, "global_rope_theta": 160000.0,
            "pad_token_id": 50283, "sparse_pred_ignore_index": -100, "max_position_embeddings": 131072,
            "model_max_length": 10**30, "max_relative_positions": -1, "layer_types": ["full_attention"] * 22,
            "id2label": {str(i): f"LABEL_{i}" for i in range(21843)}, "label2id": {f"LABEL_{i}": i for i in range(21843)},
            "task_specific_params": {"text-generation": {"max_length": 10**6}}, "image_size": 1024,
        },
        large,
        "m/config.json",
    )  # fmt: skip
    check_config(
        {"num_hidden_layers": 12, "hidden_size": 4096, "intermediate_size": 16384}, held_by([(30000, 128)] * 25), ""
    )


SMALL = Held(tensors=40, extent=2048, elements=10**6)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"moe_layers": list(range(1, 48, 2))}, ""),
        ({"text_config": {"cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38]}}, ""),
        ({"rope_parameters": {"max_position_embeddings": 1 << 18}, "audio_chunk_size": 480_000}, ""),
        ({"num_experts": 512}, ""),
        ({"num_experts": 5000}, "num_experts is 5000, and the checkpoint has no extent above 2,048"),
        ({"num_layers": [2, 30, 60, 90]}, "num_layers makes 182 layers of 40 tensors"),
        ({"moe_layers": [30, 30, 30, 30]}, "moe_layers makes 120 layers of 40 tensors"),
        ({"moe_layers": [1, 2, 1000]}, "moe_layers[2] is 1000, and the checkpoint has 40 tensors"),
    ],
)
def test_lists_of_places_are_no_counts_and_experts_may_be_in_one_tensor(config: dict[str, Any], said: str) -> None:
    if not said:
        return check_config(config, SMALL, "config.json")
    with pytest.raises(FrontendError) as caught:
        check_config(config, SMALL, "config.json")
    assert said in caught.value.message
    assert caught.value.hint
    return None
