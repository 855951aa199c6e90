"""One loaded model used by many threads; wrong arguments named; first dimensions of any name."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infc.compiler.build import build
from infc.compiler.driver import Request
from infc.runtime import InferError, Model, load

ROOT = Path(__file__).parents[2]
MODEL = """
import torch

class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a = torch.nn.Linear(16, 32)
        self.b = torch.nn.Linear(32, 1)

    def forward(self, x):
        return torch.relu(self.b(torch.relu(self.a(x)))) + x.sum(-1, keepdim=True)

class Centred(torch.nn.Module):
    def forward(self, x):
        return x - x.mean(0, keepdim=True)
"""
STRESS = """
import sys, threading, time
import numpy as np
from infc.runtime import InferError, load
x = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
for turn in range(20):
    model = load(sys.argv[1])
    want = model.run(x=x)["out"]
    said = []
    def go():
        try:
            while True:
                assert np.array_equal(model.run(x=x)["out"], want)
        except InferError as error:
            said.append(error.message)
    threads = [threading.Thread(target=go) for _ in range(8)]
    for t in threads: t.start()
    time.sleep(0.02)
    closers = [threading.Thread(target=model.close) for _ in range(3)]
    for t in closers + threads: 
        t.ident or t.start()
    for t in closers + threads: t.join()
    assert said == ["this model is closed"] * 8, said
    model.close()
print("done")
"""


INTERRUPTED = """
import faulthandler, random, signal, sys, threading, time
import numpy as np
from infc.runtime import load
faulthandler.dump_traceback_later(100, exit=True)
x = np.ones((3, 16), np.float32)
model = load(sys.argv[1])
want = model.run(x=x)["out"]
signal.signal(signal.SIGALRM, signal.default_int_handler)
random.seed(0)
for turn in range(int(sys.argv[2])):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 5e-4))
        while True:
            model.run(x=x)
    except KeyboardInterrupt:
        pass
    assert np.array_equal(model.run(x=x)["out"], want)
model.close()
print("done")
"""
HANDLER = """
import faulthandler, signal, sys
import numpy as np
from infc.runtime import InferError, load
faulthandler.dump_traceback_later(100, exit=True)
x = np.ones((3, 16), np.float32)
model = load(sys.argv[1])
want = model.run(x=x)["out"]
calls = 0
def handler(number, frame):
    global calls
    calls += 1
    if calls == 200:
        model.close()
    else:
        assert np.array_equal(model.run(x=x)["out"], want)
        signal.setitimer(signal.ITIMER_REAL, 2e-4)
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 2e-4)
try:
    while True:
        model.run(x=x)
except InferError as error:
    assert error.message == "this model is closed", error
assert calls == 200
model.close()
print("done")
"""


def made(folder: Path, shape: str, dims: str, factory: str = "Two") -> Path:
    """The bundle of a model whose input has `shape`."""
    (folder / "model.py").write_text(MODEL, encoding="utf-8")
    spec = folder / "m.infer"
    spec.write_text(
        f'infer 1\nmodel m {{\n  source torch("model.py:{factory}")\n  input x: float32[{shape}]\n  output out: float32[{shape.replace("16", "1") if factory == "Two" else shape}]\n  {dims}\n}}\n',
        encoding="utf-8",
    )
    return build(Request(spec)).bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("shared"), "for, 16", "dim for in 1..64")


@pytest.fixture
def model(bundle: Path) -> Model:
    return load(bundle)


X = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_threads_run_while_others_close(bundle: Path) -> None:
    done = python(STRESS, str(bundle))
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.full
def test_threads_run_while_others_close_for_long(bundle: Path) -> None:
    done = python(STRESS.replace("range(20)", "range(1000)"), str(bundle))
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_an_interrupted_run_leaves_the_model_usable(bundle: Path) -> None:
    done = python(INTERRUPTED, str(bundle), "2000")
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_a_handler_of_signals_may_run_and_close_the_model(bundle: Path) -> None:
    done = python(HANDLER, str(bundle))
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_a_closed_model_refuses_every_use(model: Model) -> None:
    model.close()
    model.close()
    uses = (lambda: model.run(x=X), lambda: model.run_batch([]), model.step_times, model.profile, model.__enter__)
    for use in uses:
        with pytest.raises(InferError, match="this model is closed"):
            use()


def test_a_forked_child_is_refused_and_the_parent_goes_on(bundle: Path) -> None:
    code = """
import os, sys
import numpy as np
from infc.runtime import InferError, load
model, x = load(sys.argv[1]), np.ones((2, 16), np.float32)
child = os.fork()
if child == 0:
    try:
        model.run(x=x)
    except InferError as error:
        model.close()
        os._exit(7 if "fork" in error.message else 8)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
