"""A bundle's own `serve prove`, asked by those who hold a bundle and not its build."""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..bundle.manifest import Manifest
from ..bundle.write import SETTINGS
from ..errors import Exit, InfcError
from ..processes import run_child
from .document import Described, read_described


def ask_serve(folder: Path, manifest: Manifest, arguments: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """What `serve prove ARGUMENTS` of the bundle prints. Raises InfcError: exit 6 where this machine cannot run it, with what
    it would take, exit 7 where the server is gone, else with the server's own exit code and words."""
    server = folder / "serve"
    if not server.is_file():
        raise InfcError(f"{folder} has lost its server", exit_code=Exit.DAMAGED, hint="build it again")
    try:
        done = run_child([str(server.resolve()), "prove", *arguments], env=env)
    except OSError as error:
        raise InfcError(
            f"{server} cannot be started here: {error.strerror}",
            exit_code=Exit.MISSING,
            hint=f"chmod +x {server}" if error.errno == errno.EACCES else needed(manifest),
        ) from None
    if done.returncode == 0:
        return done.stdout
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    said = lines[-1].removeprefix("serve: error: ").removeprefix("error: ") if lines else "it said nothing"
    known = done.returncode in (Exit.USAGE, Exit.MISSING, Exit.DAMAGED)
    code = Exit(done.returncode) if known else Exit.INTERNAL
    raise InfcError(
        f"{server} prove failed: {said}", exit_code=code, hint=needed(manifest) if code == Exit.MISSING else ""
    )


def describe(
    folder: Path, manifest: Manifest, arguments: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Described:
    """What a run with these arguments would speak of. Starts nothing. Raises InfcError as `ask_serve` does."""
    return read_described(ask_serve(folder, manifest, [*arguments, "--subject"], env))


def plain_settings(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """The server's settings as the bundle has them, without those of people (INFC__*, serve.toml). {} where they cannot be
    asked for here."""
    if (folder / SETTINGS).exists():
        return {}
    env = {key: value for key, value in os.environ.items() if not key.startswith("INFC__")}
    try:
        return dict(describe(folder, manifest, (), env).subject.settings)
    except InfcError:
        return {}


def needed(manifest: Manifest) -> str:
    """What the bundle runs on, and what this machine is."""
    wanted, isas = manifest.platform, sorted({v.isa for model in manifest.models for v in model.variants})
    return (
        f"it runs on {wanted.os} {wanted.arch} ({', '.join(isas)}) with glibc {wanted.glibc} or later; "
        f"this machine is {platform.system().lower()} {platform.machine()}"
    )
