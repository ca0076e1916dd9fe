"""The metadata of the published package is complete."""

import subprocess
import sys

import pytest
from django.conf import settings


@pytest.mark.slow
def test_pyroma_rates_the_metadata_10_of_10() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pyroma", "--min", "10", str(settings.BASE_DIR)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Final rating: 10/10" in result.stdout


def test_no_large_file_is_tracked() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=settings.BASE_DIR, capture_output=True, text=True, check=True)
    sizes = {name: (settings.BASE_DIR / name).stat().st_size for name in files.stdout.splitlines()}
    assert {name: size for name, size in sizes.items() if size > 200_000} == {}
