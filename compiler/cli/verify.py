"""`infc verify`: whether a bundle is whole, whether its evidence gives its verdicts, and whether its claims hold here."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import Exit, InfcError
from .options import SECONDS, add_sandbox, command_parser, settings_of
from .output import Ui, format_table, plain, print_json

if TYPE_CHECKING:
    from ...dsl.spec import Spec
    from ..env import Settings
    from ..proof.rejudge import Bundled
    from ..proof.replay import Import, Replayed, Rows
    from ..proof.verdict import Verdict

DESCRIPTION = """Verify a bundle: the digests of its content and of its evidence, and that the evidence gives the verdicts that stand
in it. Then measure each claim once more on this machine, on fresh load: it holds, does not hold, or cannot be told.
The exit code is 0 where all claims hold (or with --quick), 3 where one does not, 4 where one cannot be told, 7 where the
bundle is damaged."""


def run(argv: Sequence[str]) -> int:
    """Raises InfcError: exit 2 where there is no bundle, 6 where this machine cannot run it, 7 where it is damaged."""
    parser = command_parser("verify", DESCRIPTION)
    parser.add_argument("bundle", type=Path, help="the bundle's folder")
    parser.add_argument("--quick", action="store_true", help="digests and verdicts alone; measure nothing")
    parser.add_argument(
        "--data", type=Path, metavar="SPEC", help="a spec whose `evaluate` rows are sent, and its model the reference"
    )
    parser.add_argument(
        "--budget", type=SECONDS, metavar="S", help="seconds that measuring may take; default: the spec's `budget`"
    )
    add_sandbox(parser)
    args = parser.parse_args(argv)
    settings, ui = settings_of(args), Ui.from_args(args)
    from ..bundle.manifest import bundle_digest, verify_files
    from ..proof.rejudge import judge_again, open_bundle

    bundle: Path = args.bundle
    bundled = open_bundle(bundle)
    verify_files(bundle, bundled.manifest, [file.path for file in bundled.manifest.files])
    verdicts = judge_again(bundled, bundled.documents)
    other = check_evidence(bundled, verdicts)
    if other:
        ui.warn(other)
    found = None if args.quick else _replay(bundled, verdicts, args, settings, ui)
    code = Exit.OK
    if found is not None:
        from ..proof.replay import outcome

        code = outcome(found)
    document: dict[str, object] = {
        "bundle": str(bundle),
        "digest": bundle_digest(bundle),
        "content": len(bundled.manifest.files),
        "evidence": len(bundled.documents),
        "signature": signature_of(bundle),
        "targets": [v.as_json() for v in verdicts],
    }
    if args.json:
        replayed = None if found is None else [_as_json(r) for r in found]
        print_json("infc.verify/1", code, {**document, "replayed": replayed})
        return code
    _print(document, verdicts, found)
    return code


def signature_of(bundle: Path) -> str:
    """What is known of who made the bundle."""
    if (bundle / "signature").exists():
        return "not checked: this infc knows no signatures"
    return "not signed"


def check_evidence(bundled: Bundled, verdicts: Sequence[Verdict]) -> str:
    """Raises InfcError (exit 7) where a document is of another bundle, or targets.json is not what the evidence gives. Where
    another infc judged it by other rules that is no damage: what differs is said, else ""."""
    from ..bundle.evidence import RULES, rules_of
    from ..proof.admit import subject_fault
    from ..proof.answers import answers_subject
    from ..proof.document import Run
    from ..proof.rejudge import differences

    place = bundled.folder / "evidence"
    for document in bundled.documents:
        if isinstance(document.said, Run):
            fault = subject_fault(document.said.subject, bundled)
        else:
            other = document.said.subject != answers_subject(bundled.manifest)
            fault = "its answers are those of other model files" if other else ""
        if fault:
            raise InfcError(
                f"{place / document.name} is not of this bundle: {fault}",
                exit_code=Exit.DAMAGED,
                hint="build it again, or copy it again",
            )
    if not place.is_dir():
        return ""
    wrong = differences(bundled.stored, verdicts)
    if not wrong:
        return ""
    if rules_of(bundled.folder) != RULES:
        return f"infc {bundled.manifest.infc} judged it by other rules; by those of this one {'; '.join(wrong)}"
    raise InfcError(
        f"the evidence in {place} does not give its verdicts: {'; '.join(wrong)}",
        exit_code=Exit.DAMAGED,
        hint="build it again, or copy it again",
    )


def _replay(
    bundled: Bundled, verdicts: Sequence[Verdict], args: Namespace, settings: Settings, ui: Ui
) -> list[Replayed]:
    from ..proof.replay import replay
    from ..temporary import work_folder

    budget = bundled.model.search.budget_s if args.budget is None else args.budget
    with work_folder() as work, ui.progress("verify") as step:
        rows = None if args.data is None else _rows(bundled, args.data, settings, work, ui)
        return replay(bundled, verdicts, rows, budget, work, step)


def _rows(bundled: Bundled, path: Path, settings: Settings, work: Path, ui: Ui) -> Rows:
    """The rows of another spec. Its model is imported where it is asked for, and not before."""
    from ..bundle.lock import read_lock
    from ..driver import Request, check_spec, import_model
    from ..proof.replay import Rows, other_source

    request = Request(
        path,
        require_sandbox=settings.require_sandbox,
        import_memory=settings.import_memory,
        import_seconds=settings.import_seconds,
        notice=ui.warn,
    )
    spec = check_spec(request)
    locked = cast(dict[str, Any], read_lock(bundled.folder / "infer.lock", "infc build").get("inputs", {}))
    found = Rows(
        spec,
        lambda: import_model(spec.models[0], Path(spec.folder or "."), work / "import", request),
        partial(_write_rows, bundled, work / "requests.jsonl"),
        other_source(spec, locked),
    )
    _ = found.data
    return found


def _write_rows(bundled: Bundled, path: Path, spec: Spec, import_model: Import) -> Path:
    """The rows of spec as requests; texts need no import of the model."""
    from ..measure.text_rows import read_texts
    from ..proof.requests import write_requests

    model = spec.models[0]
    assert model.data.evaluate is not None
    texts = tuple(bundled.manifest.models[0].task.texts)
    if not texts:
        write_requests(model, import_model(), path)
        return path
    lines = [dict(zip(texts, row, strict=True)) for row in read_texts(model.data.evaluate, texts)]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def _as_json(found: Replayed) -> dict[str, object]:
    now = None if found.now is None else found.now.as_json()
    return {"target": found.claimed.target, "holds": found.word, "why": found.why, "now": now}


def _print(document: dict[str, Any], verdicts: Sequence[Verdict], found: Sequence[Replayed] | None) -> None:
    from ..proof.verdict import interval

    whole = f"content whole ({document['content']} files), evidence whole ({document['evidence']} documents)"
    print(plain(f"{document['bundle']}: {whole}, {document['signature']}"))
    if found is None:
        rows = [(v.target, interval(v), v.verdict) for v in verdicts]
        if rows:
            print(plain(format_table(rows, header=("target", "in the bundle", "verdict"))))
        return
    if not found:
        print("nothing is claimed: the spec has no targets")
        return
    print(headline(found))
    table = [
        (r.claimed.target, interval(r.claimed), "" if r.now is None else interval(r.now), _shout(r.word), r.why)
        for r in found
    ]
    print(plain(format_table(table, header=("target", "in the bundle", "here", "", "how"))))


def headline(found: Sequence[Replayed]) -> str:
    """`3 of 5 claims hold, 1 does not, 1 cannot be told; 2 targets were not claimed`."""
    words = [r.word for r in found]
    claims = len(words) - words.count("not claimed")
    parts = [f"{words.count('holds')} of {claims} claims hold"] if claims else ["nothing is claimed"]
    parts += [
        f"{count} does not" if count == 1 else f"{count} do not" for count in [words.count("does not hold")] if count
    ]
    parts += [f"{count} cannot be told" for count in [words.count("cannot tell")] if count]
    unclaimed = words.count("not claimed")
    if unclaimed:
        parts.append(f"{unclaimed} target{'s' * (unclaimed > 1)} of the spec not proved in the bundle")
    return ", ".join(parts)


def _shout(word: str) -> str:
    return "DOES NOT HOLD" if word == "does not hold" else word
