"""Names of ours for a file's names: torch and its generated code see `w0` where the file says `encoder.weight`.

The file's names stay on our side, as data, for messages, patterns and the names of weights in the Graph.
"""

from __future__ import annotations

import re

from .refused import Refused, shown

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-/: +]{0,511}")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


class Names:
    """A one-to-one map from names of a file to identifiers, made as they are met; `original` is its inverse."""

    def __init__(self) -> None:
        self.original: dict[str, str] = {}
        self._made: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}

    def weight(self, name: str) -> str:
        """The identifier of a parameter, buffer or constant. Raises Refused for a name that no module would have."""
        if not _PLAIN.fullmatch(name):
            raise Refused(
                f"a weight is called {shown(name)}, and names of weights have letters, digits, '_', '-' and '.'",
                "rename the module's attribute and export it again",
            )
        return self.of("w", name)

    def input(self, name: str) -> str:
        """name, when it can be an input's. Raises Refused."""
        if not _IDENTIFIER.fullmatch(name):
            raise Refused(f"an input is called {shown(name)}, and names of inputs are identifiers")
        return name

    def of(self, kind: str, name: str) -> str:
        """The identifier for name among those of a kind, such as `m3`."""
        found = self._made.get((kind, name))
        if found is None:
            found = self.fresh(kind)
            self._made[kind, name] = found
            self.original[found] = name
        return found

    def fresh(self, kind: str) -> str:
        """An identifier of a kind that was not given before."""
        count = self._counts[kind] = self._counts.get(kind, -1) + 1
        return f"{kind}{count}"
