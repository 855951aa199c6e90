"""Confidence intervals: exact values, and level and power over simulated runs."""
