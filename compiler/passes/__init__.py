"""Passes over the Graph: canonicalize, fold, dead code, cse, fuse; and the ragged analysis. One file a pass."""
