"""Whole models through model.so: the plan, the C, the ABI, against the reference interpreter."""
