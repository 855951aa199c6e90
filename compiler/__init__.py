"""The compiler: frontends, graph, passes, code generation, bundle."""
