"""infc beside its peers, side by side on one machine: `python -m bench` (or `make bench`).

cases.py, models.py      what is run: a model, a batch, a length, a precision; what it computes
reference.py             the models in float32 torch, their ONNX files, and the outputs that everyone is compared with
artifacts.py             where those files are kept; accuracy.py how outputs are compared
bundles.py               infc's bundles, each from a spec, by `infc build`
peers/                   one file a peer: how it is set up at its best, and one call
worker.py, child.py      each peer in a process of its own, told what to do over a pipe; loop.c calls C functions in a loop
interleave.py            who runs when: short blocks in turn, with pauses
stream.py                sentences of mixed lengths: which go together, how wide they are padded
start.py                 servers, from exec to the first answer
machine.py               what the machine can do, measured between the blocks; profile.py where infc's time goes
suites.py, verdict.py    all of that together; who is faster
report.py, document.py   docs/benchmarks.md and .json; plot.py its picture
"""
