"""`infc cache dir|size|prune`."""

from __future__ import annotations

from collections.abc import Sequence

from ..env import parse_size
from ..errors import Exit, InfcError
from .options import command_parser, settings_of
from .output import format_bytes, print_json

DESCRIPTION = """Look at the build cache, or make it smaller. It is never needed for a correct result.
  dir    its folder
  size   what it holds
  prune  remove least recently used entries down to its limit, or to --to SIZE (0 empties it)
Its folder tuning/ holds what `infc build --tune` measured, a text to read and edit for each target; nothing prunes it."""


def run(argv: Sequence[str]) -> int:
    """Raises InfcError (exit 2) for a malformed size."""
    parser = command_parser("cache", DESCRIPTION)
    parser.add_argument("action", choices=("dir", "size", "prune"))
    parser.add_argument("--to", metavar="SIZE", help="prune: how much may stay, 1 GiB say (default: the cache's limit)")
    args = parser.parse_args(argv)
    settings = settings_of(args)
    cache = settings.cache
    document: dict[str, object] = {"dir": str(cache.folder), "limit_bytes": cache.limit_bytes}
    if args.to is not None and args.action != "prune":
        raise InfcError("--to belongs to `infc cache prune`")
    if args.action == "dir":
        line = str(cache.folder)
    elif args.action == "size":
        entries = cache.entries()
        size = sum(e.size for e in entries)
        document |= {"bytes": size, "entries": len(entries)}
        line = f"{format_bytes(size)} in {len(entries)} entries of at most {format_bytes(cache.limit_bytes)}"
    else:
        try:
            limit = cache.limit_bytes if args.to is None else parse_size(args.to)
        except ValueError:
            raise InfcError(f"--to: {args.to!r} is not a size", hint="write 0, 512 MiB or 1 GiB, say") from None
        freed = cache.prune(limit, grace_s=0.0)
        document |= {"freed_bytes": freed, "bytes": cache.size()}
        line = f"freed {format_bytes(freed)}"
    if args.json:
        print_json("infc.cache/1", Exit.OK, document)
    else:
        print(line)
    return Exit.OK
