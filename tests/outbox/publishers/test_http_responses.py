"""A response of a webhook's receiver concerns its message alone, or the destination."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from es_django.errors import DestinationRefuses, DestinationUnreachable, PublishError
from es_django.outbox.publishers.http_responses import LONGEST_RETRY_AFTER, outcome_of


def http_date(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


class TestStatuses:
    @pytest.mark.parametrize("status", [200, 204, 299])
    def test_fault_b2_success_is_no_error(self, status: int) -> None:
        assert outcome_of(status, {}) is None

    @pytest.mark.parametrize("status", [400, 413, 415, 422])
    def test_fault_b2_a_message_that_is_refused_alone_is_not_retried(self, status: int) -> None:
        outcome = outcome_of(status, {})
        assert outcome is not None
        assert not outcome.retryable

    @pytest.mark.parametrize("status", [301, 304, 401, 403, 404, 407, 410])
    def test_fault_b2_a_sender_that_is_refused_is_retried(self, status: int) -> None:
        outcome = outcome_of(status, {})
        assert isinstance(outcome, DestinationRefuses)
        assert outcome.retryable

    @pytest.mark.parametrize("status", [408, 425, 500, 501, 505, 599])
    def test_fault_b2_other_statuses_are_retried(self, status: int) -> None:
        outcome = outcome_of(status, {})
        assert type(outcome) is PublishError
        assert outcome.retryable

    @pytest.mark.parametrize("status", [429, 502, 503, 504])
    def test_fault_e4_an_unavailable_receiver_is_unreachable(self, status: int) -> None:
        outcome = outcome_of(status, {})
        assert isinstance(outcome, DestinationUnreachable)
        assert outcome.is_certain == (status == 429)


class TestRetryAfter:
    @pytest.mark.parametrize("status", [429, 503])
    def test_fault_e5_seconds_are_kept(self, status: int) -> None:
        outcome = outcome_of(status, {"retry-after": " 120 "})
        assert isinstance(outcome, DestinationUnreachable)
        assert (outcome.retry_after, outcome.is_certain) == (120, True)

    def test_fault_e5_a_date_is_read_on_the_clock_of_the_receiver(self) -> None:
        headers = {"retry-after": http_date(-3480), "date": http_date(-3600)}
        outcome = outcome_of(429, headers)
        assert isinstance(outcome, DestinationUnreachable)
        assert outcome.retry_after == pytest.approx(120, abs=2)

    @pytest.mark.parametrize("value", ["", "soon", "-5", "1.5", "²", "Mon, 99 Foo"])
    def test_fault_e5_an_unreadable_pause_is_ignored(self, value: str) -> None:
        outcome = outcome_of(429, {"retry-after": value})
        assert isinstance(outcome, DestinationUnreachable)
        assert outcome.retry_after is None

    def test_fault_e5_a_pause_is_bounded(self) -> None:
        outcome = outcome_of(503, {"retry-after": "9" * 30})
        assert isinstance(outcome, DestinationUnreachable)
        assert outcome.retry_after == LONGEST_RETRY_AFTER


class TestClocks:
    @pytest.mark.parametrize("status", [400, 401])
    @pytest.mark.parametrize(("seconds", "word"), [(3600, "behind"), (-3600, "ahead of")])
    def test_fault_b2_clocks_that_differ_are_named_and_the_message_is_retried(
        self, status: int, seconds: int, word: str
    ) -> None:
        outcome = outcome_of(status, {"date": http_date(seconds)})
        assert isinstance(outcome, DestinationRefuses)
        assert f"s {word} the receiver's clock" in str(outcome)

    def test_fault_b2_clocks_that_agree_are_not_named(self) -> None:
        assert "clock" not in str(outcome_of(401, {"date": http_date(60)}))
