"""What `make demo` shows: from a .infer file to a served answer, with nothing but the `infc` command.

Builds examples/minilm, starts the bundle's own `serve` (no Python in it) on a free port, asks it for the embeddings of
two sentences, and prints how similar they are, then the verdict on each of the spec's targets.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SPEC = HERE / "minilm" / "minilm.infer"
SENTENCES = ("A man is playing the guitar on stage.", "Someone performs music in front of an audience.")
BUILT = (0, 3, 4)  # met, missed, or not proved on this machine


def main() -> int:
    """0 when the model was built and answered; a target that was missed is shown, not hidden."""
    say("1. the model and some sentences")
    subprocess.run([sys.executable, HERE / "minilm" / "prepare.py"], check=True)
    say(f"2. infc build {SPEC.relative_to(HERE.parent)}")
    start = time.monotonic()
    report = build(SPEC)
    bundle = Path(report["bundle"])
    print(
        f"  {bundle.name} in {time.monotonic() - start:.1f} s{', reused: nothing had changed' if report['reused'] else ''}"
    )
    say("3. its own server, asked through /v1/embeddings")
    with served(bundle) as address:
        first, second = embed(address, SENTENCES)
    print(
        f"  {SENTENCES[0]!r}\n  {SENTENCES[1]!r}\n  cosine {cosine(first, second):.4f} over {len(first)} numbers each"
    )
    say(f"4. targets: {report['verdict']}")
    print_targets(report["targets"])
    return 0


def build(spec: Path) -> dict[str, Any]:
    """Runs `infc build SPEC --json`; progress goes to the terminal. Ends the program where the build fails."""
    command = [sys.executable, "-m", "infc", "build", str(spec), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in BUILT:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


@contextmanager
def served(bundle: Path) -> Generator[str]:
    """Starts the bundle's `serve` on a free port and yields its address once it is ready; stops it afterwards."""
    server = subprocess.Popen([bundle / "serve", "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()  # one line of JSON with the addresses, written when the port is open
        if not line:
            sys.exit(f"demo: serve ended with {server.wait()} before it listened")
        address = f"http://{json.loads(line)['http']}"
        wait_until_ready(server, address)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_until_ready(server: subprocess.Popen[str], address: str) -> None:
    """Asks /v2/health/ready until it says yes, while the server lives."""
    while server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/v2/health/ready", timeout=5):
                return
        except OSError:
            try:
                server.wait(timeout=0.02)
            except subprocess.TimeoutExpired:
                continue
    sys.exit(f"demo: serve ended with {server.returncode} before it was ready")


def embed(address: str, texts: tuple[str, ...]) -> list[list[float]]:
    """One embedding a text."""
    body = json.dumps({"model": "minilm", "input": list(texts)}).encode()
    request = urllib.request.Request(f"{address}/v1/embeddings", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        rows = json.load(answer)["data"]
    return [row["embedding"] for row in sorted(rows, key=lambda row: row["index"])]


def cosine(a: list[float], b: list[float]) -> float:
    """Between -1 and 1."""
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def print_targets(targets: list[dict[str, Any]]) -> None:
    """A line a target: what was promised, what was measured with its interval, and the verdict."""
    rows = [(t["target"], measured(t), t["verdict"].replace("missed", "MISSED")) for t in targets]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    for (target, value, verdict), t in zip(rows, targets, strict=True):
        note = f" ({t['note']})" if t["note"] else ""
        print(f"  {target:<{widths[0]}}   {value:>{widths[1]}}   {verdict}{note}")


def measured(target: dict[str, Any]) -> str:
    """The estimate and its interval; `-` where there is none."""
    scale, unit = {"s": (1e-3, "ms"), "B": (1 << 20, "MiB")}.get(target["unit"], (1, target["unit"]))
    value, low, high = ("" if target[k] is None else f"{target[k] / scale:.6g}" for k in ("value", "low", "high"))
    if not value:
        return "-"
    around = f" ({low}..{high})" if (low or high) and not low == value == high else ""
    return f"{value}{around} {unit}".rstrip()


def say(text: str) -> None:
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
