"""Every diagnostic code: what it means and what to do, for `infc explain E0203`.

E01 text and brackets, E02 values, E03 words and blocks, E04 files, E05 what the parts say together, E06 hardware,
E07 layers, E08 the build; W warnings.
"""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    """A code's short title and its explanation."""

    title: str
    text: str


CODES: dict[str, Code] = {
    "E0101": Code(
        "unclosed string",
        'A string begins and ends with `"` on one line. `\\n` writes a newline, `\\"` a quote.',
    ),
    "E0102": Code(
        "unknown escape",
        'Strings know three escapes: `\\"`, `\\\\` and `\\n`. A path on Windows writes `\\\\` or `/`.',
    ),
    "E0103": Code(
        "unknown character",
        "Outside strings and comments a spec is ASCII. Text that was pasted from a web page or an editor "
        "often has curly quotes, long dashes or no-break spaces in it.",
    ),
    "E0104": Code(
        "lost bracket",
        "A `{`, `(` or `[` is never closed, or a block was never opened. Where the bracket was lost is found "
        "by the indentation, so the place may be off when that is unusual. Everything else in the file is "
        "still checked. Inside `( )` and `[ ]` a line may be broken after or before a comma, an operator or "
        "a bracket.",
    ),
    "E0105": Code(
        "stray bracket",
        "A `}`, `)` or `]` closes nothing, or closes a bracket of another kind.",
    ),
    "E0106": Code(
        "a statement begins with a word",
        "Each statement is one line that begins with a word of the language, as in `rate 40 req/s`. A line "
        "that begins with a value often belongs to the line before: a newline ends a statement except inside "
        "`( )` and `[ ]`.",
    ),
    "E0107": Code(
        "misplaced punctuation",
        "A comma stands between two values of one statement. One of them is missing, or punctuation stands "
        "where a value should.",
    ),
    "E0108": Code(
        "statements run together",
        "After `}` comes a newline, `;` or another `}`.",
    ),
    "E0109": Code(
        "not UTF-8",
        "A spec is text in UTF-8. The message names the first byte that is not.",
    ),
    "E0110": Code(
        "too much",
        "Limits keep a spec readable and the compiler quick: 1,048,576 characters a file, 64 files, brackets "
        "and blocks 48 deep.",
    ),
    "E0201": Code(
        "another kind of value was expected",
        "The statement has a value of another kind than its place takes: a string where a number belongs, or "
        "nothing at all.",
    ),
    "E0202": Code(
        "unknown unit",
        "The units: ns us ms s min h; B KiB MiB GiB KB MB GB; req/s items/s img/s tok/s; USD, USD/h; %; x "
        "(as in 4x); requests, tokens. Case matters.",
    ),
    "E0203": Code(
        "wrong unit",
        "Units are part of the type: a latency is a time, memory is a size.\n"
        "\n"
        "    latency p99 <= 20 MiB      wrong\n"
        "    latency p99 <= 20 ms       right",
    ),
    "E0204": Code(
        "missing unit",
        "A number alone is not a time, a size, a rate or a share.\n"
        "\n"
        "    memory <= 512              wrong\n"
        "    memory <= 512 MiB          right",
    ),
    "E0205": Code(
        "out of range",
        "The value has the right unit but cannot be: negative, zero, above 100 %, not whole.",
    ),
    "E0206": Code(
        "number too large",
        "Numbers stay within what a 64-bit machine can count, and within reason for their place.",
    ),
    "E0207": Code(
        "range ends before it begins",
        "Write the smaller end first: `1..64`. The unit may follow the range: `0..5 ms`.",
    ),
    "E0208": Code(
        "unknown choice",
        "The place takes one of a few words, and this is none of them.",
    ),
    "E0209": Code(
        "something does not belong here",
        "The statement was complete before this. A comma separates properties, `;` or a newline separates statements.",
    ),
    "E0210": Code(
        "missing `;`",
        "A comma separates values of one statement; a new statement needs `;` or a newline.\n"
        "\n"
        "    precision float32, int8, batch 1..4      wrong\n"
        "    precision float32, int8; batch 1..4      right",
    ),
    "E0211": Code(
        "unknown property",
        "What follows a comma is a property of the statement, and the statement has none of this name.",
    ),
    "E0212": Code(
        "given twice",
        "A value or property is written twice in one statement. Write it once.",
    ),
    "E0213": Code(
        "unknown option",
        'A call such as `jsonl("rows.jsonl", field = "text")` has fixed options.',
    ),
    "E0214": Code(
        "missing option",
        "A call or statement lacks something that has no default.",
    ),
    "E0215": Code(
        "option given twice",
        "An option stands twice in one call. Write it once.",
    ),
    "E0216": Code(
        "wrong comparison",
        "Latency, memory, cost and the like are bounded from above, with <=; throughput from below, with >=. "
        "Errors (mse, max_abs_error, perplexity) are bounded with <=, other metrics with >=. There is no < "
        "or >.",
    ),
    "E0217": Code(
        "unknown name",
        "A word stands where a value belongs, and no `let` has this name.",
    ),
    "E0218": Code(
        "not a percentile",
        "Percentiles are written p50, p95, p99, p99.9; `max` is the slowest request.",
    ),
    "E0219": Code(
        "string of the wrong form",
        "The string does not have the form that its place takes: a path, `file.py:function`, `org/name`, 40 "
        "hex digits, a version, a header's name.",
    ),
    "E0301": Code(
        "unknown word",
        "The language has no such word in this place. `infc check --explain` lists those that there are.",
    ),
    "E0302": Code(
        "word in the wrong block",
        "The word exists, but stands in another block. The message names it.",
    ),
    "E0303": Code(
        "missing block",
        "This word opens a block: `targets { ... }`.",
    ),
    "E0304": Code(
        "block where none belongs",
        "This word takes values, and no block.",
    ),
    "E0305": Code(
        "written twice",
        "One file (or one profile) says the same thing twice. A later layer may replace a statement: a file "
        "that includes another, a profile, --set.",
    ),
    "E0306": Code(
        "something required is missing",
        "Every spec has a model; every model has a source; a `torch` source has inputs, one for each "
        "parameter of forward.",
    ),
    "E0307": Code(
        "missing language version",
        "The first statement of every file is `infer 1`, also in included files.",
    ),
    "E0308": Code(
        "unknown language version",
        "This infc reads version 1 of the language. A newer infc may read newer ones.",
    ),
    "E0309": Code(
        "for which model?",
        "With several models, `data`, `traffic`, `search` and most of `targets` stand inside the model they "
        "are for. At top level may stand memory, cold_start, bundle_size, cost and confidence: they hold for "
        "the bundle.",
    ),
    "E0401": Code(
        "file not found",
        "A file or folder that the spec names is not there. Paths are relative to the file that writes them. "
        "`infc check --no-files` checks a spec without looking for its files.",
    ),
    "E0402": Code(
        "path outside the spec's folder",
        "A spec reads only its own folder tree, links followed, so that it can be moved and trusted. "
        "`--allow-path DIR` allows another tree.",
    ),
    "E0403": Code(
        "a folder where a file belongs",
        "Or the other way round: `huggingface` and `folder` read folders, the others files.",
    ),
    "E0501": Code(
        "symbol without bounds",
        "Each symbol of a tensor type has bounds, since kernels and memory are planned for them: `dim length "
        "in 1..128`. `batch` has 1..64 and `tokens` 1..512 without a line.",
    ),
    "E0502": Code(
        "bounds of nothing",
        "A `dim` line names a symbol that no input has.",
    ),
    "E0503": Code(
        "property does not fit",
        "`up to` bounds text (in tokens) and images (in bytes); `truncate` is for text; `nan allowed` for "
        "float tensors; `range` for tensors of numbers. A tensor's extents are bounded by `dim`.",
    ),
    "E0504": Code(
        "name used twice",
        "An input and an output, or two models, have one name.",
    ),
    "E0505": Code(
        "input does not fit the task",
        "`tensor` takes tensors; `embed` and `tag` one text; `rerank` the texts `query` and `document`; `generate` text.",
    ),
    "E0506": Code(
        "traffic contradicts itself",
        "A burst is shorter than the time between two; batch work (`offline`) has no rate.",
    ),
    "E0507": Code(
        "target does not fit the task",
        "`ttft` and `itl` are about generated tokens: they need `task generate`.",
    ),
    "E0508": Code(
        "accuracy against what?",
        "`vs float32` compares with the reference model (cosine, top1, max_abs_error, mse, perplexity); `vs "
        'labels` with the labels of `evaluate`. `metric("m.py:fn")` gets both and takes no `vs`.',
    ),
    "E0509": Code(
        "accuracy without data",
        "Accuracy is measured on the rows of `data { evaluate ... }`.",
    ),
    "E0510": Code(
        "arrival without a rate",
        "`poisson` and `steady` say how requests arrive at a rate: write `at RATE` before them.",
    ),
    "E0512": Code(
        "unclear objective",
        "Goals are `cost`, `memory`, `latency p99` and so on: a latency with its percentile, other goals "
        "without. Throughput and accuracy are maximized, all others minimized.",
    ),
    "E0513": Code(
        "degrade would oscillate",
        "The share at which the server goes back must be below the share at which it degrades.",
    ),
    "E0514": Code(
        "calibrate and evaluate overlap",
        "Rows that a model was calibrated on say nothing about how good it is on others. Small jsonl and csv "
        "files are compared row by row here, larger ones by `build`.",
    ),
    "E0601": Code(
        "unknown machine",
        "The catalogue (`targets/catalog/*.infer`, shown by `infc targets`) has no machine of this name. A "
        "machine needs no name: `use cpu { isa x86-64-v4, cores 2, memory 4 GiB }`.",
    ),
    "E0602": Code(
        "machine of another kind",
        "The named machine is not of the kind that is written before it.",
    ),
    "E0603": Code(
        "machine not described",
        "`use` needs a kind (cpu, cuda, rocm, tpu) or a name; cuda and rocm need a name or an architecture: "
        "`use cuda { arch sm_90 }`.",
    ),
    "E0604": Code(
        "property does not fit the machine",
        "`isa` belongs to cpu, `arch` to cuda and rocm, `topology` to tpu.",
    ),
    "E0701": Code(
        "cannot read a file",
        "The spec or an included file is not there or not readable.",
    ),
    "E0702": Code(
        "files include each other",
        "An include chain comes back to where it began.",
    ),
    "E0703": Code(
        "bad name or value of a `let`",
        "A unit cannot be the name of a `let`, nor a word with a dot; and no `let` may be defined by itself.",
    ),
    "E0704": Code(
        "unknown profile",
        "`--profile NAME` needs a block `profile NAME { ... }` in the spec or in an included file.",
    ),
    "E0705": Code(
        "bad --set or --use",
        '--set takes KEY=VALUE: `targets.latency["p99"]=10ms`, `search.budget=30 s`, `serve.queue.deadline=1 '
        "s`, a `let` name, with several models the model first. It replaces the value and keeps the rest of "
        "the statement. --use takes what stands after `use`, and replaces the whole hardware block.",
    ),
    "E0706": Code(
        "nothing to drop",
        "`drop` removes a statement of an earlier layer: of an included file, or in a profile of the file.",
    ),
    "E0801": Code(
        "not honoured by build yet",
        "`check` accepts the whole language; `build` refuses by name what it would have to ignore. `infc "
        "check --explain` shows what is honoured.",
    ),
    "E0901": Code(
        "target missed",
        "The evidence says, at the declared confidence and on fresh load once more, that the target does not hold. There is no "
        "bundle; what was built, its evidence and its report are in NAME.failed/. Relax the target as the help says, or make "
        "the model, the machine or the load lighter.",
    ),
    "W0901": Code(
        "target not proved",
        "The evidence leaves both possible: too few requests or rows, a machine that was not quiet or is not the declared one. "
        "The note says what would decide it. `infc build` ends with 4; --allow-unproved makes that 0.",
    ),
    "W0101": Code(
        "cost without a price",
        "A cost target needs the price of each machine: `price 0.08 USD/h`. The catalogue has a price only "
        "where one was read from its source.",
    ),
    "W0102": Code(
        "percentile that cannot be proved",
        "With no miss seen, p99 at 95 % takes 375 requests and p99.9 takes 3,763. Rate times budget gives "
        "fewer: raise `budget`, or promise a lower percentile.",
    ),
    "W0103": Code(
        "accuracy looser than rounding",
        "The bound is so far from what the number format alone costs that a wrong result would pass it.",
    ),
    "W0104": Code(
        "bound that rounding breaks",
        "Two correct programs add in different orders: no bound of exactly 0 or 1 is met reliably.",
    ),
    "W0105": Code(
        "bound without effect",
        "A higher percentile is never below a lower one, so one of the two bounds is idle.",
    ),
    "W0106": Code(
        "degrade to a variant that is not built",
        "`degrade` names a precision that `search` does not have.",
    ),
}


def explain_code(code: str) -> str | None:
    """The text of `infc explain CODE`; None for a code that there is not."""
    entry = CODES.get(code.upper())
    if entry is None:
        return None
    kind = "warning" if code.upper().startswith("W") else "error"
    return f"{kind} {code.upper()}: {entry.title}\n\n{_wrap(entry.text)}\n"


def _wrap(text: str) -> str:
    import textwrap

    parts = text.split("\n\n")
    return "\n\n".join(p if p.startswith("    ") else textwrap.fill(p, 96, break_on_hyphens=False) for p in parts)
