from collections.abc import Iterator

import pytest

from tests.projections import effects


@pytest.fixture(autouse=True)
def _no_mishap() -> Iterator[None]:
    yield
    effects.no_mishap()
