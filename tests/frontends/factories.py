"""The text of a user's file of factories: what they give, and how they fail."""

FACTORIES = '''
import json
from pathlib import Path
from dataclasses import dataclass
from typing import NamedTuple
import torch
from torch import nn
from torch.nn import functional as F


class Tower(nn.Module):
    """A tabular MLP with everything in it."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 64))
        self.body = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 1))
        self.register_buffer("shift", torch.arange(64.0), persistent=False)

    def forward(self, features):
        return torch.sigmoid(self.body(features * self.scale + self.shift * 0.01))


class Inner(Tower):
    def forward(self, features):
        return {"score": super().forward(features), "mean": features.mean(-1)}


class Digits(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.b = nn.Conv2d(8, 16, 3, stride=2, groups=2)
        self.head = nn.Linear(16, 10)

    def forward(self, image):
        x = F.max_pool2d(F.relu(self.norm(self.a(image))), 2)
        return self.head(F.adaptive_avg_pool2d(F.gelu(self.b(x)), 1).flatten(1))


class Ranker(nn.Module):
    """Two inputs, one of them of integers."""

    def __init__(self):
        super().__init__()
        self.items = nn.Embedding(50, 8)

    def forward(self, user, items):
        return torch.einsum("bd,bnd->bn", user, self.items(items)), items.clamp(max=10)


@dataclass
class Answer:
    first: torch.Tensor
    second: torch.Tensor | None = None


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


class Call(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x)


def tower():
    return Tower()


def with_dict():
    return Inner()


def digits():
    return Digits().train()


def ranker():
    return Ranker()


def dataclass_out():
    return Call(lambda x: Answer(first=x * 2))


def tuple_out():
    return Call(lambda x: Pair(x, (x > 0)))


def nested_out():
    return Call(lambda x: {"a": [x, x + 1], "b": {"c": x * 3}})


def fails():
    return [][1]


def fails_in_forward():
    def body(x):
        y = x @ torch.ones(5, 5)
        return y

    return Call(body)


def leaves():
    raise SystemExit(3)


def not_a_module():
    return 5


def takes(width):
    return nn.Linear(width, 1)


def number_out():
    return Call(lambda x: {"x": x, "n": 3})


def data_dependent():
    return Call(lambda x: x[x > 0])


def branches():
    return Call(lambda x: x * 2 if x.sum() > 0 else x)


def fixes_batch():
    return Call(lambda x: x.reshape(3, 64) * 2)


def needs_three():
    return Call(lambda x: x[:-1] + x[1:] if x.shape[0] > 1 else x)


def at_most():
    return Call(lambda x: torch.arange(20.0)[: x.shape[0]] + x[:, 0] if x.shape[0] <= 20 else x[:, 1])


def reads_files():
    here = Path(__file__).parent
    width = json.loads((here / "settings.json").read_text())["width"]
    from safetensors.torch import load_file
    import helper_of_tests
    from tokenizers import Tokenizer

    linear = nn.Linear(64, width, bias=False)
    linear.load_state_dict({"weight": load_file(here / "weights.safetensors")["w"]})
    saved = torch.load(here / "saved.pt", weights_only=True)
    Tokenizer.from_file(str(here / "tokenizer.json"))
    return helper_of_tests.wrap(linear)


constant = 7
'''
