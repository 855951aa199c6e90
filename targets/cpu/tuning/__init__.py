"""Which tiles a linear layer takes on which machine: measured, kept in tables that people can read and edit.

`choice.py` is what there is to choose, `table.py` the files, `measure.py` and `measure.c` how it is measured, `choose.py`
what a build takes; `python -m infc.targets.cpu.tuning` writes the table that ships (`tuned.toml`).

**No choice changes a result's bits**: every sum runs in order of k in one accumulator, whatever the tile.
"""
