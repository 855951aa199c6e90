"""The page in a real browser (Debian's chromium): a phone's width, two schemes, print, and nothing that runs or loads."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infc.compiler.proof.loads import Load
from infc.compiler.report.page import write_report

from .bundles import BUILT, Run, latencies, make, scores
from .test_page import EVIL

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH (Debian and Ubuntu: make deps-debian)")
SECONDS = 120

HARNESS = """<!DOCTYPE html><body><iframe id="f" src="report.html" style="width:WIDTHpx;height:2000px;border:0"></iframe><script>
document.getElementById("f").onload = () => {
  const page = document.getElementById("f").contentDocument, root = page.documentElement;
  const outside = [...page.body.querySelectorAll("*")].filter(e => !e.closest(".scroll") && !e.closest("svg")
    && e.getBoundingClientRect().right > WIDTH + 0.5).map(e => e.outerHTML.slice(0, 120));
  const texts = [...page.querySelectorAll("svg text")].map(e => e.getBoundingClientRect());
  const cut = [...page.querySelectorAll(".scroll")].filter(e => e.getBoundingClientRect().width < e.scrollWidth - 1
    && getComputedStyle(e).overflowX !== "auto").length;
  document.title = JSON.stringify({
    wide: root.scrollWidth, outside, cut, height: root.scrollHeight,
    letters: Math.min(...texts.map(r => Math.min(r.width, r.height))), texts: texts.length,
    beyond: texts.filter(r => r.right > WIDTH + 1 || r.left < -1).length,
    foreign: page.querySelectorAll("script, img, iframe, link").length,
  });
};
</script>"""


@dataclass
class Served:
    """A folder behind http on this machine, and the paths that were asked of it."""

    folder: Path
    port: int
    asked: list[str] = field(default_factory=list[str])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = make(tmp_path_factory.mktemp("browser") / "fraud.bundle", answers=scores())
    write_report(folder)
    with serving(folder) as found:
        yield found


class serving:
    """Serves a folder on a free port while it is entered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Served:
        found = Served(self.folder, 0)

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                found.asked.append(self.path)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(self.folder)))
        found.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return found

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def chromium(profile: Path, *arguments: str) -> str:
    """Runs it once, with a profile of its own."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
        "--disable-background-networking", "--disable-dev-shm-usage", f"--user-data-dir={profile}", *arguments,
    ]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def measure(served: Served, width: int, profile: Path) -> dict[str, Any]:
    """What a page in a frame of that width comes to."""
    (served.folder / "harness.html").write_text(HARNESS.replace("WIDTH", str(width)))
    dom = chromium(
        profile, f"--window-size={width + 100},2200", "--virtual-time-budget=10000", "--dump-dom",
        f"http://127.0.0.1:{served.port}/harness.html",
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", dom, re.DOTALL)
    assert title is not None, dom[-500:]
    return json.loads(title[1].replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


def shot(served: Served, dark: bool, profile: Path, out: Path) -> np.ndarray[Any, Any]:
    """A picture of the page [rows, columns, 3]."""
    from PIL import Image

    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    chromium(
        profile,
        "--window-size=1280,2000",
        *scheme,
        f"--screenshot={out}",
        f"http://127.0.0.1:{served.port}/report.html",
    )
    with Image.open(out) as image:
        return np.asarray(image.convert("RGB"), np.float64)


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_no_page_scrolls_sideways_and_letters_can_be_read(served: Served, width: int, tmp_path: Path) -> None:
    found = measure(served, width, tmp_path)
    assert found["wide"] <= width
    assert not found["outside"]
    assert found["cut"] == 0
    assert found["beyond"] == 0
    assert found["texts"] > 60
    assert found["letters"] >= 8.5


def test_nothing_is_asked_of_the_server_but_the_page(served: Served, tmp_path: Path) -> None:
    served.asked.clear()
    assert measure(served, 360, tmp_path)["foreign"] == 0
    assert set(served.asked) - {"/favicon.ico"} == {"/harness.html", "/report.html"}


def test_light_and_dark_differ_and_neither_is_blank(served: Served, tmp_path: Path) -> None:
    light = shot(served, False, tmp_path / "a", tmp_path / "light.png")
    dark = shot(served, True, tmp_path / "b", tmp_path / "dark.png")
    assert np.median(light) > 230
    assert np.median(dark) < 60
    for picture in (light, dark):
        ink = np.abs(picture - np.median(picture)).max(axis=2) > 60
        assert 0.01 < ink.mean() < 0.3
        assert ink[:1000].any()
        assert ink[1000:].any()


def test_it_prints(served: Served, tmp_path: Path) -> None:
    out = tmp_path / "report.pdf"
    chromium(
        tmp_path / "p", "--no-pdf-header-footer", f"--print-to-pdf={out}", f"http://127.0.0.1:{served.port}/report.html"
    )
    data = out.read_bytes()
    assert data.startswith(b"%PDF")
    assert 4 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 20


def test_hostile_names_stay_names_in_a_browser(tmp_path: Path) -> None:
    wide = EVIL + "x" * 300
    built = {**BUILT, "notes": [wide], "layers": [{"layer": wide, "precision": "int8", "reason": wide}],
             "ops": [{"op": wide, "provider": wide, "steps": 1, "share": 1.0}]}  # fmt: skip
    runs = [Run("look", Load(100.0), latencies(1, 20, 60), utc=wide)]
    folder = make(tmp_path / "evil.bundle", runs, built=built, name=wide)
    write_report(folder)
    with serving(folder) as found:
        told = measure(found, 360, tmp_path / "p")
        assert told["foreign"] == 0
        assert told["wide"] <= 360
        assert not told["outside"]
        assert set(found.asked) - {"/favicon.ico"} == {"/harness.html", "/report.html"}
