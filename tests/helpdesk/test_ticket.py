from datetime import UTC, datetime

from testproject.helpdesk.aggregates import Ticket
from testproject.helpdesk.events import StepTaken


def step(name: str, *, hour: int) -> StepTaken:
    return StepTaken(
        step=name,
        at=datetime(2012, 10, 9, hour, tzinfo=UTC),
        resource="Value 1",
        seriousness="",
        customer="",
        product="",
        responsible_section="",
        seriousness_2="",
        service_level="",
        service_type="",
        support_section="",
        workgroup="",
    )


def ticket(*steps: StepTaken) -> Ticket:
    ticket = Ticket("Case 1")
    ticket.add_missing(steps)
    return ticket


class TestRecording:
    def test_repeated_step_is_recorded_twice(self) -> None:
        wait = step("Wait", hour=9)
        assert ticket(wait, wait).pending_events == [wait, wait]

    def test_recorded_steps_are_skipped(self) -> None:
        wait, close = step("Wait", hour=9), step("Closed", hour=10)
        again = ticket(wait, close, wait)
        again.add_missing([wait, close, wait])
        assert again.pending_events == [wait, close, wait]

    def test_only_missing_repetitions_are_recorded(self) -> None:
        wait, close = step("Wait", hour=9), step("Closed", hour=10)
        mended = ticket(wait, close)
        mended.add_missing([wait, wait, close, wait])
        assert mended.pending_events == [wait, close, wait, wait]

    def test_steps_keep_the_order_of_the_log(self) -> None:
        steps = [step("Wait", hour=11), step("Closed", hour=12), step("Wait", hour=11)]
        assert ticket(*steps).pending_events == steps


class TestOpen:
    def test_ticket_is_open_until_it_is_closed(self) -> None:
        assert ticket().is_open
        assert ticket(step("Wait", hour=9)).is_open
        assert not ticket(step("Wait", hour=9), step("Closed", hour=10)).is_open

    def test_later_step_reopens_a_ticket(self) -> None:
        assert ticket(step("Closed", hour=9), step("Wait", hour=10)).is_open

    def test_late_step_keeps_a_ticket_closed(self) -> None:
        assert not ticket(step("Closed", hour=10), step("Wait", hour=9)).is_open
        assert not ticket(step("Closed", hour=10), step("Wait", hour=10)).is_open
