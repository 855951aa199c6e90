"""A report as a reader of HTML sees it: numbers by name, texts that are said to be copied, and all the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "input", "hr", "use", "path"}


@dataclass
class Parsed:
    """`numbers`: data-name to data-value (each name has one value); `copied`: texts of elements with data-text; `shown`: what is
    written for each name; `rest`: every other text outside of head, style and figures; `tags`: all elements with attributes."""

    numbers: dict[str, str] = field(default_factory=dict[str, str])
    shown: dict[str, str] = field(default_factory=dict[str, str])
    copied: list[str] = field(default_factory=list[str])
    rest: list[str] = field(default_factory=list[str])
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list[tuple[str, dict[str, str | None]]])
    ids: list[str] = field(default_factory=list[str])


class _Reader(HTMLParser):
    def __init__(self, parsed: Parsed) -> None:
        super().__init__(convert_charrefs=True)
        self.parsed = parsed
        self.open: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.parsed.tags.append((tag, found))
        if found.get("id"):
            self.parsed.ids.append(str(found["id"]))
        if tag not in VOID:
            self.open.append((tag, found))
        name = found.get("data-name")
        if name is not None:
            value = str(found["data-value"])
            assert self.parsed.numbers.setdefault(name, value) == value, f"{name} is {value} too"
            self.parsed.shown[name] = ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.parsed.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1][0] == tag, f"</{tag}> closes <{self.open[-1][0]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not data.strip() or any(tag in ("head", "style", "svg", "title") for tag, _ in self.open):
            return
        for _, attrs in reversed(self.open):
            if (name := attrs.get("data-name")) is not None:
                self.parsed.shown[name] += data
                return
            if "data-text" in attrs:
                self.parsed.copied.append(data)
                return
        self.parsed.rest.append(data)


def parse(page: str) -> Parsed:
    """Also asserts that every element is closed where it should be."""
    parsed = Parsed()
    reader = _Reader(parsed)
    reader.feed(page)
    reader.close()
    assert not reader.open, f"never closed: {[tag for tag, _ in reader.open]}"
    return parsed
