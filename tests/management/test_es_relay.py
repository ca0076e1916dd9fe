"""The relay's command line, where it ends by itself."""

from collections.abc import Iterator
from io import StringIO
from signal import SIGINT, SIGTERM, getsignal, signal

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


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    before = {number: getsignal(number) for number in (SIGINT, SIGTERM)}
    yield
    for number, handler in before.items():
        signal(number, handler)


@pytest.fixture
def failing_store(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What the database's next errors say of trying again; without any it works."""
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


def test_one_look_publishes_what_is_due(recorder: type[Recorder]) -> None:
    outbox.send("tests", type="noted", data=None)
    assert run("--once") == ("1 messages were published", "")


@pytest.mark.usefixtures("recorder")
@pytest.mark.parametrize("retryable", [True, False])
def test_one_look_that_the_database_refuses_fails(failing_store: list[bool], retryable: bool) -> None:
    failing_store.append(retryable)
    with pytest.raises(CommandError, match="starting up"):
        run("--once")


def test_one_look_at_messages_that_fail_succeeds_since_they_are_told_of_elsewhere(recorder: type[Recorder]) -> None:
    outbox.send("tests", type="noted", data=None)
    recorder.fail = staticmethod(lambda message: never)
    assert run("--once") == ("0 messages were published", "")
    assert row().last_error == "never"


@pytest.mark.parametrize("options", [["--once"], ["--once", "--destination", "tests"]])
def test_one_look_that_does_not_reach_a_destination_fails(recorder: type[Recorder], options: list[str]) -> None:
    outbox.send("tests", type="noted", data=None)
    recorder.fail = staticmethod(lambda message: DestinationUnreachable("refused\nby its host"))
    with pytest.raises(CommandError, match="destination tests cannot be reached: refused by its host"):
        run(*options)
    assert row().attempts == 0


@pytest.mark.parametrize("options", [[], ["--once"]])
@pytest.mark.parametrize("destination", ["typo", "bad"])
def test_a_destination_that_cannot_be_had_is_told_in_one_line(
    destination: str, options: list[str], settings: Settings
) -> None:
    settings.ES_DJANGO = {"DESTINATIONS": {"bad": {"PUBLISHER": "no.such\n.Publisher"}}}
    with pytest.raises(CommandError, match=destination) as error:
        run("--destination", destination, *options)
    assert "\n" not in str(error.value)
