"""Named by the specs beside it; never run."""
