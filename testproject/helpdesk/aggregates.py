from collections import Counter
from collections.abc import Iterable

from es_django import Aggregate, applies
from testproject.helpdesk.events import StepTaken


class Ticket(Aggregate):
    """A case of the help desk. Its steps may be recorded in any order, because corrected rows arrive late."""

    steps: Counter[StepTaken] = Counter()

    class Meta:
        category = "ticket"

    @property
    def is_open(self) -> bool:
        """Whether the ticket is open. A closed ticket can be reopened."""
        latest = max(self.steps, key=lambda step: (step.at, step.closes), default=None)
        return latest is None or not latest.closes

    def add_missing(self, steps: Iterable[StepTaken]) -> None:
        """Record the `steps` that the ticket does not have yet.

        A ticket can take the same step several times, so this method compares counts. If `steps` contains a step three
        times and the ticket has it once, the method records two steps.
        """
        known = self.steps.copy()
        for step in steps:
            if known[step] > 0:
                known[step] -= 1
            else:
                self.record(step)

    @applies
    def _step_taken(self, event: StepTaken) -> None:
        self.steps[event] += 1
