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


def test_a_step_that_was_taken_twice_is_recorded_twice() -> None:
    wait = step("Wait", hour=9)
    assert ticket(wait, wait).pending_events == [wait, wait]


def test_steps_that_the_ticket_has_are_not_recorded_again() -> None:
    wait, close = step("Wait", hour=9), step("Closed", hour=10)
    again = ticket(wait, close, wait)
    again.add_missing([wait, close, wait])
    assert again.pending_events == [wait, close, wait]


def test_of_a_repeated_step_only_the_lacking_ones_are_recorded() -> None:
    wait, close = step("Wait", hour=9), step("Closed", hour=10)
    mended = ticket(wait, close)
    mended.add_missing([wait, wait, close, wait])
    assert mended.pending_events == [wait, close, wait, wait]


def test_steps_are_recorded_in_the_order_of_the_log() -> None:
    steps = [step("Wait", hour=11), step("Closed", hour=12), step("Wait", hour=11)]
    assert ticket(*steps).pending_events == steps


def test_a_ticket_is_open_until_it_is_closed() -> None:
    assert ticket().is_open
    assert ticket(step("Wait", hour=9)).is_open
    assert not ticket(step("Wait", hour=9), step("Closed", hour=10)).is_open


def test_a_ticket_that_goes_on_after_its_closing_is_open_again() -> None:
    assert ticket(step("Closed", hour=9), step("Wait", hour=10)).is_open


def test_a_step_that_is_recorded_late_does_not_open_a_closed_ticket() -> None:
    assert not ticket(step("Closed", hour=10), step("Wait", hour=9)).is_open
    assert not ticket(step("Closed", hour=10), step("Wait", hour=10)).is_open
