"""The image: there is no container engine here, so every step that needs no registry is run as it stands in the Dockerfile."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.image import DOCKERFILE, Image


def test_the_dockerfile_names_no_index_and_runs_as_nobody_special() -> None:
    """Non-root by number, versions named, nothing fetched but by the locked requirements."""
    assert "USER 10001:10001" in DOCKERFILE
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["python:3.11-slim-bookworm"] * 2
    assert not re.search(r"index-url|extra-index|https?://", DOCKERFILE)
    assert DOCKERFILE.count("--require-hashes") == 2
    assert 'ENTRYPOINT ["responder"]' in DOCKERFILE


def test_the_steps_of_the_image_build_run_and_the_result_works_read_only(image: Image) -> None:
    """The wheel is built and installed beside the locked requirements; an unprivileged user runs it from a copy it cannot write."""
    home = image.home
    assert "responder/_shipped/rules/pod-crash-loop.yaml" in image.names
    assert "responder/web/templates/report.html" in image.names
    assert "responder/stores/sql/migrations/versions/0001_first.py" in image.names

    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become another user with setpriv")
    for folder in home.parents:
        if folder != Path("/") and folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o055)
    assert image.environment["HOME"] == "/tmp"
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/tmp"}
    nobody = ["setpriv", "--reuid=10001", "--regid=10001", "--clear-groups"]
    run = subprocess.run(
        [*nobody, str(home / "bin" / "responder"), "check", str(image.source / "rules")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd="/",
    )

    assert run.returncode == 0, run.stderr
    assert " rules are good" in run.stdout
    wrote = subprocess.run([*nobody, "touch", str(home / "lib" / "x")], capture_output=True, check=False)
    assert wrote.returncode != 0
