"""Targets: one folder each, found by folder."""
