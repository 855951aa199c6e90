"""infc beside its peers, side by side on one machine: `python -m bench` (or `make bench`).

cases.py        what is run: a model, a batch, a length; inputs from a seed
reference.py    the model in float32 torch, its ONNX file, and the outputs that everyone is compared with
peers/          one file a peer: how it is set up at its best, and one call
worker.py       each peer in a process of its own, told what to do over a pipe
interleave.py   who runs when: short blocks in turn, with pauses
peak.c          what the machine's multipliers can do, measured between the blocks
report.py       docs/benchmarks.md; plot.py its picture
"""
