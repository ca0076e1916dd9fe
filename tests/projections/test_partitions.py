"""Several runners share a projection in partitions. Each event is applied once, and each stream in order."""

from collections import Counter

import pytest
from django.db import transaction
from pytest_django import Settings

from es_django import ANY, Projection, RecordedEvent, StreamId, event_store, projects
from es_django.errors import PartitionsChanged
from es_django.models import InboxReceipt, ProjectionCheckpoint
from es_django.projections import pause, resume, run_projection, run_projections, skip
from es_django.projections.checkpoints import ensure_checkpoints, lock_due
from es_django.store.reads import Partition
from tests.projections.effects import Counted, let_pauses_end
from tests.threads import threads

pytestmark = pytest.mark.django_db(transaction=True)

NAME = "tests.parted"


class Parted(Projection):
    class Meta:
        name = NAME
        mode = "async"
        partitions = 4

    poison = ""

    @projects
    def counted(self, event: Counted, recorded: RecordedEvent) -> None:
        if recorded.stream.key == Parted.poison:
            raise ValueError("poison")
        seen = InboxReceipt.objects.filter(consumer=self.name, message_id=recorded.stream.key)
        if recorded.version == 1:
            InboxReceipt.objects.create(consumer=self.name, message_id=recorded.stream.key, status="handled")
        else:
            # The update fails unless the previous version was applied.
            assert seen.filter(attempts=recorded.version - 1).update(attempts=recorded.version)


@pytest.fixture(autouse=True)
def _no_poison() -> None:
    Parted.poison = ""


def append(streams: int, events: int) -> None:
    for number in range(events):
        for stream in range(streams):
            event_store.append(StreamId("parted", f"s-{stream}"), [Counted(number=number)], expected=ANY)


def versions() -> dict[str, int]:
    return dict(InboxReceipt.objects.filter(consumer=NAME).values_list("message_id", "attempts"))


def pause_by_ada(name: str) -> None:
    pause(name, by="Ada")


class TestRun:
    def test_each_partition_has_a_checkpoint_and_each_stream_is_in_order(self, settings: Settings) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "PROJECTIONS": {"BATCH_SIZE": 5}}
        append(streams=20, events=3)
        assert run_projection(NAME) == 60
        assert versions() == {f"s-{stream}": 3 for stream in range(20)}
        found = list(ProjectionCheckpoint.objects.filter(name=NAME).order_by("partition"))
        assert [(each.partition, each.partitions, each.last_error) for each in found] == [(n, 4, "") for n in range(4)]
        assert {each.position for each in found} == {event_store.read_all().position}

    def test_a_stream_belongs_to_one_partition_and_each_partition_has_streams(self) -> None:
        # Each append may use up a stream id, so each stream takes up to four ids here.
        append(streams=32, events=4)
        parts = [
            [recorded.stream.key for recorded in event_store.read_all(partition=Partition(number, 4)).events]
            for number in range(4)
        ]
        assert all(set(Counter(keys).values()) == {4} for keys in parts)
        assert sorted(key for keys in parts for key in set(keys)) == sorted(f"s-{stream}" for stream in range(32))
        assert min(len(set(keys)) for keys in parts) >= 3

    @pytest.mark.requires_postgresql
    def test_runners_work_on_different_partitions_at_once(self) -> None:
        append(streams=20, events=1)
        ensure_checkpoints(Parted())
        with transaction.atomic():
            assert lock_due(Parted(), 2) is not None
            with threads(1) as submit:
                applied = submit(run_projection, NAME).result(30)
        rest = run_projection(NAME)
        assert 0 < applied < 20
        assert applied + rest == 20


class TestOperations:
    def test_a_poison_event_stops_only_its_partition_and_can_be_skipped(self) -> None:
        append(streams=20, events=1)
        Parted.poison = "s-7"
        run_projections()
        (stopped,) = ProjectionCheckpoint.objects.filter(name=NAME).exclude(last_error="")
        others = 20 - len(
            event_store.read_all(after=stopped.position, partition=Partition(stopped.partition, 4)).events
        )
        assert len(versions()) == others
        assert stopped.failed_position is not None
        skip(NAME, stopped.failed_position, by="Ada")
        let_pauses_end()
        run_projections()
        assert sorted(versions()) == sorted(f"s-{stream}" for stream in range(20) if stream != 7)

    def test_all_partitions_are_paused_and_resumed_together(self) -> None:
        pause(NAME, by="Ada")
        append(streams=8, events=1)
        assert run_projection(NAME) == 0
        resume(NAME, by="Ada")
        assert run_projection(NAME) == 8

    @pytest.mark.parametrize("before", [1, 3, 8])
    def test_a_changed_number_of_partitions_without_a_rebuild_is_an_error(self, before: int) -> None:
        for number in range(before):
            ProjectionCheckpoint.objects.create(name=NAME, partition=number, partitions=before)
        append(streams=8, events=1)
        for run in (run_projection, pause_by_ada):
            with pytest.raises(PartitionsChanged, match=rf"for {before} partitions, .*is 4: .*es_rebuild {NAME}"):
                run(NAME)
        assert versions() == {}
        assert ProjectionCheckpoint.objects.filter(name=NAME).count() == before
        run_projections()
        assert versions() == {}, "the other projections must still run"
