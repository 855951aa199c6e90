"""The model in float32 torch: `python -m bench.reference FOLDER CASE...` writes what peers start from.

For each case FOLDER gets CASE.onnx (static shapes, attention spelt out, which is what fusers recognize) and CASE.npy
(the embeddings, float32 [batch, hidden], by eager torch). A process of its own, so that no peer shares torch's threads.
"""

# pyright: basic

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import AutoModel

from .cases import MODEL, Case, inputs, parse_case


class Embedder(nn.Module):
    """int64 [batch, tokens] ids and mask → float32 [batch, hidden]: the encoder, the mean over kept tokens, length 1."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(MODEL, attn_implementation=attention, dtype=torch.float32).eval()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        kept = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return nn.functional.normalize((hidden * kept).sum(1) / kept.sum(1), dim=-1)


def tensors(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """The case's inputs, in the order of `forward`."""
    arrays = inputs(case)
    return torch.from_numpy(arrays["input_ids"]), torch.from_numpy(arrays["attention_mask"])


def main(folder: Path, cases: list[Case]) -> None:
    model = Embedder("eager").eval()
    with torch.inference_mode():
        for case in cases:
            np.save(folder / f"{case.name}.npy", model(*tensors(case)).numpy())
    for case in cases:
        file = folder / f"{case.name}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model, tensors(case), str(file) + ".new", dynamo=False, opset_version=17,
                input_names=["input_ids", "attention_mask"], output_names=["embedding"],
            )  # fmt: skip
        Path(str(file) + ".new").replace(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [parse_case(name) for name in sys.argv[2:]])
