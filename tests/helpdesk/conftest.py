from pathlib import Path

import pytest

from tests.helpdesk.logs import generated_rows, write_log


@pytest.fixture(scope="session")
def generated_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("log") / "generated.csv", generated_rows(300))


@pytest.fixture(scope="session")
def real_log(pytestconfig: pytest.Config, generated_log: Path) -> Path:
    """Return the log of a real help desk if it is beside the checkout, or else a generated log of the same shape."""
    path = pytestconfig.rootpath.parent / "shared" / "data" / "helpdesk.csv.gz"
    return path if path.exists() else generated_log
