"""After a change of the mode or of the partitions, each event is applied once, with its side effects."""

from collections.abc import Callable
from io import StringIO

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db.models.signals import post_migrate
from pytest_django import Settings

from es_django import StreamId, event_store
from es_django.apps import record_inline_projections
from es_django.checks import check_modes
from es_django.errors import ModeChanged, ProjectionTimeout
from es_django.models import CheckpointStatus, ProjectionCheckpoint, Stream
from es_django.monitoring import health
from es_django.projections import pause, resume, run_projection, run_projections, start_rebuild, wait_for
from es_django.projections.base import projection_named
from es_django.store.hooks import inline_projections
from es_django.store.reads import Partition
from tests.projections.effects import checkpoint
from tests.projections.reporting import Reporting, read_model, report, report_of_old, sent
from tests.publishers import Recorder

pytestmark = pytest.mark.django_db(transaction=True)

NAME = Reporting.name

Become = Callable[[str], None]
Divide = Callable[[int], None]


@pytest.fixture(autouse=True)
def _destination(recorder: type[Recorder]) -> None:
    """Configure the destination of the messages."""


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Become:
    """Return a function that changes the mode of the projection, as another release does."""

    def change(mode: str) -> None:
        monkeypatch.setattr(Reporting, "mode", mode)
        projection = projection_named(NAME)
        others = [each for each in inline_projections if each is not projection]
        monkeypatch.setattr(
            "es_django.store.hooks.inline_projections", [*others, projection] if mode == "inline" else others
        )

    return change


@pytest.fixture
def divide(monkeypatch: pytest.MonkeyPatch) -> Divide:
    def change(partitions: int) -> None:
        monkeypatch.setattr(Reporting, "partitions", partitions)

    return change


def run_some(partitions: set[int]) -> None:
    """Run only these partitions."""
    others = ProjectionCheckpoint.objects.filter(name=NAME).exclude(partition__in=partitions)
    before = {each.pk: each.status for each in others}
    others.update(status=CheckpointStatus.PAUSED)
    run_projection(NAME)
    for pk, status in before.items():
        ProjectionCheckpoint.objects.filter(pk=pk).update(status=status)


def migrate(verbosity: int = 1) -> str:
    out = StringIO()
    sender = apps.get_app_config("es_django")
    post_migrate.connect(record_inline_projections, sender=sender)
    try:
        call_command("migrate", verbosity=verbosity, stdout=out)
    finally:
        post_migrate.disconnect(record_inline_projections, sender=sender)
    return out.getvalue()


class TestMode:
    def test_a_projection_that_becomes_inline_catches_up_first(self, become: Become) -> None:
        report("one")
        run_projection(NAME)
        report("two")
        become("inline")
        report("three")
        assert sent() == ["one"], "the event two must be applied before three"
        run_projections()
        report("four")
        assert sent() == ["one", "two", "three", "four"]
        assert (read_model(), checkpoint(NAME).status) == ({"one", "two", "three", "four"}, CheckpointStatus.INLINE)

    def test_a_projection_that_ran_inline_does_not_run_as_async_because_it_may_have_missed_events(
        self, become: Become
    ) -> None:
        become("inline")
        record_inline_projections("default")
        report("one")
        become("async")
        report("two")
        for run in (run_projection, lambda name: start_rebuild(name, by="Ada"), lambda name: resume(name, by="Ada")):
            with pytest.raises(ModeChanged, match=f"es_project --pause {NAME}"):
                run(NAME)
        run_projections()
        assert (sent(), read_model()) == (["one"], {"one"})
        assert any(f"{NAME!r} changed from inline to async" in problem for problem in health.status().problems)
        with pytest.raises(ProjectionTimeout, match="status: inline"):
            wait_for(NAME, timeout=0)
        (error,) = check_modes(["default"])
        assert (error.id, NAME in error.msg, NAME in str(error.hint)) == ("es_django.E022", True, True)
        assert check_modes(["other"]) == check_modes(None) == []

    def test_the_printed_remedy_repairs_a_projection_that_missed_events(self, become: Become) -> None:
        become("inline")
        record_inline_projections("default")
        report("one")
        become("async")
        report("two")
        with pytest.raises(ModeChanged) as refused:
            run_projection(NAME)
        (error,) = check_modes(["default"])
        for remedy in (str(refused.value), str(error.hint)):
            assert remedy.rstrip(".").endswith(f"change the mode again, and rebuild it (manage.py es_rebuild {NAME})")
        become("inline")
        pause(NAME, by="Ada")
        become("async")
        call_command("es_rebuild", NAME, stdout=StringIO())
        assert read_model() == {"one", "two"}

    def test_a_paused_projection_continues_at_its_position_after_a_change_of_mode(self, become: Become) -> None:
        become("inline")
        report("one")
        pause(NAME, by="Ada")
        report("two")
        become("async")
        report("three")
        assert (run_projection(NAME), check_modes(["default"])) == (0, [])
        resume(NAME, by="Ada")
        assert run_projection(NAME) == 2
        assert (sent(), checkpoint(NAME).status) == (["one", "two", "three"], CheckpointStatus.RUNNING)
        start_rebuild(NAME, by="Ada")
        report("four")
        run_projection(NAME)
        assert (sent(), read_model()) == (["one", "two", "three", "four"], {"one", "two", "three", "four"})

    @pytest.mark.parametrize("modes", [("inline", "async"), ("async", "inline")])
    def test_a_rebuild_continues_after_a_change_of_mode(self, become: Become, modes: tuple[str, str]) -> None:
        before, after = modes
        become(before)
        report("one", "two")
        run_projections()
        start_rebuild(NAME, by="Ada")
        report("three")
        become(after)
        report("four")
        run_projections()
        assert (sent(), read_model()) == (["one", "two", "three", "four"], {"one", "two", "three", "four"})
        assert checkpoint(NAME).status == (CheckpointStatus.INLINE if after == "inline" else CheckpointStatus.RUNNING)

    def test_appends_ignore_the_checkpoints_of_other_projections(self, become: Become) -> None:
        become("inline")
        run_projection("tests.effects")
        report("one")
        assert (read_model(), event_store.version(StreamId("report", "one"))) == ({"one"}, 1)