model.run(x=x)
"""
    done = python(code, str(bundle))
    assert done.returncode == 0, done.stderr


def test_the_interpreter_ends_while_a_thread_runs(bundle: Path) -> None:
    code = """
import sys, threading, time
import numpy as np
from infc.runtime import load
model, x = load(sys.argv[1]), np.ones((2, 16), np.float32)
threading.Thread(target=lambda: [model.run(x=x) for _ in iter(int, 1)], daemon=True).start()
time.sleep(0.1)
"""
    assert python(code, str(bundle)).returncode == 0


def test_repr_says_what_it_is(model: Model) -> None:
    said = repr(model)
    assert "'m': x float32[for 1..64, 16] -> out float32[for 1..64, 1]" in said
    assert "threads=1" in said
    model.close()
    assert "closed" in repr(model)


@pytest.mark.parametrize("threads", [0, -1, 2**32 + 1, True, 1.0, "2", None])
def test_threads_are_a_small_positive_integer(bundle: Path, threads: int) -> None:
    with pytest.raises(InferError, match="threads must be an integer from 1"):
        load(bundle, threads=threads)


@pytest.mark.parametrize(
    "value",
    [None, "text", b"ab", [[1, 2], [3]], X.astype(complex), object(), np.array([None]), X[0], 1.0,
     np.broadcast_to(np.float32(1), (1 << 40, 16)), np.full((1, 16), 1e300), np.zeros((3, 16), "M8[s]"),
     np.ma.masked_equal(np.zeros((1, 16)), 0)],
)  # fmt: skip
def test_what_is_no_input_is_named(model: Model, value: object) -> None:
    with pytest.raises(InferError, match="input 'x'"):
        model.run(x=value)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "value", [X.astype(">f4"), np.asfortranarray(X), X.tolist(), X.astype(np.float64), np.repeat(X, 2, axis=0)[::2]]
)
def test_other_layouts_are_copied(model: Model, value: object) -> None:
    assert np.array_equal(model.run(x=value)["out"], model.run(x=X)["out"])  # pyright: ignore[reportArgumentType]


def test_a_model_is_neither_copied_nor_pickled(model: Model) -> None:
    for make in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(InferError, match="a model is not"):
            make(model)


@pytest.mark.parametrize(
    ("given", "said"), [({"model": ["m"]}, "model must be a name"), ({"cpus": range(10**9)}, "at most 4096")]
)
def test_what_load_is_given_is_checked(bundle: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InferError, match=said):
        load(bundle, **given)


def test_requests_of_the_wrong_kind_are_named(model: Model) -> None:
    with pytest.raises(InferError, match="there is no input 'y'"):
        model.run(y=X)
    with pytest.raises(InferError, match="inputs must map"):
        model.run(X)  # pyright: ignore[reportArgumentType]
    good, bad = model.run_batch([{"x": X}, {"x": None}])  # pyright: ignore[reportArgumentType]
    assert isinstance(good, dict)
    assert isinstance(bad, InferError)


def test_a_library_cut_short_is_refused(bundle: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy.bundle"
    shutil.copytree(bundle, copy)
    library = copy / "models/0/variants/0/model.so"
    library.write_bytes(library.read_bytes()[:5000])
    with pytest.raises(InferError, match="is damaged"):
        load(copy)


@pytest.mark.parametrize(
    ("shape", "dims", "size", "factory"),
    [
        ("rows, batch", "dim rows in 1..8\n  dim batch in 1..9", (3, 5), "Centred"),
        pytest.param("int, 16", "dim int in 1..64", (5, 16), "Two", marks=pytest.mark.full),
        pytest.param("rows, 16", "dim rows in 2..64", (5, 16), "Centred", marks=pytest.mark.full),
        pytest.param("8, 16", "", (8, 16), "Two", marks=pytest.mark.full),
        pytest.param("tokens, 16", "dim tokens in 1..32", (5, 16), "Two", marks=pytest.mark.full),
        pytest.param("n", "dim n in 1..32", (5,), "Centred", marks=pytest.mark.full),
    ],
)
def test_a_first_dimension_of_any_name(
    tmp_path: Path, shape: str, dims: str, size: tuple[int, ...], factory: str
) -> None:
    import torch

    names: dict[str, type[torch.nn.Module]] = {}
    exec(MODEL, names)  # noqa: S102 - the same source as the build's
    x = np.random.default_rng(1).standard_normal(size).astype(np.float32)
    with load(made(tmp_path, shape, dims, factory)) as model:
        found = model.run_batch([{"x": x}, {"x": x}])
    want = names[factory]()(torch.tensor(x)).detach().numpy()
    for one in found:
        assert isinstance(one, dict), one
        assert np.allclose(one["out"], want, atol=1e-5)
