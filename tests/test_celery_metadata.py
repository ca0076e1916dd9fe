"""A task carries the metadata of its sender to its worker."""

import queue
from typing import Any

import pytest
from celery import shared_task
from celery.contrib.testing.worker import start_worker

from es_django.core.metadata import current_metadata, metadata
from testproject.celery import app

seen: "queue.Queue[dict[str, str]]" = queue.Queue()


@shared_task(name="tests.look_at_metadata")
def look_at_metadata(again: bool = False) -> None:
    seen.put(dict(current_metadata()))
    if again:
        send()


def send(**arguments: Any) -> None:
    """Send the task to the worker in this process, whichever broker other tests have used before."""
    with app.connection_for_write() as connection:
        app.send_task("tests.look_at_metadata", kwargs=arguments, connection=connection)


class TestCeleryMetadata:
    @pytest.mark.django_db(transaction=True)
    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    @pytest.mark.slow
    def test_a_task_has_the_metadata_of_its_sender_and_passes_the_metadata_on(self) -> None:
        app.control.purge()  # messages that other tests left in the memory of this process
        with start_worker(app, pool="solo", perform_ping_check=False):
            with metadata(correlation_id="c-1", user=lambda: "ada"):
                send(again=True)
            send()
            expected = {"correlation_id": "c-1", "user": "ada"}
            assert seen.get(timeout=20) == expected
            rest = [seen.get(timeout=20), seen.get(timeout=20)]
        assert expected in rest
        assert {} in rest
