"""Computes the packages: four root folders become `infc.<root>`; everything else is in pyproject.toml.

A list written by hand would miss folders added later (importable in the editable install, absent from the wheel).
"""

from setuptools import find_namespace_packages, setup

ROOTS = ("compiler", "dsl", "targets", "runtime")
NOT_PACKAGES = ("server", "server.*", "*__pycache__*")  # the Rust server is a binary of its own
DATA = ["*.c", "*.h", "*.j2", "*.lark", "*.infer", "*.json", "*.md", "*.toml", "*.txt", "*.map", "*.typed"]

packages = ["infc"]
for root in ROOTS:
    found = find_namespace_packages(root, exclude=NOT_PACKAGES)
    packages += [f"infc.{root}", *(f"infc.{root}.{name}" for name in found)]

setup(
    packages=packages,
    package_dir={"infc": "infc"} | {f"infc.{root}": root for root in ROOTS},
    package_data={"": DATA},
)
