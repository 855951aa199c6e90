"""Rows of a spec's data, and how far answers agree with those of the reference."""
