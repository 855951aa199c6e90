"""Tests of the Graph, and the generator of random graphs that other rooms use (`from tests.ir.generate import ...`)."""
