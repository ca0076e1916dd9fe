"""The projection that most tests run. Processes that the tests start import this module too.

The projection writes a row for each event, to a table with a unique key that these tests do not use otherwise.
"""

from collections.abc import Callable
from datetime import timedelta

from django.utils import timezone

from es_django import Event, Projection, RecordedEvent, StreamId, event_store, projects
from es_django.models import InboxReceipt, ProjectionCheckpoint


class Counted(Event):
    number: int

    class Meta:
        name = "tests.counted"


def _nothing(event: Counted) -> None:
    return


class Effects(Projection):
    class Meta:
        name = "tests.effects"
        mode = "async"
        models = [InboxReceipt]

    before_effect: Callable[[Counted], None] = staticmethod(_nothing)

    @projects
    def counted(self, event: Counted, recorded: RecordedEvent) -> None:
        Effects.before_effect(event)
        InboxReceipt.objects.create(consumer=self.name, message_id=f"{recorded.position:05}", status="handled")


def no_mishap() -> None:
    Effects.before_effect = staticmethod(_nothing)


def fail_at(number: int) -> None:
    def fail(event: Counted) -> None:
        if event.number == number:
            raise ValueError("poison")

    Effects.before_effect = staticmethod(fail)


def fail_with(error: BaseException) -> None:
    def fail(event: Counted) -> None:
        raise error

    Effects.before_effect = staticmethod(fail)


def count(*numbers: int) -> None:
    """Append an event for each number, each to its own stream."""
    for number in numbers:
        event_store.append(StreamId("counter", f"c-{number}"), [Counted(number=number)], expected=0)


def position_of(number: int) -> int:
    (recorded,) = event_store.read_stream(StreamId("counter", f"c-{number}"))
    return recorded.position


def effects(name: str = "tests.effects") -> int:
    return InboxReceipt.objects.filter(consumer=name).count()


def stored_effects(name: str = "tests.effects") -> list[int]:
    """Return the positions of the events that were applied. Fail if a row has no event."""
    found = InboxReceipt.objects.filter(consumer=name).values_list("message_id", flat=True)
    return sorted(map(int, found))


def checkpoint(name: str = "tests.effects") -> ProjectionCheckpoint:
    return ProjectionCheckpoint.objects.get(name=name)


def let_pauses_end() -> None:
    ProjectionCheckpoint.objects.filter(retry_at__isnull=False).update(retry_at=timezone.now() - timedelta(hours=1))
