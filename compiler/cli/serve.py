"""`infc serve`: starts a bundle's own server in place of this process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import Exit, InfcError
from .options import command_parser

DESCRIPTION = """Start a bundle's server. Every option that this command does not know goes to it: infc serve my.bundle --port 0"""


def run(argv: Sequence[str]) -> int:
    """Never returns where the server starts. Raises InfcError (exit 2) for what is no bundle, 6 where it cannot start."""
    parser = command_parser("serve", DESCRIPTION, json=False, epilog="more: BUNDLE/serve --help")
    parser.add_argument("bundle", type=Path, help="the bundle's folder")
    args, rest = parser.parse_known_args(argv)
    server = server_of(args.bundle)
    try:
        os.execv(server, [str(server), *rest])
    except OSError as error:
        raise InfcError(f"{server} cannot be started: {error.strerror}", exit_code=Exit.MISSING) from error


def server_of(bundle: Path) -> Path:
    """A bundle's server. Raises InfcError (exit 2) for what is no bundle, exit 7 where its server is missing."""
    from ..bundle.manifest import read_manifest

    read_manifest(bundle)
    server = (bundle / "serve").resolve()
    if not server.is_file():
        raise InfcError(f"{bundle} has lost its server", exit_code=Exit.DAMAGED, hint="build it again")
    return server
