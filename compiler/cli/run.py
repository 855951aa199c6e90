"""`infc run`: one inference with a bundle, in this process; texts go through the bundle's `serve run`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Exit, InfcError
from .options import command_parser
from .output import print_json
from .serve import server_of

DESCRIPTION = """One inference with a bundle. Arrays are .npy files, or .json files of nested lists; texts go through the
bundle's own tokenizer. Without --output the answer is JSON on stdout."""


def run(argv: Sequence[str]) -> int:
    """Raises InfcError: exit 2 for inputs that do not fit, 7 for a damaged bundle."""
    parser = command_parser("run", DESCRIPTION)
    parser.add_argument("bundle", type=Path, help="the bundle's folder")
    parser.add_argument(
        "--input", action="append", default=[], metavar="NAME=FILE", help="an input from a file; repeat it"
    )
    parser.add_argument("--text", action="append", default=[], help="a text; repeat it for several, and for a pair")
    parser.add_argument("--model", help="the model, where the bundle has several")
    parser.add_argument(
        "--output", type=Path, metavar="FILE.npz", help="write the outputs there instead of printing them"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads (default 1)")
    args = parser.parse_args(argv)
    if args.text and args.input:
        raise InfcError("--text and --input exclude each other")
    if args.text:
        outputs = _run_texts(args.bundle, args.text, args.model)
    else:
        outputs = _run_arrays(args.bundle, args.input, args.model, args.threads)
    if args.output is not None:
        try:
            np.savez(args.output, **outputs)  # pyright: ignore[reportArgumentType]
        except OSError as error:
            raise InfcError(f"{args.output} cannot be written: {error.strerror}", exit_code=Exit.MISSING) from error
        return Exit.OK
    shown = {name: _numbers(value) for name, value in outputs.items()}
    if args.json:
        print_json("infc.run/1", Exit.OK, {"outputs": shown})
    else:
        print(json.dumps({"outputs": shown}))
    return Exit.OK


def _numbers(value: NDArray[Any]) -> Any:
    """Nested lists; null where a number is not finite, which JSON has no word for."""
    shown = value.astype(object)
    if value.dtype.kind == "f":
        shown[~np.isfinite(value)] = None
    return shown.tolist()


def _run_arrays(bundle: Path, inputs: Sequence[str], model: str | None, threads: int) -> dict[str, NDArray[Any]]:
    from ...runtime import InferError, load
    from ...runtime.c_abi import CODE_NAN
    from ..bundle.manifest import read_manifest, verify_files

    manifest = read_manifest(bundle)
    used = [v for m in manifest.models if model in (None, m.name) for v in m.variants]
    verify_files(bundle, manifest, [path for v in used for path in (v.library, v.weights)])
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with load(bundle, threads=threads, model=model) as loaded:
            dtypes = {info.name: info.dtype for info in loaded.inputs}
            for item in inputs:
                name, equals, file = item.partition("=")
                if not equals:
                    raise InfcError(f"--input {item}: expected NAME=FILE", hint=f"the inputs are {', '.join(dtypes)}")
                arrays[name] = read_array(Path(file), dtypes.get(name))
            return loaded.run(arrays)
    except InferError as error:
        usage = error.kind == "CALLER" or error.code == CODE_NAN
        takes_text = not inputs and any(m.task.kind != "tensor" for m in manifest.models if model in (None, m.name))
        raise InfcError(
            error.message,
            exit_code=Exit.USAGE if usage else Exit.INTERNAL,
            hint='this model takes text: --text "..."' if takes_text else "",
        ) from None


def read_array(path: Path, dtype: str | None) -> NDArray[Any]:
    """A .npy file, or nested lists from a .json file as `dtype`. Raises InfcError (exit 2)."""
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix == ".json":
            return np.asarray(json.loads(path.read_text(encoding="utf-8")), dtype=dtype)
    except (OSError, ValueError, TypeError) as error:
        raise InfcError(f"{path} holds no array: {error}") from None
    raise InfcError(f"{path}: arrays are read from .npy and .json files")


def _run_texts(bundle: Path, texts: Sequence[str], model: str | None) -> dict[str, NDArray[Any]]:
    command = [str(server_of(bundle)), "run", *(f"--text={text}" for text in texts)]
    command += ["--model", model] if model else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise InfcError(f"{command[0]} cannot be started: {error.strerror}", exit_code=Exit.MISSING) from error
    if done.returncode != 0:
        code = Exit(done.returncode) if done.returncode in list(Exit) else Exit.INTERNAL
        said = done.stderr.strip().removeprefix("serve: error: ")
        raise InfcError(said or "the bundle's server failed", exit_code=code)
    return {name: np.asarray(value) for name, value in json.loads(done.stdout)["outputs"].items()}
