"""Log records carry the ids of their subjects, and neither payloads nor secrets."""

import ast
import logging
import logging.config
from collections.abc import Callable, Iterator, Sequence
from threading import Event as Signal
from typing import Any, TypeGuard
from uuid import UUID

import pytest
from django.conf import settings as django_settings
from django.contrib.sessions.models import Session
from django.utils import timezone
from pytest_django import Settings

from es_django import (
    Aggregate,
    Event,
    Message,
    Repository,
    StorageError,
    StreamId,
    applies,
    event_store,
    outbox,
    publishes,
)
from es_django.core.logs import Log
from es_django.errors import PublishError
from es_django.inbox.delivery import receive
from es_django.inbox.handlers import UNHANDLED
from es_django.inbox.replay import replay
from es_django.messages.message import to_wire
from es_django.models import InboxReceipt
from es_django.outbox.publishers import Publisher
from es_django.outbox.relay import relay
from es_django.projections import pause, projects, resume, run_projection, skip, start_rebuild
from es_django.projections.base import Projection
from tests.inbox.deliveries import consumer, dead, make_message
from tests.outbox.rows import expire_leases

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "s3cr3t"
STANDARD = vars(logging.makeLogRecord({})).keys() | {"message", "asctime"}
MESSAGE = UUID(int=7)


class Whispered(Event):
    text: str

    class Meta:
        name = "tests.logging.whispered"


@publishes(Whispered, destination="failing")
def whispered(event: object) -> Message:
    return Message(type="whispered", data={"text": SECRET}, message_id=MESSAGE, key="k-1")


class Whispers(Aggregate):
    texts: tuple[str, ...] = ()
    hidden: Any = None

    class Meta:
        category = "whispers"
        snapshot_every = 1

    @applies
    def _whispered(self, event: Whispered) -> None:
        self.texts += (event.text,)
        self.undeclared = event.text


class Listening(Projection):
    class Meta:
        name = "tests.logging.listening"
        mode = "async"
        models = [Session]

    @projects
    def whispered(self, event: Whispered, recorded: object) -> None:
        # the database's error message contains the duplicate value
        for _ in range(2):
            Session.objects.create(session_key=event.text, expire_date=timezone.now())


class FailingPublisher(Publisher):
    def __init__(self, password: str) -> None:
        self.password = password

    def publish(self, messages: Sequence[Message]) -> Sequence[PublishError | None]:
        return [PublishError("refused", retryable=False) for _ in messages]


class BrokenPublisher(FailingPublisher):
    was_called = Signal()

    def publish(self, messages: Sequence[Message]) -> Sequence[PublishError | None]:
        self.was_called.set()
        expire_leases()
        raise OSError("down")


@pytest.fixture(autouse=True)
def _surroundings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("es_django.inbox.handlers._handlers", {})
    options = {"password": SECRET}
    settings.ES_DJANGO = {
        "DESTINATIONS": {
            "failing": {"PUBLISHER": f"{__name__}.FailingPublisher", "OPTIONS": options},
            "broken": {"PUBLISHER": f"{__name__}.BrokenPublisher", "OPTIONS": options},
        },
        "PROJECTIONS": {"MAX_ATTEMPTS": 1},
        "INGRESS": {"SECRETS": [SECRET]},
    }


def append() -> int:
    (recorded,) = event_store.append(StreamId("whispers", "w-1"), [Whispered(text=SECRET)], expected=0)
    return recorded.position


def a_message_is_not_published() -> None:
    append()
    relay("failing")


def a_publisher_breaks_down_and_loses_its_claims() -> None:
    outbox.send("broken", type="whispered", data=SECRET, message_id=MESSAGE)
    BrokenPublisher.was_called.clear()
    relay("broken", is_stopped=BrokenPublisher.was_called.is_set)


def an_operator_discards_a_message() -> None:
    outbox.send("failing", type="whispered", data=SECRET, message_id=MESSAGE)
    outbox.discard([MESSAGE], by="ada")


def a_projection_fails() -> int:
    position = append()
    run_projection("tests.logging.listening")
    return position


def a_projection_is_operated() -> None:
    skip("tests.logging.listening", a_projection_fails(), by="ada")
    pause("tests.logging.listening", by="ada")
    resume("tests.logging.listening", by="ada")
    start_rebuild("tests.logging.listening", by="ada")


def book(message: Message) -> None:
    for _ in range(2):
        InboxReceipt.objects.create(consumer="book", message_id=message.data, status="handled")


def whispering() -> Message:
    return make_message(data=SECRET, message_id=MESSAGE)


def a_handler_fails() -> None:
    consumer("mailer", book)
    receive(to_wire(whispering()))


def a_message_has_no_handler() -> None:
    receive({"type": "unknown", "data": SECRET, "message_id": str(MESSAGE)})


def content_that_is_not_a_message_is_delivered() -> None:
    receive({"type": ["whispered"], "data": SECRET})


def a_dead_message_is_replayed() -> None:
    dead(whispering())
    consumer("mailer", book)
    with pytest.raises(StorageError):
        replay("mailer", MESSAGE)
    consumer("mailer", lambda message: None)
    replay("mailer", MESSAGE)


