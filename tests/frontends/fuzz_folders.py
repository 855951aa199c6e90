"""Mutations of model folders from a seed: bytes, values of the JSON, and files that are missing, swapped, linked or no files.

    python -m tests.frontends.fuzz_folders COUNT [SEED]
    python -m tests.frontends.fuzz_folders builds COUNT [SEED]

imports each in a forked child, or gives it to `infc build`, and prints the counts; the first folder that breaks the promise
is kept and ends the run.
"""

# A mutant is of any type: what is taken from it is unknown here.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

from infc.compiler.errors import InfcError
from infc.compiler.frontends import load_here
from infc.compiler.frontends.tree import check_tree
from infc.dsl.spec import Model

SECONDS = 30
MEMORY = 3 << 30
"""Bytes that a child may grow by."""
EXITS = (0, 2, 3, 6)
"""How an import may end; 0: it was read."""
_WORDS: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 7, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e308, "", "x", "4", "../x", "NaN", [], {},
    [[]], [3], [1, 2, 3], {"a": 1}, "mean", "BertModel", "relu", "\ud800", "\0", "/etc/passwd", "auto", "float16", "none",
)  # fmt: skip


def mutate(folder: Path, random_: random.Random) -> str:
    """Changes folder in one to three places, and says what was done."""
    return "; ".join(_change(folder, random_) for _ in range(random_.choice((1, 1, 1, 2, 3))))


def _change(folder: Path, random_: random.Random) -> str:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    if not files:
        return "nothing is left"
    path = random_.choice(files)
    name = path.relative_to(folder).as_posix()
    kind = random_.random()
    if kind < 0.5:
        settings = [p for p in files if p.suffix == ".json"]
        if settings:
            path = random_.choice(settings)
            return f"{path.relative_to(folder).as_posix()}: {_json(path, random_)}"
    if kind < 0.75:
        path.write_bytes(_bytes(path.read_bytes(), random_))
        return f"{name}: bytes"
    ways: dict[str, Callable[[], object]] = {
        "deleted": path.unlink,
        "empty": lambda: path.write_bytes(b""),
        "swapped": lambda: _swap(path, random_.choice(files)),
        "copied over": lambda: path.write_bytes(random_.choice(files).read_bytes()),
        "a link to itself": lambda: _instead(path, lambda p: p.symlink_to(p.name)),
        "a broken link": lambda: _instead(path, lambda p: p.symlink_to("nowhere")),
        "a link out": lambda: _instead(path, lambda p: p.symlink_to("/etc/passwd")),
        "a device": lambda: _instead(path, lambda p: p.symlink_to("/dev/zero")),
        "a pipe": lambda: _instead(path, os.mkfifo),
        "a folder": lambda: _instead(path, Path.mkdir),
        "renamed": lambda: path.rename(path.with_name("model-00001-of-00002.safetensors")),
        "pickled": lambda: path.rename(path.with_name("pytorch_model.bin")),
    }
    way = random_.choice(list(ways))
    ways[way]()
    return f"{name}: {way}"


