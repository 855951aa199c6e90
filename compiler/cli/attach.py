"""`infc attach`: evidence that the bundle's `serve prove` made elsewhere becomes the bundle's, and every verdict is made anew."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Exit, InfcError
from .options import command_parser
from .output import Ui, plain, print_json

if TYPE_CHECKING:
    from ..proof.rejudge import Bundled, Document
    from ..proof.verdict import Verdict

DESCRIPTION = """Add evidence to a bundle: documents that its own `serve prove --out FILE` wrote, here or on another machine.
Every target is judged again on all that is known. On a machine that is not the declared one a measurement decides nothing
of times, rates and memory. The exit code is 0 where every target is met, 3 where one is missed, 4 where one is not proved."""
EPILOG = """example, on the machine that the bundle is for:
  my.bundle/serve prove --rate 100 --blocks 20 --seed 7 --out there.json
and where the bundle is kept:
  infc attach my.bundle there.json"""


def run(argv: Sequence[str]) -> int:
    """Raises InfcError: exit 2 for a document that is none of this bundle, 7 where the bundle's evidence is damaged."""
    parser = command_parser("attach", DESCRIPTION, epilog=EPILOG)
    parser.add_argument("bundle", type=Path, help="the bundle's folder")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="what serve prove wrote")
    args = parser.parse_args(argv)
    ui = Ui.from_args(args)
    from ..bundle.manifest import bundle_digest
    from ..proof.admit import admit
    from ..proof.ask import plain_settings
    from ..proof.rejudge import differences, judge_again, open_bundle
    from ..proof.verdict import binding, exit_code, overall

    bundle: Path = args.bundle
    bundled = open_bundle(bundle)
    settings = plain_settings(bundle, bundled.manifest) or _settings_of(bundled)
    documents, added = list(bundled.documents), list[str]()
    for path in args.files:
        found = admit(bundled, documents, _read(path), path, settings)
        if found is None:
            ui.status(f"{path} is there already")
            continue
        documents.append(found)
        added.append(str(path))
    verdicts = judge_again(bundled, documents)
    if added or differences(bundled.stored, verdicts):
        _write(bundled, documents, verdicts)
        _renew_report(bundle, ui)
    code = exit_code(overall(verdicts))
    if args.json:
        missed = binding(verdicts)
        print_json(
            "infc.attach/1",
            code,
            {
                "bundle": str(bundle),
                "digest": bundle_digest(bundle),
                "added": added,
                "documents": len(documents),
                "verdict": overall(verdicts),
                "targets": [v.as_json() for v in verdicts],
                "binding": [v.target for v in missed],
                "relax": [v.relaxed for v in missed if v.relaxed],
            },
        )
        return code
    if verdicts:
        from .build import headline, targets_table

        print(plain(headline(verdicts, frozenset())))
        print(plain(targets_table(verdicts)))
    else:
        ui.status("nothing was promised: the spec has no targets")
    print(plain(f"{bundle}: {len(added)} of {len(args.files)} documents added, {len(documents)} in all"))
    return code


def _settings_of(bundled: Bundled) -> dict[str, object]:
    """The server's settings as earlier evidence says."""
    return next((dict(run.subject.settings) for run in bundled.runs), dict[str, object]())


def _read(path: Path) -> bytes:
    from ...runtime.document import open_regular
    from ..bundle.evidence import MOST_BYTES

    try:
        with open_regular(path.resolve()) as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        said = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise InfcError(f"{path} cannot be read: {said}") from None
    if len(data) > MOST_BYTES:
        raise InfcError(f"{path} has more than {MOST_BYTES:,} bytes, which no evidence has")
    return data


def _write(bundled: Bundled, documents: Sequence[Document], verdicts: Sequence[Verdict]) -> None:
    """Puts the evidence anew at its place: whole, or not at all. Raises InfcError (exit 6) where the disk refuses."""
    from ..bundle.evidence import write_evidence
    from ..proof.rejudge import VERDICTS
    from ..temporary import temporary_folder

    text = json.dumps([v.as_json() for v in verdicts], indent=1, allow_nan=False) + "\n"
    others = {**bundled.others, **({VERDICTS: text.encode()} if verdicts else {})}
    folder = bundled.folder.resolve()
    try:
        with temporary_folder(folder.parent, f".{folder.name}.tmp-") as work:
            write_evidence(work, [(d.kind, d.data) for d in documents], others)
            place = folder / "evidence"
            if place.exists():
                os.rename(place, work / "before")
            try:
                os.rename(work / "evidence", place)
            except BaseException:
                if (work / "before").exists():
                    os.rename(work / "before", place)
                raise
    except OSError as error:
        raise InfcError(
            f"{folder / 'evidence'} cannot be written: {error.strerror or error}",
            exit_code=Exit.MISSING,
            hint="the evidence is as it was; the bundle and its folder must be writable",
        ) from error


def _renew_report(bundle: Path, ui: Ui) -> None:
    """Writes report.html anew where there is one; it is removed where this installation cannot."""
    path = bundle / "report.html"
    if not path.exists():
        return
    try:
        from ..report.page import write_report

        write_report(bundle)
    except (InfcError, ModuleNotFoundError) as error:
        path.unlink()
        hint = f": {error.message}" if isinstance(error, InfcError) else ""
        ui.warn(f"{path} told of the evidence before and is removed, since it cannot be written here{hint}")
