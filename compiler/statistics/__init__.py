"""Confidence intervals for what a build claims: pure functions of evidence, without I/O, clock or global random state."""
