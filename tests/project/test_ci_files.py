"""Files for CI systems: they parse, name what exists, and the action's script does what it says with a stand-in for infc."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infc.compiler.cli.build import allowed_kinds
from infc.compiler.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "packaging/github/action.yml").read_text())
STUB = """#!/bin/sh
printf '%s\\n' "$@" > "$SEEN"
for last; do :; done
while [ $# -gt 0 ]; do [ "$1" = --summary ] && printf '### x: met\\n' > "$2"; shift; done
exit "$CODE"
"""


def script() -> str:
    (step,) = (s for s in ACTION["runs"]["steps"] if s.get("id") == "build")
    return step["run"]


@pytest.mark.parametrize(
    ("allow", "flags"), [("", []), ("all", ["--allow-unproved"]), ("latency", ["--allow-unproved=latency"])]
)
@pytest.mark.parametrize("code", [0, 3])
def test_the_action_builds_and_ends_as_the_build_does(tmp_path: Path, allow: str, flags: list[str], code: int) -> None:
    stub = tmp_path / "infc"
    stub.write_text(STUB)
    stub.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "SPEC": "a b.infer", "OUTPUT": "out", "ALLOW": allow, "ARGS": "-j 2",
        "SUMMARY": str(tmp_path / "s.md"), "GITHUB_OUTPUT": str(tmp_path / "o"), "GITHUB_STEP_SUMMARY": str(tmp_path / "sum"),
        "SEEN": str(tmp_path / "seen"), "CODE": str(code),
    }  # fmt: skip
    done = subprocess.run(["bash", "-e", "-c", script()], env=environment, cwd=tmp_path, check=False)
    assert done.returncode == code
    seen = (tmp_path / "seen").read_text().splitlines()
    assert seen == [
        "build",
        "a b.infer",
        "-o",
        "out",
        "--format",
        "github",
        "--summary",
        str(tmp_path / "s.md"),
        *flags,
        "-j",
        "2",
    ]
    assert (tmp_path / "o").read_text() == f"exit-code={code}\n"
    assert (tmp_path / "sum").read_text() == "### x: met\n"


def test_nothing_of_an_event_is_pasted_into_a_script() -> None:
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", ""), step


def test_every_file_parses_and_names_what_exists() -> None:
    workflow = yaml.safe_load((ROOT / "packaging/github/workflow.yml").read_text())
    assert set(workflow["jobs"]) == {"check", "build"}
    gitlab = yaml.safe_load((ROOT / "packaging/gitlab/.gitlab-ci.yml").read_text())
    assert "--format sarif" in gitlab["build"]["script"][1]
    allowed_kinds(ACTION["inputs"]["allow-unproved"]["default"])
    for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text()):
        name, command = hook["entry"].split()
        assert (name, command in COMMANDS) == ("infc", True)


def test_the_options_that_they_use_are_those_of_the_build(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "--help"]) == 0
    told = capsys.readouterr().out
    for option in ("--format", "--summary", "--allow-unproved"):
        assert option in told
