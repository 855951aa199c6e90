"""Calls a bundle from Python, without its server: infc's loader needs NumPy alone.

python examples/run.py BUNDLE
"""

import sys

import numpy as np

from infc.runtime import load

with load(sys.argv[1], threads=1) as model:
    sizes = {name: low for info in model.inputs for name, (low, _) in info.bounds.items()}
    given = {
        i.name: np.ones([d if isinstance(d, int) else sizes[d] for d in i.shape], i.dtype)
        for i in model.inputs
        if i.default is None
    }
    for name, value in model.run(given).items():
        print(name, value.dtype, value.shape, value.ravel()[:4])