def a_snapshot_is_not_taken() -> None:
    whispers = Whispers("w-1")
    whispers.record(Whispered(text=SECRET))
    Repository(Whispers).save(whispers)


PROJECTION = {"projection": "tests.logging.listening"}


class TestRecords:
    @pytest.mark.parametrize(
        ("happening", "expected"),
        [
            (
                a_message_is_not_published,
                [
                    {
                        "message_id": MESSAGE,
                        "destination": "failing",
                        "attempt": 1,
                        "category": "whispers",
                        "key": "w-1",
                        "version": 1,
                    }
                ]
                * 2,
            ),
            (
                a_publisher_breaks_down_and_loses_its_claims,
                [
                    {"destination": "broken"},
                    {"message_id": MESSAGE, "destination": "broken", "attempt": 1},
                    {"message_id": MESSAGE, "destination": "broken", "attempt": 1},
                ],
            ),
            (an_operator_discards_a_message, [{"message_id": MESSAGE, "by": "ada"}]),
            (a_projection_fails, [{**PROJECTION, "partition": 0, "position": ...}]),
            (
                a_projection_is_operated,
                [
                    {**PROJECTION, "partition": 0, "position": ...},
                    {**PROJECTION, "position": ..., "by": "ada"},
                    *[{**PROJECTION, "by": "ada"}] * 3,
                ],
            ),
            (a_handler_fails, [{"consumer": "mailer", "message_id": str(MESSAGE), "attempt": 1}]),
            (a_message_has_no_handler, [{"consumer": UNHANDLED, "message_id": str(MESSAGE), "attempt": 1}]),
            (content_that_is_not_a_message_is_delivered, [{"message_id": ...}]),
            (a_dead_message_is_replayed, [{"consumer": "mailer", "message_id": MESSAGE}] * 2),
            (a_snapshot_is_not_taken, [{"category": "whispers"}]),
        ],
        ids=lambda case: getattr(case, "__name__", ""),
    )
    def test_a_record_has_ids_but_no_payload_and_no_secret(
        self, happening: Callable[[], object], expected: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "es_django")
        happening()
        records = [record for record in caplog.records if record.name.startswith("es_django")]
        extras = [{name: value for name, value in vars(record).items() if name not in STANDARD} for record in records]
        assert extras == [
            {name: each.get(name) if value is ... else value for name, value in wanted.items()}
            for each, wanted in zip(extras, expected, strict=True)
        ]
        assert all(value is not None for each in extras for value in each.values())
        assert SECRET not in "".join(
            f"{record.getMessage()} {extra}" for record, extra in zip(records, extras, strict=True)
        )

    def test_every_log_call_of_the_package_passes_ids(self) -> None:
        package = django_settings.BASE_DIR / "es_django"
        for file in package.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("logger."):
                    assert "extra" in {keyword.arg for keyword in node.keywords}, f"{file}:{node.lineno}"


def logging_is_configured_again() -> None:
    """Apply what a Celery worker of many projects applies after the apps are loaded."""
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": True, "incremental": False})


@pytest.fixture
def disabled_loggers() -> Iterator[None]:
    """Disable all loggers during a test, as a configuration with `disable_existing_loggers` does."""
    root = logging.getLogger()
    before = {logger: logger.disabled for logger in logging.Logger.manager.loggerDict.values() if is_logger(logger)}
    kept = root.handlers[:], root.level
    logging_is_configured_again()
    root.handlers[:], root.level = kept
    yield
    for logger, was_disabled in before.items():
        logger.disabled = was_disabled


def is_logger(entry: object) -> TypeGuard[logging.Logger]:
    return isinstance(entry, logging.Logger)


@pytest.mark.usefixtures("disabled_loggers")
class TestDisabledLoggers:
    @pytest.mark.parametrize(
        ("happening", "said"),
        [
            (a_message_is_not_published, f"message {MESSAGE} is dead: refused"),
            (a_projection_fails, "projection tests.logging.listening is failed and stops"),
            (a_handler_fails, f"consumer mailer failed on message {MESSAGE}, which is dead now"),
        ],
        ids=lambda case: getattr(case, "__name__", ""),
    )
    def test_fault_f1_what_needs_a_person_is_an_error_with_its_exception(
        self, happening: Callable[[], object], said: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        happening()
        (record,) = [record for record in caplog.records if record.getMessage().startswith(said)]
        assert record.levelno == logging.ERROR
        assert record.exc_info is not None
        assert record.exc_info[1] is not None

    def test_fault_f1_every_logger_of_the_package_is_heard(self, caplog: pytest.LogCaptureFixture) -> None:
        names = {name for name in logging.Logger.manager.loggerDict if name.startswith("es_django.")}
        for name in names:
            Log(name).error("heard", extra={})
        assert {record.name for record in caplog.records} == names

    def test_fault_f1_the_package_writes_through_these_loggers_only(self) -> None:
        package = django_settings.BASE_DIR / "es_django"
        users = [file.name for file in package.rglob("*.py") if "getLogger" in file.read_text()]
        assert users == ["logs.py"]

    def test_a_level_still_silences_a_logger(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.CRITICAL, "es_django"):
            Log("es_django.outbox").error("not heard", extra={})
        assert caplog.records == []
