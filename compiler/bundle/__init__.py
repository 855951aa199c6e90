"""The bundle: a folder that serves a model, content-addressed by its manifest."""
