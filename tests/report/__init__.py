"""Tests of the report of a bundle."""
