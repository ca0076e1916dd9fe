"""The retry policy decides whether and when a message is retried."""

import pytest
from pytest_django import Settings

from es_django import Message, conf
from es_django.conf import Backoff, OutboxSettings
from es_django.errors import DestinationRefuses, DestinationUnreachable, PublishError
from es_django.outbox import retry_policy
from es_django.outbox.port import Claim, Settlement
from es_django.outbox.retry_policy import MANY, decide
from es_django.outbox.states import Transition

LIMITS = OutboxSettings(max_attempts=3, backoff=Backoff(base=2, factor=10, max=50))
DOWN = PublishError("down")
NEVER = PublishError("never", retryable=False)


def settlement(attempts: int, error: PublishError | None = None, *, tried: bool = True) -> Settlement:
    return Settlement(Claim(1, attempts, Message(type="noted", data=None)), error, tried)


class TestDecide:
    @pytest.mark.parametrize(
        ("given", "transition", "attempts", "error"),
        [
            (settlement(2), Transition.PUBLISH, 2, ""),
            (settlement(2, DOWN), Transition.RETRY, 2, "down"),
            (settlement(3, DOWN), Transition.DEAD_LETTER, 3, "down"),
            (settlement(1, NEVER), Transition.DEAD_LETTER, 1, "never"),
            (settlement(1, tried=False), Transition.RETURN, 0, ""),
            (settlement(3, DOWN, tried=False), Transition.RETURN, 2, "down"),
            (settlement(4, NEVER, tried=False), Transition.DEAD_LETTER, 3, "never"),
        ],
    )
    def test_each_outcome_leads_to_one_transition(
        self, given: Settlement, transition: Transition, attempts: int, error: str
    ) -> None:
        decision = decide(given, LIMITS)
        assert (decision.transition, decision.attempts, decision.error) == (transition, attempts, error)
        assert (decision.delay > 0) == (transition is Transition.RETRY)

    def test_pauses_grow_and_are_spread_over_the_upper_half(self) -> None:
        for attempts, longest in ((1, 2), (2, 20)):
            delays = [decide(settlement(attempts, DOWN), LIMITS).delay for _ in range(200)]
            assert longest / 2 <= min(delays) < max(delays) <= longest
            assert max(delays) - min(delays) > longest / 4


class TestLimits:
    def test_only_a_claim_beyond_the_last_attempt_is_exhausted(self) -> None:
        claims = [Claim(attempts * 10, attempts, Message(type="noted", data=None)) for attempts in (2, 3, 4)]
        assert retry_policy.exhausted(claims, LIMITS) == {40}

    @pytest.mark.parametrize(("max_attempts", "attempts"), [(1, 0), (2, 1), (3, 2), (10, 2)])
    def test_a_message_is_suspect_after_two_attempts_or_before_its_last_one(
        self, max_attempts: int, attempts: int
    ) -> None:
        assert retry_policy.suspect_from(OutboxSettings(max_attempts=max_attempts)) == attempts

    def test_a_circuit_stays_open_as_long_as_the_backoff_but_at_most_10_seconds(self) -> None:
        assert [retry_policy.seconds_open(failures, LIMITS) for failures in (1, 2, 3)] == [2, 10, 10]


REFUSED, HANGS = DestinationRefuses("401"), DestinationUnreachable("refused")
LIMITED = DestinationUnreachable("429", is_certain=True)


class TestOutage:
    @pytest.mark.parametrize(
        ("outcomes", "is_outage"),
        [
            ([], False),
            ([None, None], False),
            ([HANGS], True),
            ([HANGS, HANGS], True),
            ([HANGS, None], False),
            ([HANGS, DOWN], False),
            ([LIMITED, None, DOWN], True),
            ([REFUSED], False),
            ([REFUSED] * (MANY - 1), False),
            ([REFUSED] * MANY, True),
            ([*[REFUSED] * MANY, None], False),
            ([HANGS, *[REFUSED] * (MANY - 1)], True),
        ],
    )
    def test_fault_e4_only_outcomes_that_concern_all_messages_are_an_outage(
        self, outcomes: list[PublishError | None], is_outage: bool
    ) -> None:
        assert (retry_policy.outage(outcomes) is not None) == is_outage

    def test_fault_b2_one_refusal_continues_an_outage(self) -> None:
        assert retry_policy.outage([REFUSED], is_probe=True) is REFUSED
        assert retry_policy.outage([DOWN], is_probe=True) is None


class TestSchedule:
    def test_fault_e4_default_attempts_span_days(self) -> None:
        limits = OutboxSettings()
        pauses = [limits.backoff.after(attempts) for attempts in range(1, limits.max_attempts)]
        assert pauses == [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
        assert sum(pauses) / 2 > 24 * 3600

    def test_fault_e4_a_destination_has_a_policy_of_its_own(self, settings: Settings) -> None:
        own = {"PUBLISHER": "x", "MAX_ATTEMPTS": 3, "BACKOFF": {"schedule": [1, 60]}, "BATCH_SIZE": 7}
        settings.ES_DJANGO = {"DESTINATIONS": {"own": own, "other": {"PUBLISHER": "x"}}, "OUTBOX": {"LEASE": 9}}
        limits = conf.settings().outbox_of("own")
        assert (limits.max_attempts, limits.batch_size, limits.lease) == (3, 7, 9)
        assert [limits.backoff.after(attempts) for attempts in (1, 2, 3)] == [1, 60, 60]
        assert conf.settings().outbox_of("other") == conf.settings().outbox == conf.settings().outbox_of("removed")
