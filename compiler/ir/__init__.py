"""The Graph: immutable nodes over symbolic dimensions, its verifier, printer and reference interpreter."""
