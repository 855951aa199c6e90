"""`export("model.pt2")` read as data: nothing that a file holds is unpickled, evaluated, imported or resolved by name.

archive.py      the zip: entries and where their bytes lie         strict_json.py  JSON, bounded
schema.py       the table of the program's JSON                    trees.py        names of outputs
sizes.py        the grammar of size expressions                    symbols.py      ... built for sympy
operators.py    which operators a program may call                 names.py        identifiers for names
tensors.py      weights within the file                            rewrite.py      the program that torch is given
program.py      all of it, in order
"""

from .program import Checked, Opened, open_program, read_program
from .refused import Refused

__all__ = ["Checked", "Opened", "Refused", "open_program", "read_program"]
