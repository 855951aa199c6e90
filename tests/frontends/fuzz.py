"""The readers of what others send, each with inputs made wrong from a seed.

    python -m tests.frontends.fuzz READER COUNT [SEED]
    python -m tests.frontends.fuzz file PATH READER         one input that was kept

prints counts and rates. The first input that is neither accepted nor refused, or that takes too long or too much memory,
is kept in a file and ends the run. READER is one of READERS or CHILDREN (tried in forked children, since what comes behind
our checks is not ours).
"""

# torch is typed in part: what comes from it is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from infc.compiler.frontends.checkpoint import read_index
from infc.compiler.frontends.config_check import check_config, check_kinds, held_by
from infc.compiler.frontends.files import read_json_file
from infc.compiler.frontends.pt2 import Refused, read_program
from infc.compiler.frontends.safetensors_header import header_bytes, parse_header
from infc.compiler.frontends.sentence import read_settings
from infc.compiler.frontends.tokenizer_check import check_data
from infc.compiler.ir.graph import Weight
from infc.compiler.ir.printer import parse_graph
from infc.compiler.ir.types import TensorType
from infc.compiler.ir.verify import VerifyError, verify
from infc.compiler.measure.rows import read_csv, read_npz
from infc.compiler.measure.text_rows import read_texts
from infc.dsl.spec import Task

from . import fuzz_pt2
from .fuzz_hf import run_folders
from .fuzz_mutate import JsonText, json_text, mutated_bytes, mutated_json
from .fuzz_run import Reader, run
from .pt2_files import save_tiny
from .row_files import FINE, X, data
from .test_tokenizer_check import byte_level, unigram, word_piece

Make = Callable[[Path, random.Random], Reader]


def json_mutants(sources: Sequence[JsonText], rng: random.Random) -> Iterator[bytes]:
    while True:
        yield mutated_json(rng.choice(sources), rng)


def byte_mutants(sources: Sequence[bytes], rng: random.Random, tail: int = 0) -> Iterator[bytes]:
    while True:
        yield mutated_bytes(rng.choice(sources), rng, tail=tail)


def _pt2(folder: Path, rng: random.Random) -> Reader:
    path, source = folder / "fuzz.pt2", save_tiny(folder / "net.pt2")

    def read(content: bytes) -> None:
        path.write_bytes(content)
        read_program(path)

    return Reader(fuzz_pt2.mutants(source, rng), read, (Refused,))


HEADER = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b.c": {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]},
    "é": {"dtype": "BOOL", "shape": [0, 7], "data_offsets": [26, 26]},
    "d": {"dtype": "I64", "shape": [1, 1, 2], "data_offsets": [26, 42]},
}


def _safetensors(folder: Path, rng: random.Random) -> Reader:
    file = folder / "model.safetensors"
    texts = [
        json_text(json.dumps(HEADER).encode()),
        json_text(json.dumps(HEADER, ensure_ascii=False).encode() + b"   "),
    ]

    def mutants() -> Iterator[bytes]:
        for text in json_mutants(texts, rng):
            whole = len(text).to_bytes(8, "little") + text + bytes(42)
            yield mutated_bytes(whole, rng) if rng.random() < 0.1 else whole

    def read(content: bytes) -> None:
        count = header_bytes(content[:8], len(content), file.name)
        parse_header(content[8 : 8 + count], len(content), file)

    return Reader(mutants(), read)


def _index(folder: Path, rng: random.Random) -> Reader:
    for name in ("a.safetensors", "b.safetensors"):
        (folder / name).touch()
    path = folder / "model.safetensors.index.json"
    table = {"x.weight": "a.safetensors", "x.bias": "a.safetensors", "é": "b.safetensors"}
    text = json_text(json.dumps({"metadata": {"total_size": 42}, "weight_map": table}, indent=1).encode())

    def read(content: bytes) -> None:
        path.write_bytes(content)
        read_index(folder, path)

    return Reader(json_mutants([text], rng), read)


