"""The network of digits.infer: an 8 × 8 image in, ten logits out."""

# pyright: basic

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

WEIGHTS = Path(__file__).resolve().parent / "models" / "digits.safetensors"


class Digits(nn.Module):
    """float32 [batch, 1, 8, 8] of grey values 0..16 → float32 [batch, 10] logits."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False), nn.Conv2d(32, 64, 1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(64, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(image / 16 - 0.5))


def make() -> nn.Module:
    """The trained network. Raises FileNotFoundError that says how to train it."""
    if not WEIGHTS.is_file():
        raise FileNotFoundError(f"{WEIGHTS} is missing: run train.py first")
    model = Digits()
    model.load_state_dict(load_file(WEIGHTS))
    return model.eval()
