"""`manage.py es_relay` in the cases in which it ends without a signal."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from es_django import outbox
from es_django.errors import DestinationUnreachable, StorageError
from es_django.outbox.backends import outbox_store
from es_django.outbox.port import OutboxStore
from tests.outbox.rows import row
from tests.publishers import Recorder, never

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def failing_store(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each of the next database errors is retryable. When the list is empty, the database works."""
    errors: list[bool] = []
    claim = type(outbox_store()).claim

    def fail(store: OutboxStore, *args: object, **options: object) -> object:
        if errors:
            raise StorageError("claim messages", errors.pop(0), "the server is starting up")
        return claim(store, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(type(outbox_store()), "claim", fail)
    return errors


def run(*options: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("es_relay", *options, stdout=out, stderr=err)
    return out.getvalue().strip(), err.getvalue().strip()


class TestOnce:
    def test_due_messages_are_published(self, recorder: type[Recorder]) -> None:
        outbox.send("tests", type="noted", data=None)
        assert run("--once") == ("1 message was published", "")

    @pytest.mark.usefixtures("recorder")
    @pytest.mark.parametrize("retryable", [True, False])
    def test_a_database_error_ends_the_command_with_an_error(self, failing_store: list[bool], retryable: bool) -> None:
        failing_store.append(retryable)
        with pytest.raises(CommandError, match="starting up"):
            run("--once")

    def test_the_command_succeeds_although_a_message_failed(self, recorder: type[Recorder]) -> None:
        outbox.send("tests", type="noted", data=None)
        recorder.fail = staticmethod(lambda message: never)
        assert run("--once") == ("0 messages were published", "")
        assert row().last_error == "never"

    @pytest.mark.parametrize("options", [["--once"], ["--once", "--destination", "tests"]])
    def test_an_unreachable_destination_is_an_error(self, recorder: type[Recorder], options: list[str]) -> None:
        outbox.send("tests", type="noted", data=None)
        recorder.fail = staticmethod(lambda message: DestinationUnreachable("refused\nby its host"))
        with pytest.raises(CommandError, match="destination tests cannot be reached: refused by its host"):
            run(*options)
        assert row().attempts == 0


class TestDestination:
    @pytest.mark.parametrize("options", [[], ["--once"]])
    @pytest.mark.parametrize("destination", ["typo", "bad"])
    def test_an_invalid_destination_is_reported_on_one_line(
        self, destination: str, options: list[str], settings: Settings
    ) -> None:
        settings.ES_DJANGO = {"DESTINATIONS": {"bad": {"PUBLISHER": "no.such\n.Publisher"}}}
        with pytest.raises(CommandError, match=destination) as error:
            run("--destination", destination, *options)
        assert "\n" not in str(error.value)
