"""The network of fraud.infer: 64 standardized numbers in, the probability of fraud out."""

# pyright: basic

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

WEIGHTS = Path(__file__).resolve().parent / "models" / "fraud.safetensors"


class Fraud(nn.Module):
    """float32 [batch, 64] → float32 [batch, 1], each between 0 and 1."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1), nn.Sigmoid()
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.layers(features)


def make() -> nn.Module:
    """The trained network. Raises FileNotFoundError that says how to train it."""
    if not WEIGHTS.is_file():
        raise FileNotFoundError(f"{WEIGHTS} is missing: run train.py first")
    model = Fraud()
    model.load_state_dict(load_file(WEIGHTS))
    return model.eval()
