"""Trains the network of fraud.infer on synthetic card transactions, in a few seconds on one core.

    python examples/fraud/train.py

Writes models/fraud.safetensors and data/evaluate.npz (`features` float32 [2048, 64], `label` int64 [2048]).
"""

# pyright: basic

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from model import WEIGHTS, Fraud
from numpy.typing import NDArray
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score
from torch import nn

DATA = Path(__file__).resolve().parent / "data" / "evaluate.npz"
SEED = 20
CATEGORIES, COUNTRIES = 16, 12


def main() -> int:
    """Trains, evaluates on transactions that were not seen, and writes both files."""
    torch.manual_seed(SEED)
    x, y = transactions(20_000, seed=SEED)
    held_x, held_y = transactions(2_048, seed=SEED + 1)
    model = train(x, y)
    with torch.inference_mode():
        score = model(torch.from_numpy(held_x)).numpy()[:, 0]
    WEIGHTS.parent.mkdir(exist_ok=True)
    DATA.parent.mkdir(exist_ok=True)
    save_file(model.state_dict(), WEIGHTS)
    np.savez(DATA, features=held_x, label=held_y)
    print(
        f"fraud: trained, AUC {roc_auc_score(held_y, score):.3f} on {len(held_y)} unseen transactions; {WEIGHTS.name}"
    )
    return 0


def transactions(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features float32 [count, 64], standardized, and labels int64 [count] (1 is fraud, some 8 %).

    Columns: 4 of the amount, 4 of the hour and weekday, 3 of place and device, 16 one-hot merchant categories, 12 one-hot
    countries, 20 of the account's history (counts and sums over growing windows), 5 of noise that means nothing.
    """
    rng = np.random.default_rng(seed)
    log_amount = rng.normal(3.5, 1.2, count)
    usual = rng.normal(3.5, 0.6, count)
    hour = rng.uniform(0, 24, count)
    weekday = rng.integers(0, 7, count)
    distance = rng.exponential(1.0, count)
    new_device = (rng.random(count) < 0.2).astype(float)
    category = rng.integers(0, CATEGORIES, count)
    country = rng.integers(0, COUNTRIES, count)
    tempo = rng.gamma(2.0, 1.0, count)
    windows = np.arange(1, 11)
    counts = rng.poisson(tempo[:, None] * windows) / windows
    sums = counts * np.exp(0.3 * rng.normal(size=(count, len(windows)))) * usual[:, None]

    night = (hour < 6).astype(float)
    risk = (
        1.6 * np.maximum(log_amount - usual - 0.8, 0)
        + 1.2 * new_device * np.minimum(distance, 3)
        + 0.9 * night * (category % 5 == 0)
        + 0.5 * np.maximum(counts[:, 0] - counts[:, -1] - 1, 0)
        + 0.7 * (country >= COUNTRIES - 2)
        + 0.4 * rng.normal(size=count)
    )
    label = (risk > 3.6).astype(np.int64)
    angle = 2 * np.pi * hour / 24
    columns = [
        np.stack([log_amount, usual, log_amount - usual, np.exp(log_amount) / 100], 1),
        np.stack([np.sin(angle), np.cos(angle), night, weekday / 6], 1),
        np.stack([distance, new_device, distance * new_device], 1),
        np.eye(CATEGORIES)[category],
        np.eye(COUNTRIES)[country],
        counts,
        sums,
        rng.normal(size=(count, 5)),
    ]
    features = np.concatenate(columns, 1)
    # fixed numbers, not this sample's: a request is standardized as training was
    centre, scale = np.zeros(64), np.ones(64)
    centre[:4], scale[:4] = (3.5, 3.5, 0.0, 0.67), (1.2, 0.6, 1.35, 1.2)
    centre[39:49], scale[39:49] = 2.0, 2.0
    centre[49:59], scale[49:59] = 7.0, 7.0
    return ((features - centre) / scale).astype(np.float32), label


def train(x: NDArray[np.float32], y: NDArray[np.int64]) -> Fraud:
    """Adam over batches of 256 for a few epochs, fraud weighted up; the same network for the same seed and machine."""
    model = Fraud()
    network, target = model.layers[:-1], torch.from_numpy(y).float()[:, None]  # the loss takes logits
    inputs = torch.from_numpy(x)
    loss_of = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(8):
        for rows in torch.randperm(len(inputs)).split(256):
            optimizer.zero_grad()
            loss = loss_of(network(inputs[rows]), target[rows])
            loss.backward()
            optimizer.step()
    return model.eval()


if __name__ == "__main__":
    sys.exit(main())
