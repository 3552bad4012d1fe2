"""Build step that puts the configuration into the wheel; everything else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CONF = Path(__file__).parent / "conf"


class BuildWithConfiguration(build_py):
    """Copy conf/ beside the modules, but for what is one user's own."""

    def run(self) -> None:
        """Build the modules; an editable installation reads conf/ where it is."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "deep_clustering/conf"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(CONF, target, ignore=shutil.ignore_patterns("local", "*credentials*", ".*"))


setup(cmdclass={"build_py": BuildWithConfiguration})
