import pytest


@pytest.fixture(autouse=True)
def _only_the_handlers_of_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("es_django.inbox.handlers._handlers", {})
