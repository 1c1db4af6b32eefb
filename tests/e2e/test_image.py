"""The image: there is no container engine here, so every step that needs no registry is run as it stands in the Dockerfile."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_the_dockerfile_names_no_index_and_runs_as_nobody_special() -> None:
    """Non-root by number, versions named, nothing fetched but by the locked requirements."""
    assert "USER 10001:10001" in DOCKERFILE
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["python:3.11-slim-bookworm"] * 2
    assert not re.search(r"index-url|extra-index|https?://", DOCKERFILE)
    assert DOCKERFILE.count("--require-hashes") == 2
    assert 'ENTRYPOINT ["responder"]' in DOCKERFILE


def test_the_steps_of_the_image_build_run_and_the_result_works_read_only(tmp_path: Path) -> None:
    """The wheel is built and installed beside the locked requirements; an unprivileged user runs it from a copy it cannot write."""
    source = tmp_path / "src"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements", "responder", "rules"):
        origin = ROOT / name
        if origin.is_dir():
            shutil.copytree(origin, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, source / name)
    wheels = tmp_path / "wheels"
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), "."],
        cwd=source,
        check=True,
    )
    (wheel,) = wheels.glob("responder-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "responder/_shipped/rules/pod-crash-loop.yaml" in names
    assert "responder/web/templates/report.html" in names
    assert "responder/stores/sql/migrations/versions/0001_first.py" in names

    home = tmp_path / "opt"
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    python = home / "bin" / "python"
    subprocess.run(
        [
            str(python),
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "--require-hashes",
            "-r",
            str(source / "requirements" / "run.txt"),
        ],
        check=True,
    )
    subprocess.run(
        [
            str(python),
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "--no-deps",
            "--no-index",
            "--find-links",
            str(wheels),
            "responder",
        ],
        check=True,
    )
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become another user with setpriv")
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/") and folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o055)
    home.chmod(0o755)
    assert "HOME=/tmp" in DOCKERFILE
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/tmp"}
    nobody = ["setpriv", "--reuid=10001", "--regid=10001", "--clear-groups"]
    run = subprocess.run(
        [*nobody, str(home / "bin" / "responder"), "check", str(source / "rules")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd="/",
    )

    assert run.returncode == 0, run.stderr
    assert "6 rules are good" in run.stdout
    wrote = subprocess.run([*nobody, "touch", str(home / "lib" / "x")], capture_output=True, check=False)
    assert wrote.returncode != 0