class TestPartitions:
    def test_a_rebuild_with_another_number_of_partitions_repeats_no_side_effect(
        self, divide: Divide, settings: Settings
    ) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "PROJECTIONS": {"BATCH_SIZE": 7}}
        reports = [f"report {number:02}" for number in range(60)]
        divide(3)
        report(*reports[:20])
        run_projection(NAME)
        report(*reports[20:30])
        run_some({1})
        divide(2)
        assert start_rebuild(NAME, by="Ada")
        report(*reports[30:40])
        run_some({0})
        divide(4)
        assert start_rebuild(NAME, by="Ada")
        report(*reports[40:50])
        run_some({2, 3})
        divide(1)
        assert start_rebuild(NAME, by="Ada")
        report(*reports[50:])
        run_projection(NAME)
        assert (sorted(sent()), read_model()) == (reports, set(reports))
        assert (checkpoint(NAME).status, checkpoint(NAME).side_effects) == (CheckpointStatus.RUNNING, None)

    def test_a_rebuild_continues_after_some_partitions_have_finished(self, divide: Divide) -> None:
        divide(4)
        reports = [f"report {number}" for number in range(9)]
        report(*reports)
        run_projection(NAME)
        start_rebuild(NAME, by="Ada")
        run_some({0, 2})
        found = [each.status for each in ProjectionCheckpoint.objects.filter(name=NAME).order_by("partition")]
        assert found == [
            CheckpointStatus.RUNNING,
            CheckpointStatus.REBUILDING,
            CheckpointStatus.RUNNING,
            CheckpointStatus.REBUILDING,
        ]
        done = len(read_model())
        assert 0 < done < 9
        out = StringIO()
        call_command("es_rebuild", NAME, stdout=out, stderr=out)
        assert f"rebuilt: {9 - done} events" in out.getvalue()
        assert (read_model(), sorted(sent())) == (set(reports), reports)

    def test_an_inline_projection_that_becomes_async_is_rebuilt_in_partitions(
        self, become: Become, divide: Divide
    ) -> None:
        become("inline")
        report("one", "two")
        pause(NAME, by="Ada")
        become("async")
        divide(4)
        report("three")
        start_rebuild(NAME, by="Ada")
        run_projection(NAME)
        assert (sent(), read_model()) == (["one", "two", "three"], {"one", "two", "three"})

    def test_a_projection_in_partitions_that_becomes_inline_is_rebuilt(self, become: Become, divide: Divide) -> None:
        divide(4)
        report("one", "two")
        run_projection(NAME)
        become("inline")
        divide(1)
        report("three")
        start_rebuild(NAME, by="Ada")
        run_projections()
        report("four")
        assert (sorted(sent()), read_model()) == (["four", "one", "three", "two"], {"one", "two", "three", "four"})

    def test_a_partition_reads_only_events_of_its_own_streams(self) -> None:
        report(*map(str, range(40)))
        ids = {stream.key: stream.pk for stream in Stream.objects.all()}
        for number in range(3):
            share = Partition(number, 3)
            read = {recorded.stream.key for recorded in event_store.read_all(partition=share).events}
            assert read == {key for key, pk in ids.items() if share.holds(pk)}


class TestUpcasting:
    def test_each_event_from_one_upcast_has_its_side_effect_once(self, become: Become) -> None:
        report_of_old("old", "one", "two")
        run_projection(NAME)
        start_rebuild(NAME, by="Ada")
        run_projection(NAME)
        assert (sent(), read_model()) == (["one", "two"], {"one", "two"})

    @pytest.mark.parametrize("mode", ["inline", "async"])
    def test_a_rebuild_continues_past_events_that_upcast_to_nothing(
        self, mode: str, become: Become, settings: Settings
    ) -> None:
        settings.ES_DJANGO = {**settings.ES_DJANGO, "PROJECTIONS": {"BATCH_SIZE": 2}}
        become(mode)
        for key in ("a", "b", "c"):
            report_of_old(key)
        report("one")
        run_projections()
        start_rebuild(NAME, by="Ada")
        run_projections()
        assert (sent(), read_model()) == (["one"], {"one"})
        assert checkpoint(NAME).status == (CheckpointStatus.INLINE if mode == "inline" else CheckpointStatus.RUNNING)


class TestMigrate:
    def test_a_migration_creates_the_checkpoints_of_inline_projections(self) -> None:
        for _ in range(2):
            record_inline_projections("other")
            record_inline_projections("default")
            assert checkpoint("balances").status == CheckpointStatus.INLINE
            assert not ProjectionCheckpoint.objects.filter(name=NAME).exists()
            assert not ProjectionCheckpoint.objects.exclude(status=CheckpointStatus.INLINE).exists()

    def test_a_migration_reports_a_new_inline_projection_that_lacks_earlier_events(self, become: Become) -> None:
        assert "is new" not in migrate()
        report("one")
        become("inline")
        ProjectionCheckpoint.objects.filter(name=NAME).delete()
        line = f"projection {NAME} is new and has not applied the older events: run manage.py es_rebuild {NAME}"
        assert migrate().splitlines().count(line) == 1
        assert "is new" not in migrate()
        ProjectionCheckpoint.objects.filter(name=NAME).delete()
        assert "is new" not in migrate(verbosity=0)
