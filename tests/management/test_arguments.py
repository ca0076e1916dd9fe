"""The arguments that several commands share."""

import logging
import os

import pytest
from django.core.management import call_command

from es_django import outbox
from tests.publishers import Recorder


class TestBy:
    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("error", [KeyError("no such uid"), OSError("no such uid")])
    def test_a_user_without_a_name_is_logged_by_number(
        self,
        recorder: type[Recorder],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        error: Exception,
    ) -> None:
        def fail() -> None:
            raise error

        monkeypatch.setattr("es_django.management.arguments.getuser", fail)
        outbox.send("tests", type="noted", data=None)
        with caplog.at_level(logging.INFO, "es_django.outbox"):
            call_command("es_outbox", "discard", "--destination", "tests")
        assert f"was discarded by uid {os.getuid()}" in caplog.text