def _instead(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def _swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def _bytes(data: bytes, random_: random.Random) -> bytes:
    made = bytearray(data or b"\0")
    for _ in range(random_.choice((1, 2, 8))):
        at = random_.randrange(len(made)) if random_.random() < 0.5 else min(len(made) - 1, random_.randrange(3000))
        how = random_.randrange(5)
        if how == 0:
            made[at] ^= 1 << random_.randrange(8)
        elif how == 1:
            made[at] = random_.choice((0, 0x22, 0x7F, 0xFF))
        elif how == 2:
            del made[at : at + random_.choice((1, 4, 100))]
        elif how == 3:
            made[at:at] = made[at : at + random_.choice((1, 4, 100))]
        else:
            del made[at:]
        if not made:
            return b""
    return bytes(made)


def _json(path: Path, random_: random.Random) -> str:
    """Changes a value of the file; says where. A file that is no JSON any more gets other bytes."""
    try:
        value: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        path.write_bytes(_bytes(path.read_bytes(), random_))
        return "bytes"
    holder, key = _place(value, random_)
    if holder is None:
        value, said = random_.choice(_WORDS), "all"
    else:
        said, how = f"{key}", random_.randrange(6)
        if how == 0:
            del holder[key]
        elif how == 1 and isinstance(holder, dict):
            holder[random_.choice(("auto_map", "quantization_config", "model_type", "architectures"))] = holder[key]
        elif how == 2 and isinstance(holder, list):
            cast("list[Any]", holder).extend([holder[key]] * random_.choice((1, 50)))
        elif how == 3 and type(holder[key]) in (int, float):
            holder[key] = random_.choice((-holder[key], holder[key] * 1000, holder[key] + 1, holder[key] * 10**12))
        else:
            holder[key] = random_.choice(_WORDS)
    text = json.dumps(value)
    trick = random_.random()
    if trick < 0.05:
        text = text.replace(": ", ": " + "[" * 5000, 1)
    elif trick < 0.1:
        text = text.replace("1", random_.choice(("NaN", "Infinity", "1e999", "1" * 5000)), 1)
    elif trick < 0.15:
        text = text.replace("{", '{"hidden_size": 3, "hidden_size": 4, ', 1)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return said


def _place(value: Any, random_: random.Random) -> tuple[Any, Any]:
    """A container and a key in it: on a random way down."""
    holder: Any = None
    key: Any = None
    while type(value) in (dict, list) and value and (holder is None or random_.random() < 0.8):
        holder = value
        key = random_.choice(list(holder)) if type(holder) is dict else random_.randrange(len(holder))
        value = holder[key]
    return holder, key


def run_folders(
    made: Mapping[str, tuple[Path, Callable[[Path], Model]]], count: int, seed: int, scratch: Path
) -> Counter[int]:
    """`count` mutants of the folders in `made` (each with what makes its model), imported in forked children. How many
    ended with which exit code. Raises AssertionError for any other end, with the mutant kept."""
    random_ = random.Random(seed)
    outcomes: Counter[int] = Counter()
    for folder, model in made.values():
        assert in_child(model(folder), folder.parent) == (0, "")
        load_here(model(folder), folder.parent)  # what is imported on the way is imported here
    for number in range(count):
        name = random_.choice(sorted(made))
        source, model = made[name]
        folder = scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        did = mutate(folder, random_)
        code, said = in_child(model(folder), scratch)
        outcomes[code] += 1
        if __name__ == "__main__" and number % 25 == 24:
            print(number + 1, dict(outcomes), flush=True)
        if code not in EXITS or not (code == 0 or said.strip()) or len(said) > 4000:
            kept = tempfile.mkdtemp(prefix="infc-folder-")
            shutil.copytree(folder, kept, dirs_exist_ok=True, symlinks=True, ignore=_no_pipes)
            raise AssertionError(
                f"seed {seed}, input {number}, {name}: {did}: ended with {code}, kept in {kept}\n{said}"
            )
    return outcomes


def run_builds(
    made: Mapping[str, tuple[Path, Callable[[Path], Model]]], count: int, seed: int, scratch: Path
) -> Counter[int]:
    """The same for whole builds, two at a time, each mutant from a seed of its own."""

    def one(number: int) -> int:
        random_ = random.Random(f"{seed}, {number}")
        name = random_.choice(sorted(made))
        place = scratch / str(number)
        folder = place / "model"
        shutil.copytree(made[name][0], folder)
        did = mutate(folder, random_)
        lines = ['source huggingface("model")', *_TAKES[made[name][1](folder).task.kind]]
        spec = place / "m.infer"
        spec.write_text("infer 1\nmodel m {\n  " + "\n  ".join(lines) + "\n}\n", encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "infc",
            "build",
            str(spec),
            "--jobs",
            "1",
            "--cache-dir",
            str(scratch / "cache"),
        ]
        done = subprocess.run(command, capture_output=True, timeout=20 * SECONDS, check=False)
        said = done.stderr.decode("utf-8", "replace")
        told = done.returncode == 0 or sum(line.startswith("error") for line in said.splitlines()) == 1
        left = sorted(p.name for p in place.iterdir() if p.name not in {"model", "m.infer"})
        wanted = ["m.bundle", "m.infer.lock"] if done.returncode == 0 else []
        if done.returncode not in EXITS or not told or "Traceback" in said or left != wanted:
            kept = tempfile.mkdtemp(prefix="infc-folder-")
            shutil.copytree(place, kept, dirs_exist_ok=True, symlinks=True, ignore=_no_pipes)
            raise AssertionError(
                f"seed {seed}, input {number}, {name}: {did}: ended with {done.returncode}, left {left}, kept in {kept}\n"
                + said[-4000:]
            )
        shutil.rmtree(place)
        return done.returncode

    outcomes: Counter[int] = Counter()
    with ThreadPoolExecutor(2) as pool:
        for number, code in enumerate(pool.map(one, range(count)), 1):
            outcomes[code] += 1
            if __name__ == "__main__" and number % 25 == 0:
                print(number, dict(outcomes), flush=True)
    return outcomes


_TAKES = {
    "embed": ("task embed", "input text: string, up to 16 tokens, truncate"),
    "tensor": ("dim batch in 1..4",),
}


def _no_pipes(place: str, names: list[str]) -> list[str]:
    return [
        n for n in names if not (Path(place, n).is_symlink() or Path(place, n).is_file() or Path(place, n).is_dir())
    ]


def in_child(model: Model, spec: Path) -> tuple[int, str]:
    """How the checks and the import of model end in a child with bounds: exit code and what was said. A signal's code is
    negative; an exception that is not ours is 1."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        status, said = 1, ""
        try:
            os.close(reads)
            spent = int(time.process_time()) + SECONDS
            resource.setrlimit(resource.RLIMIT_CPU, (spent, spent + 1))
            signal.alarm(20 * SECONDS)  # what waits takes no processor time
            used = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            check_tree(model.source, spec)
            load_here(model, spec)
            status = 0
        except InfcError as error:
            status, said = int(error.exit_code), str(error)
        except BaseException:  # noqa: BLE001 - the child's end is the result
            said = traceback.format_exc()[-3000:]
        finally:
            os.write(writes, said.encode("utf-8", "backslashreplace")[:8000])
            os._exit(status)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        said = pipe.read().decode("utf-8", "replace")
    _, status = os.waitpid(child, 0)
    return (-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)), said


def main() -> None:
    from .test_mutated_folders import make_folders

    whole = sys.argv[1] == "builds"
    numbers = [int(text) for text in sys.argv[1 + whole :]]
    count, seed = numbers[0], numbers[1] if len(numbers) > 1 else 0
    with tempfile.TemporaryDirectory() as name:
        made = make_folders(Path(name) / "made")
        (Path(name) / "scratch").mkdir()
        started = time.monotonic()
        outcomes = (run_builds if whole else run_folders)(made, count, seed, Path(name) / "scratch")
        took = time.monotonic() - started
        print(f"{dict(sorted(outcomes.items()))} in {took:.0f} s, seed {seed}")


if __name__ == "__main__":
    main()
