"""The evidence of a bundle: documents as evidence/NNN.json, what was made of them, and an index of all digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import Exit, InfcError

INDEX = "index.json"
INDEX_SCHEMA = "infc.evidence.index/1"
RULES = 1
"""By which rules verdicts follow from evidence: raised with every change that gives another value or verdict for the same
documents, so that a bundle that was judged by others is told from one whose verdicts were changed."""
MOST_BYTES = 512 << 20
"""Of one file."""


def write_evidence(folder: Path, documents: Sequence[tuple[str, bytes]], others: Mapping[str, bytes]) -> None:
    """Writes documents as NNN.json below folder/evidence, `others` under their names, and the index of all digests."""
    place = folder / "evidence"
    place.mkdir(exist_ok=True)
    for old in place.glob("*.json"):
        old.unlink()
    entries: dict[str, dict[str, str]] = {}
    for number, (kind, data) in enumerate(documents, 1):
        entries[f"{number:03d}.json"] = {"kind": kind, "sha256": hashlib.sha256(data).hexdigest()}
        (place / f"{number:03d}.json").write_bytes(data)
    for name, data in others.items():
        entries[name] = {"kind": "", "sha256": hashlib.sha256(data).hexdigest()}
        (place / name).write_bytes(data)
    index = {"schema": INDEX_SCHEMA, "rules": RULES, "files": entries}
    text = json.dumps(index, indent=1, sort_keys=True) + "\n"
    (place / INDEX).write_text(text, encoding="utf-8")


def read_evidence(folder: Path) -> dict[str, tuple[str, bytes]]:
    """The files of a bundle's evidence by name: what each is for, and its bytes. Raises InfcError: exit 7 where one is
    absent, changed, or not in the index."""
    place = folder / "evidence"
    try:
        index: Any = json.loads((place / INDEX).read_bytes()[:MOST_BYTES])
        if index["schema"] != INDEX_SCHEMA:
            raise ValueError(f"its schema is {index['schema']!r}")
        listed: dict[str, tuple[str, str]] = {
            str(name): (str(entry["kind"]), str(entry["sha256"])) for name, entry in index["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(place / INDEX, f"cannot be read: {error}") from None
    here = {path.name for path in place.iterdir()} - {INDEX}
    for name in sorted(here ^ set(listed)):
        raise _damaged(place / name, "is not in the index" if name in here else "is absent")
    found: dict[str, tuple[str, bytes]] = {}
    for name, (kind, digest) in listed.items():
        path = place / name
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MOST_BYTES:
            raise _damaged(path, "is no regular file of a sensible size")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise _damaged(path, "has changed since it was written")
        found[name] = (kind, data)
    return found


def rules_of(folder: Path) -> int | None:
    """By which rules the bundle's verdicts were made; None where it does not say. The index was read before."""
    found: Any = json.loads((folder / "evidence" / INDEX).read_bytes()[:MOST_BYTES]).get("rules")
    return found if isinstance(found, int) else None


def _damaged(path: Path, what: str) -> InfcError:
    return InfcError(
        f"{path} {what}", exit_code=Exit.DAMAGED, hint="build the bundle again, or copy it again from where it is whole"
    )