CONFIG: dict[str, Any] = {
    "architectures": ["BertModel"], "model_type": "bert", "vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 64, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "depths": [2, 2],
    "id2label": {"0": "no", "1": "yes"}, "text_config": {"n_layers": 2, "sizes": [[8, 16], [3]]}, "use_cache": True,
    "pad_token_id": 0, "classifier_dropout": None, "max_position_embeddings": 64,
}  # fmt: skip


def _config(folder: Path, rng: random.Random) -> Reader:
    from infc.compiler.frontends.huggingface import read_config

    known = {k: v for k, v in CONFIG.items() if k not in ("architectures", "text_config")}
    held = held_by([(120, 32), (64, 32), *[(32, 32)] * 16, ()])

    def read(content: bytes) -> None:
        (folder / "config.json").write_bytes(content)
        config = read_config(folder)
        check_config(config, held, "m/config.json")
        check_kinds(config, known, "m/config.json")

    return Reader(json_mutants([json_text(json.dumps(CONFIG).encode())], rng), read)


SETTINGS: dict[str, Any] = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ],
    "sentence_bert_config.json": {"max_seq_length": 256, "do_lower_case": False},
    "config_sentence_transformers.json": {"prompts": {"query": "query: ", "é": ""}, "default_prompt_name": "query"},
    "1_Pooling/config.json": {
        "pooling_mode_mean_tokens": True,
        "pooling_mode_cls_token": False,
        "include_prompt": True,
    },
}


def _sentence(folder: Path, rng: random.Random) -> Reader:
    """An input is a file's name, a line feed, and the file's content; the other files are as they should be."""
    (folder / "1_Pooling").mkdir()
    texts = {name: json_text(json.dumps(value).encode()) for name, value in SETTINGS.items()}
    tasks = (Task(kind="embed"), Task(kind="embed", pooling="cls", prompt="x"))

    def mutants() -> Iterator[bytes]:
        while True:
            name = rng.choice(list(texts))
            yield name.encode() + b"\n" + mutated_json(texts[name], rng)

    changed = [*SETTINGS]

    def read(content: bytes) -> None:
        for name in changed:
            (folder / name).write_bytes(texts[name].text)
        name, _, text = content.partition(b"\n")
        changed[:] = [name.decode()]
        (folder / changed[0]).write_bytes(text)
        read_settings(folder, tasks[len(text) % 2])

    return Reader(mutants(), read)


def _tokenizer(folder: Path, rng: random.Random) -> Reader:
    path = folder / "tokenizer.json"
    texts = [json_text(make().to_str().encode()) for make in (word_piece, byte_level, unigram)]

    def read(content: bytes) -> None:
        path.write_bytes(content)
        check_data(read_json_file(path, dict), "m/tokenizer.json", 255)

    return Reader(json_mutants(texts, rng), read)


def _npz(folder: Path, rng: random.Random) -> Reader:
    path = folder / "d.npz"
    plain, packed = BytesIO(), BytesIO()
    np.savez(plain, x=FINE, label=np.arange(2))
    np.savez_compressed(packed, x=np.asfortranarray(FINE.astype(np.float64)))

    def read(content: bytes) -> None:
        path.write_bytes(content)
        read_npz(data(path, "npz"), X)

    return Reader(byte_mutants([plain.getvalue(), packed.getvalue()], rng, tail=200), read)


def _jsonl(folder: Path, rng: random.Random) -> Reader:
    path = folder / "d.jsonl"
    rows = [{"text": "a é", "n": 1}, {"text": "b", "n": [1, {"a": 2}]}]
    texts = [json_text(json.dumps(row, ensure_ascii=False).encode()) for row in rows]

    def mutants() -> Iterator[bytes]:
        while True:
            lines = [t.text for t in texts]
            at = rng.randrange(len(lines))
            lines[at] = mutated_json(texts[at], rng)
            yield b"\n".join(lines)

    def read(content: bytes) -> None:
        path.write_bytes(content)
        read_texts(data(path, "jsonl"), ("text", "other")[: rng.choice((1, 1, 2))])

    return Reader(mutants(), read)


