"""One measured target."""

from __future__ import annotations

from dataclasses import asdict, dataclass

VOID = "void: "


@dataclass(frozen=True)
class Measured:
    """A target beside its value. `target`: as written; `value` in base units (None: not measured, `note` says why);
    `shown` and `relaxed`: for people, the value and the target that it would meet; `met` None where not measured."""

    target: str
    bound: float
    value: float | None
    shown: str
    met: bool | None
    note: str
    relaxed: str = ""

    @property
    def is_void(self) -> bool:
        """Whether the run says of itself that it proves nothing."""
        return self.met is None and self.note.startswith(VOID)

    def as_json(self) -> dict[str, object]:
        """A JSON object of the fields."""
        return asdict(self)
