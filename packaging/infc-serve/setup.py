"""Puts the servers that `make wheel` built (build/serve/ARCH/serve) into a wheel for this platform.

Each wheel holds the server of both architectures, since a bundle may be for a machine of the other kind.
"""

import os
import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ARCHES = ("x86_64", "aarch64")
BUILT = Path(os.environ.get("INFC__SERVE_DIR") or Path(__file__).resolve().parents[2] / "build" / "serve")
PLATFORM = os.environ.get("INFC_SERVE_PLATFORM", "manylinux_2_28_" + os.uname().machine)


class BuildWithServers(build_py):
    """Copies the binaries beside the package's one module."""

    def run(self) -> None:
        super().run()
        for arch in ARCHES:
            binary = BUILT / arch / "serve"
            if not binary.is_file():
                sys.exit(f"infc-serve: {binary} is missing; build it with `make build/serve/{arch}/serve`")
            target = Path(self.build_lib) / "infc_serve" / arch / "serve"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(binary, target)
            target.chmod(0o755)


class PlatformWheel(bdist_wheel):
    """Any Python 3, this platform only."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", PLATFORM


setup(cmdclass={"build_py": BuildWithServers, "bdist_wheel": PlatformWheel})
