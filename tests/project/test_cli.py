"""The dispatcher: every command has help, every failure a message and an exit code, and none a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from infc.compiler.cli import main as cli
from infc.compiler.cli.completion import script
from infc.compiler.errors import EXTRA_OF, Exit, InfcError, missing_module, require
from infc.dsl.diagnostics import Diagnostic


def test_version_and_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("infc 0.")
    assert cli.main(["--help"]) == 0
    assert "usage: infc COMMAND" in capsys.readouterr().out
    assert cli.main([]) == 2


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert find_spec(f"infc.compiler.cli.{cli.COMMANDS[name].module}") is not None
    assert cli.main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"infc {name}" in out
    assert cli.main(["help", name]) == 0
    assert capsys.readouterr().out == out


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["biuld", "x"], "there is no command 'biuld'", "did you mean `infc build`?"),
        (["--verson"], "there is no option '--verson'", "the commands are"),
        (["cache", "size", "--jsn"], "infc cache does not take '--jsn'", "did you mean --json?"),
        (["completion", "tcsh"], "invalid choice: 'tcsh'", "--help"),
    ],
)
def test_wrong_words_are_exit_2_with_a_hint(
    argv: list[str], message: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert hint in err
    assert out == ""


@pytest.mark.parametrize(
    ("redirect", "code"), [(">&-", 0), (">&- 2>&-", 0), (">/dev/full", 6), (">/dev/full 2>/dev/full", 6)]
)
def test_an_output_that_is_closed_or_full_shows_no_traceback(redirect: str, code: int) -> None:
    command = f"{sys.executable} -m infc targets --json {redirect}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_what_a_file_holds_commands_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["build", "\x1b]0;owned\x07.infer"]) == 2
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "owned" in err


def test_json_on_failure_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cache", "prune", "--to", "x", "--json"]) == 2
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert (document["schema"], document["exit_code"]) == ("infc.error/1", 2)
    assert document["error"]["message"] == "--to: 'x' is not a size"
    assert "error" in err


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: list[str]) -> int:
        raise error

    monkeypatch.setattr("infc.compiler.cli.config.run", run)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyboardInterrupt(), Exit.INTERRUPTED, "interrupted"),
        (MemoryError(), Exit.MISSING, "not enough memory"),
        (OSError(28, "No space left on device", "/x"), Exit.MISSING, "the disk is full at /x"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), Exit.MISSING, "pip install 'infc[build]'"),
        (ZeroDivisionError("division by zero"), Exit.INTERNAL, "internal error: ZeroDivisionError"),
        (InfcError("no model", exit_code=Exit.DAMAGED, hint="rebuild"), Exit.DAMAGED, "help: rebuild"),
    ],
)
def test_what_escapes_a_command(
    error: BaseException, code: Exit, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(error, monkeypatch)
    assert cli.main(["config"]) == code
    err = capsys.readouterr().err
    assert text in err
    assert "Traceback" not in err


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fail_with(ZeroDivisionError("division by zero"), monkeypatch)
    monkeypatch.setenv("INFC__DEBUG", "1")
    assert cli.main(["config"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_diagnostics_are_rendered_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    place = Diagnostic("E0203", "latency needs a time", help=("did you mean `20 ms`?",))
    fail_with(InfcError(place.title, diagnostics=[place]), monkeypatch)
    assert cli.main(["config", "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["diagnostics"][0]["code"] == "E0203"
    assert err.count("latency needs a time") == 1
    assert "E0203" in err


def test_a_reader_that_went_away_is_no_error() -> None:
    command = f"{sys.executable} -m infc completion bash | head -c 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_require_names_the_extra() -> None:
    assert require("json").__name__ == "json"
    with pytest.raises(InfcError) as caught:
        require("no_such_module_of_ours")
    assert caught.value.exit_code == Exit.INTERNAL
    for module, extra in EXTRA_OF.items():
        error = missing_module(ModuleNotFoundError(name=module + ".sub"))
        assert (error.exit_code, error.hint) == (Exit.MISSING, f"pip install 'infc[{extra}]'")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command(shell: str, tmp_path: Path) -> None:
    text = script(shell)
    assert all(name in text for name in cli.COMMANDS)
    if shell == "bash":
        (tmp_path / "c").write_text(text)
        check = 'source "$1"; COMP_WORDS=(infc comp); COMP_CWORD=1; _infc; echo "${COMPREPLY[@]}"'
        done = subprocess.run(
            ["bash", "-c", check, "bash", str(tmp_path / "c")], capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == ["compare", "completion"]


def test_checking_loads_nothing_heavy() -> None:
    """`infc check` must answer in 150 ms: no framework, no pydantic, no numpy on its way."""
    code = (
        "import sys; from infc.compiler.cli.main import main; code = main(['check', '--no-files', sys.argv[1]]);"
        "print(code, [m for m in ('torch','tvm','pydantic','numpy','lark','jinja2','infc.targets') if m in sys.modules])"
    )
    spec = Path(__file__).resolve().parents[2] / "examples" / "fraud" / "fraud.infer"
    done = subprocess.run([sys.executable, "-c", code, spec], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []", done.stdout
