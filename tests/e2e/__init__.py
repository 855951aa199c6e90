"""From a spec file to answers: compiled models against the framework they came from, bundles through their own server."""
