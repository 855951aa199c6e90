"""Settings: flags before INFC__* before files before defaults, each with its origin; malformed ones are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infc.compiler.cli.main import main
from infc.compiler.env import SETTINGS, load_settings, parse_size
from infc.compiler.errors import Exit, InfcError


def test_precedence_and_origins(tmp_path: Path) -> None:
    (tmp_path / "infc.toml").write_text('cache_dir = "/from-file"\ncache_limit = "1 GiB"\ndebug = 2\n')
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    env = {"INFC__CACHE_DIR": "/from-env", "INFC__CACHE_LIMIT": "2 GiB", "INFC__PORT": "80", "INFC_DEBUG": "9"}
    s = load_settings({"cache_dir": "/from-flag", "color": None}, environ=env, start=deep)
    assert (s.cache_dir, s.origins["cache_dir"]) == (Path("/from-flag"), "--cache-dir")
    assert (s.cache_limit, s.origins["cache_limit"]) == (2 << 30, "INFC__CACHE_LIMIT")
    assert (s.debug, s.origins["debug"]) == (2, str(tmp_path / "infc.toml"))
    assert (s.color, s.origins["color"]) == ("auto", "default")
    assert set(s.origins) == set(SETTINGS)


def test_a_table_of_pyproject_counts_and_the_nearest_file_wins(tmp_path: Path) -> None:
    (tmp_path / "infc.toml").write_text("debug = 1\n")
    inner = tmp_path / "p"
    inner.mkdir()
    (inner / "pyproject.toml").write_text('[tool.infc]\ncolor = "never"\n')
    s = load_settings(environ={}, start=inner)
    assert (s.color, s.debug) == ("never", 0)
    (inner / "pyproject.toml").write_text("[project]\n")
    assert load_settings(environ={}, start=inner).debug == 1


def test_the_cache_follows_xdg(tmp_path: Path) -> None:
    assert load_settings(environ={"XDG_CACHE_HOME": "/x"}, start=tmp_path).cache_dir == Path("/x/infc")


def test_no_color(tmp_path: Path) -> None:
    s = load_settings(environ={"NO_COLOR": "1"}, start=tmp_path)
    assert (s.color, s.origins["color"]) == ("never", "NO_COLOR")
    assert load_settings(environ={"NO_COLOR": "1", "INFC__COLOR": "always"}, start=tmp_path).color == "always"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DEBUG", "5"),
        ("DEBUG", "yes"),
        ("COLOR", "red"),
        ("CACHE_LIMIT", "lots"),
        ("CACHE_LIMIT", "-1"),
        ("CACHE_LIMIT", "9" * 400),
        ("CACHE_DIR", "~no-such-user/x"),
        ("TUNE", "-1"),
        ("TUNE", "nan"),
    ],
)
def test_a_malformed_variable_is_named(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(InfcError) as caught:
        load_settings(environ={f"INFC__{name}": text}, start=tmp_path)
    assert caught.value.exit_code == Exit.USAGE
    assert f"INFC__{name}: {text!r} is not" in caught.value.message


def test_an_unknown_key_of_a_file_gets_a_hint(tmp_path: Path) -> None:
    (tmp_path / "infc.toml").write_text("cache_dri = '/x'\n")
    with pytest.raises(InfcError, match="no setting 'cache_dri'") as caught:
        load_settings(environ={}, start=tmp_path)
    assert caught.value.hint == "did you mean 'cache_dir'?"


@pytest.mark.parametrize("content", [b"a = ", b"\xff"])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "infc.toml").write_bytes(content)
    with pytest.raises(InfcError, match="infc.toml is not TOML"):
        load_settings(environ={}, start=tmp_path)


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("4096", 4096), ("1KiB", 1024), ("1.5 MiB", 3 << 19), ("2 GB", 2_000_000_000)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_config_prints_values_with_origins(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["config", "--json", "--cache-dir", str(tmp_path)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "infc.config/1"
    assert document["settings"]["cache_dir"] == {"value": str(tmp_path), "origin": "--cache-dir"}
    assert main(["config"]) == 0
    assert "INFC__CACHE_DIR" in capsys.readouterr().out


def test_cache_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = ["--cache-dir", str(tmp_path)]
    load_settings({"cache_dir": str(tmp_path)}).cache.put_bytes("0" * 64, b"x" * 100)
    assert main(["cache", "dir", *place]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path)
    assert main(["cache", "size", "--json", *place]) == 0
    assert json.loads(capsys.readouterr().out)["entries"] == 1
    assert main(["cache", "prune", "--to", "0", *place]) == 0
    assert capsys.readouterr().out.startswith("freed ")
    assert main(["cache", "size", "--json", *place]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == 0
    assert main(["cache", "prune", "--to", "much", *place]) == 2
    assert "'much' is not a size" in capsys.readouterr().err
    assert main(["cache", "size", "--to", "0", *place]) == 2


def test_the_server_passes_over_every_setting_of_the_compilers() -> None:
    text = (Path(__file__).parents[2] / "runtime" / "server" / "src" / "config.rs").read_text("utf-8")
    foreign = text.partition("const FOREIGN_ENV")[2].partition("];")[0]
    assert [key for key in SETTINGS if f'"{key}"' not in foreign] == []