def _csv(folder: Path, rng: random.Random) -> Reader:
    path = folder / "d.csv"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        read_csv(data(path, "csv", label="y" if b"y" in content else None), X)

    return Reader(byte_mutants([b'a,b,c\n1,2,3\n"4",5e1,-6\n', b'a,"y",b,c\r\n1,0,2.5,3\r\n"4",1,5,6\r\n'], rng), read)


GRAPH = """graph m {batch_dim=batch, length_dim=tokens}
dims batch=1..8, tokens=2..16
%0: i64[batch,tokens] = input() {input=ids, minimum=0, maximum=29}
%1: f32[batch,tokens,8] = embedding(@words, %0)
%2: f32[batch,tokens,8] = mul(%1, f32(0.5))
%3: f32[batch,tokens,8] = layer_norm(%2, @g, @b) {eps=1e-05}
%4: f32[batch,tokens,8] = linear(%3, @w)
%5: f32[batch,tokens,8] = add(%4, %2)
output y = %5
"""
WEIGHTS = {"words": (30, 8), "g": (8,), "b": (8,), "w": (8, 8)}


def _graph(_: Path, rng: random.Random) -> Reader:
    pieces = (
        b"%1", b"@w", b"@x", b"f32[", b"batch", b"tokens", b"*", b"+", b"//", b"(", b")", b"{", b"}", b"=", b", ", b"..",
        b"-1", b"9" * 30, b"nan", b"true", b'"', b"#", b"\n", b"linear", b"reshape(", b"dims", b"output", b"\xff", b"axis=",
        b"(a+b+c+d)*(a+b+c+d)*", b"1e400", b"^", b"None", b"[", b"]",
    )  # fmt: skip
    table = {name: Weight(TensorType("float32", shape), lambda: np.zeros(1)) for name, shape in WEIGHTS.items()}
    source = GRAPH.encode()

    def mutants() -> Iterator[bytes]:
        while True:
            yield mutated_bytes(source, rng, pieces)

    def read(content: bytes) -> None:
        verify(parse_graph(content.decode("utf-8", "replace"), table), "import")

    return Reader(mutants(), read, (ValueError, VerifyError))


READERS: dict[str, Make] = {
    "pt2": _pt2, "safetensors": _safetensors, "index": _index, "config": _config, "sentence": _sentence, "npz": _npz,
    "jsonl": _jsonl, "csv": _csv, "graph": _graph, "tokenizer": _tokenizer,
}  # fmt: skip
CHILDREN: dict[str, Callable[[int, int, Path], Counter[str]]] = {
    "pt2-import": fuzz_pt2.run_load,
    "folders": run_folders,
}


def fuzz(name: str, count: int, seed: int, folder: Path) -> Counter[str]:
    """`count` inputs of a reader, in a folder of its own. Raises AssertionError with the input that broke a promise."""
    if name in CHILDREN:
        return CHILDREN[name](count, seed, folder)
    return run(READERS[name](folder, random.Random(seed)), count, f"{name}, seed {seed}")


def main() -> None:
    name, count = sys.argv[1], sys.argv[2]
    seed = int(sys.argv[3]) if name != "file" and len(sys.argv) > 3 else 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        if name == "file":
            READERS[sys.argv[3]](Path(folder), random.Random(0)).read(Path(count).read_bytes())
            return
        started, spent = time.monotonic(), time.process_time()
        outcomes = fuzz(name, int(count), seed, Path(folder))
        took, spent = time.monotonic() - started, time.process_time() - spent
    total = sum(outcomes.values())
    print(
        f"{name}, seed {seed}: {dict(outcomes)}; {took:.0f} s, {total / took:.0f}/s, {total / spent:.0f} per CPU second"
    )


if __name__ == "__main__":
    main()
