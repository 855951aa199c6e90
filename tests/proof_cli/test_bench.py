"""`infc bench`: load on a bundle's own server; what it prints, and how it draws it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from infc.compiler.cli import bench
from infc.compiler.cli.main import main
from infc.compiler.cli.plot import bar, drawable, histogram
from tests.proof.documents import block, run_of

from .conftest import MakeClaimed
from .support import Json, Made, even


@pytest.fixture(scope="module")
def made(claimed: MakeClaimed) -> Made:
    return claimed("")


def test_a_table_rates_memory_and_a_plot_are_printed(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(made.folder), "--duration", "1"]) == 0
    out = capsys.readouterr().out
    lines = [line.split()[0] for line in out.splitlines() if line.strip()]
    for name in ("p50", "p90", "p95", "p99", "p99.9", "max", "answered", "memory", "noise"):
        assert name in lines
    assert "one request at a time, 10 blocks" in out
    assert "█" in out


def test_json_has_every_figure_with_its_interval(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(made.folder), "--duration", "1", "--rate", "200", "--items", "1..4", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["schema"], said["exit_code"]) == ("infc.bench/1", 0)
    assert said["load"] == "200 req/s, 1 to 4 rows each"
    assert said["sent"] == pytest.approx(10 * 0.1 * 200)
    assert said["errors"] == {}
    assert [row["statistic"] for row in said["latency_s"]] == ["p50", "p90", "p95", "p99", "p99.9", "max"]
    p50 = said["latency_s"][0]
    assert 0 < p50["low"] <= p50["value"] <= p50["high"] < 10
    assert said["peak_rss_bytes"] > 1 << 20


def test_the_declared_rate_is_the_default(claimed: MakeClaimed, capsys: pytest.CaptureFixture[str]) -> None:
    def declare(manifest: Json) -> None:
        manifest["traffic"] = {"rate": 60.0, "arrival": "steady"}

    made = claimed("", edit=declare)
    assert main(["bench", str(made.folder), "--duration", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["load"] == "60 req/s, steady"


def test_a_figure_that_cannot_be_told_is_a_question_mark(capsys: pytest.CaptureFixture[str]) -> None:
    found = run_of(
        blocks=[block([0.002] * 5 + [float("inf")], index, lag_p99_s=None, foreign=None) for index in range(10)]
    )
    said = bench.summary(found)
    assert said["errors"] == {"429": 10}
    bench._print(found, said)  # pyright: ignore[reportPrivateUsage]
    out = capsys.readouterr().out
    assert "429: 10" in out
    assert "answered 50 of 60" in out
    assert "lag of the load unknown" in out
    assert "other programs unknown" in out
    p99 = next(line for line in out.splitlines() if line.startswith("p99 "))
    assert "no answer" in p99
    assert p99.endswith("?")


def test_requests_without_an_answer_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = [block([float("inf")] * 3, index, errors={"0": 3}) for index in range(8)]
    said = bench.summary(run_of(blocks=blocks))
    bench._print(run_of(blocks=blocks), said)  # pyright: ignore[reportPrivateUsage]
    assert "no answer: 24" in capsys.readouterr().out


def test_a_noisy_run_is_said_to_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    found = run_of(blocks=[block([0.002] * 5, index, foreign=0.9) for index in range(10)])
    bench._print(found, bench.summary(found))  # pyright: ignore[reportPrivateUsage]
    assert "these times say little: 10 of 10 blocks are void: other programs took 90%" in capsys.readouterr().out


def test_a_file_name_of_a_machine_commands_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    found = run_of(blocks=even(0.002), fingerprint={"model_name": "\x1b[2Jchip"})
    bench._print(found, bench.summary(found))  # pyright: ignore[reportPrivateUsage]
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--rate", "0"], "expected requests a second"),
        (["--rate", "many"], "expected requests a second"),
        (["--closed", "0"], "1 to 1024"),
        (["--closed", "2000"], "1 to 1024"),
        (["--rate", "5", "--closed", "1"], "not allowed with"),
        (["--items", "4..1"], "as in 1..16"),
        (["--items", "x"], "as in 1..16"),
        (["--duration", "0"], "expected seconds"),
    ],
)
def test_wrong_arguments_are_exit_2(
    made: Made, arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(made.folder), *arguments]) == 2
    assert part in capsys.readouterr().err


def test_rows_that_the_server_does_not_take_are_its_own_words(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(made.folder), "--items", "1..999", "--duration", "1"]) == 2
    assert "serve prove failed: " in capsys.readouterr().err


def test_what_is_no_bundle_or_has_no_server(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(tmp_path)]) == 2
    assert "is no bundle" in capsys.readouterr().err
    for name in ("manifest.json", "manifest.sha256"):
        (tmp_path / name).write_bytes((made.folder / name).read_bytes())
    assert main(["bench", str(tmp_path)]) == 7
    assert "has lost its server" in capsys.readouterr().err


def test_a_server_of_an_older_build_is_said_to_be_one(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("manifest.json", "manifest.sha256"):
        (tmp_path / name).write_bytes((made.folder / name).read_bytes())
    (tmp_path / "serve").write_text(
        "#!/bin/sh\necho \"serve: error: unexpected argument '--blocks' found\" >&2; exit 2\n"
    )
    (tmp_path / "serve").chmod(0o755)
    assert main(["bench", str(tmp_path)]) == 2
    assert "built by an older infc" in capsys.readouterr().err
    (tmp_path / "serve").chmod(0o644)
    assert main(["bench", str(tmp_path)]) == 6
    assert "chmod +x" in capsys.readouterr().err


def test_a_histogram_has_every_value_once_and_fits_its_width() -> None:
    values = [1e-3 * 1.01**n for n in range(300)]
    lines = histogram(values, {"p50": values[150], "max": values[-1]}, 60, bench.time_text)
    assert len(lines) == 16
    assert all(len(line) <= 60 for line in lines)
    assert lines[-1].endswith("max")
    shares = [float(line.split("%")[0].split()[-1]) for line in lines]
    assert sum(shares) == pytest.approx(100, abs=1)
    assert histogram([2e-3], {"p50": 2e-3}, 60, bench.time_text)[0].startswith("2 ms")
    assert histogram([0.0, 0.0], {}, 60, bench.time_text)[0].startswith("1 ns")


def test_a_bar_of_anything_is_seen() -> None:
    assert bar(0, 10) == ""
    assert bar(1e-9, 10) == "▏"
    assert bar(1, 10) == "█" * 10


def test_a_terminal_without_unicode_gets_ascii() -> None:
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert drawable("─█▍é", ascii_only) == "-#-?"
    assert drawable("─█▍é", io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) == "─█▍é"
