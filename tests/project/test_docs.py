"""The pages for people: what they link to is there, and what they tell to type exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infc.compiler.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(ROOT.glob("*.md"))
GENERATED = {"docs/benchmarks.md"}
"""Written by `make bench`."""


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    gone = [link for link in links if "://" not in link and link not in GENERATED and not (ROOT / link).exists()]
    assert not gone


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_that_are_named_exist(page: Path) -> None:
    names = re.findall(
        r"`((?:compiler|dsl|targets|runtime|tests|examples|bench|packaging)/[\w./-]+\.\w+)`", page.read_text()
    )
    assert not [name for name in names if not (ROOT / name).exists()]


def test_commands_that_are_told_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        blocks = "\n".join(re.findall(r"```\n(.*?)```", page.read_text(), flags=re.DOTALL))
        code = blocks + "\n" + "\n".join(re.findall(r"`([^`\n]+)`", page.read_text()))
        for target in re.findall(r"^make ([a-z][a-z-]*)", code, flags=re.MULTILINE):
            assert f"\n{target}:" in makefile, f"{page.name}: make {target}"
        if page.name != "ROADMAP.md":
            for command in re.findall(r"^(?:\$ )?infc ([a-z]+)", code, flags=re.MULTILINE):
                assert command in COMMANDS, f"{page.name}: infc {command}"


def test_the_four_worked_examples_are_real() -> None:
    """What CONTRIBUTING.md quotes stands in the files that it names."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for quote, file in (
        ("np.flip(operands[0], self.axes)", "compiler/ir/ops/flip.py"),
        ('name: ClassVar[str] = "cse"', "compiler/passes/cse.py"),
        ('@aten("flip")', "compiler/frontends/import_aten/shape.py"),
        ('"W0103"', "dsl/warn.py"),
    ):
        assert quote in text
        assert quote in (ROOT / file).read_text()
