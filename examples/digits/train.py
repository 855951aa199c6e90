"""Trains the network of digits.infer on scikit-learn's digits (1,797 images, in the package), in a few seconds.

    python examples/digits/train.py

Writes models/digits.safetensors and data/evaluate.npz (`image` float32 [n, 1, 8, 8], `label` int64 [n]).
"""

# pyright: basic

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from model import WEIGHTS, Digits
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn

DATA = Path(__file__).resolve().parent / "data" / "evaluate.npz"
SEED = 20
HELD = 397


def main() -> int:
    """Trains on 1,400 images, evaluates on the others, and writes both files."""
    torch.manual_seed(SEED)
    digits: Any = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    image = digits.images[order].astype(np.float32)[:, None]
    label = digits.target[order].astype(np.int64)
    model = train(torch.from_numpy(image[HELD:]), torch.from_numpy(label[HELD:]))
    with torch.inference_mode():
        right = model(torch.from_numpy(image[:HELD])).argmax(1).numpy() == label[:HELD]
    WEIGHTS.parent.mkdir(exist_ok=True)
    DATA.parent.mkdir(exist_ok=True)
    save_file(model.state_dict(), WEIGHTS)
    np.savez(DATA, image=image[:HELD], label=label[:HELD])
    print(f"digits: trained, {right.mean():.1%} of {HELD} unseen images right; {WEIGHTS.name}")
    return 0


def train(image: torch.Tensor, label: torch.Tensor) -> Digits:
    """Adam over batches of 64, images shifted by up to one pixel; batch norm's statistics are left in eval mode."""
    model = Digits().train()
    loss_of = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(20):
        for rows in torch.randperm(len(image)).split(64):
            shift = [int(n) for n in torch.randint(-1, 2, (2,))]
            optimizer.zero_grad()
            loss = loss_of(model(torch.roll(image[rows], shift, (2, 3))), label[rows])
            loss.backward()
            optimizer.step()
    return model.eval()


if __name__ == "__main__":
    sys.exit(main())
