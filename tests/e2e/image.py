"""The image's contents, built by the very steps of the Dockerfile that need no registry."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.conftest import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


@dataclass(frozen=True, slots=True)
class Image:
    """What the last stage holds.

    Attributes:
        home: Becomes ``/opt/responder``.
        source: What was copied in to build it.
        names: Of the files in the wheel.
    """

    home: Path
    source: Path
    names: frozenset[str]

    @property
    def environment(self) -> dict[str, str]:
        """The last stage's ``ENV`` line, without what it takes from its base."""
        line = next(line for line in reversed(DOCKERFILE.splitlines()) if line.startswith("ENV "))
        return {name: value for name, value in re.findall(r"(\w+)=(\S+)", line) if name != "PATH"}


def build_image(folder: Path) -> Image:
    """Run the steps: a wheel of the sources, beside the locked requirements, in a virtual environment."""
    source = folder / "src"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements", "responder", "rules"):
        origin = ROOT / name
        if origin.is_dir():
            shutil.copytree(origin, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, source / name)
    wheels = folder / "wheels"
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), "."]
    subprocess.run(pip, cwd=source, check=True)
    (wheel,) = wheels.glob("responder-*.whl")
    home = folder / "opt"
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    install = [str(home / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*install, "--require-hashes", "-r", str(source / "requirements" / "run.txt")], check=True)
    subprocess.run([*install, "--no-deps", "--no-index", "--find-links", str(wheels), "responder"], check=True)
    home.chmod(0o755)
    return Image(home=home, source=source, names=frozenset(zipfile.ZipFile(wheel).namelist()))
