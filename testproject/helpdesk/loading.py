"""Store each step of the tickets exactly once, even if a load is repeated, interrupted or run beside another."""

import random
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from es_django import EsDjangoError, Repository
from es_django.errors import AggregateExists
from testproject.helpdesk.aggregates import Ticket
from testproject.helpdesk.events import StepTaken

tickets = Repository(Ticket)

ATTEMPTS = 10
LONGEST_PAUSE = 1.0


class Stored(NamedTuple):
    cases: int
    events: int
    messages: int

    def plus(self, more: "Stored") -> "Stored":
        return Stored(self.cases + more.cases, self.events + more.events, self.messages + more.messages)


def store_steps(cases: Mapping[str, Sequence[StepTaken]]) -> Stored:
    """Store the missing steps of all `cases`, all or nothing. Return how many cases, events and messages were stored.

    After a retryable error, such as a conflict, load the tickets and look for missing steps again. After the last
    attempt, raise the last `EsDjangoError`.
    """
    for attempt in range(1, ATTEMPTS + 1):
        found = tickets.get_many(cases)
        complete = [found.get(key) or Ticket(key) for key in cases]
        for ticket in complete:
            ticket.add_missing(cases[ticket.key])
        changed = [ticket for ticket in complete if ticket.pending_events]
        added = [step for ticket in changed for step in ticket.pending_events]
        try:
            tickets.save_all(changed)
        except EsDjangoError as error:
            # Another load may have created a ticket in the meantime: then its steps are found at the next attempt.
            if not (error.retryable or isinstance(error, AggregateExists)) or attempt == ATTEMPTS:
                raise
            time.sleep(random.uniform(0, min(LONGEST_PAUSE, 0.02 * 2**attempt)))
        else:
            closings = [step for step in added if isinstance(step, StepTaken) and step.closes]
            return Stored(cases=len(changed), events=len(added), messages=len(closings))
    raise AssertionError("unreachable")
