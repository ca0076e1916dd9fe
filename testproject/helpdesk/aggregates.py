from collections import Counter
from collections.abc import Iterable

from es_django import Aggregate, applies
from testproject.helpdesk.events import StepTaken


class Ticket(Aggregate):
    """One case of the help desk. Its steps may be recorded in any order, since a row that was mended comes late."""

    steps: Counter[StepTaken] = Counter()

    class Meta:
        category = "ticket"

    @property
    def is_open(self) -> bool:
        """Whether there is more to come: a ticket can be taken up again after its closing."""
        latest = max(self.steps, key=lambda step: (step.at, step.closes), default=None)
        return latest is None or not latest.closes

    def add_missing(self, steps: Iterable[StepTaken]) -> None:
        """Records those of `steps` that the ticket does not have yet.

        The same step can be taken twice, so this counts: of a step that stands in `steps` three times and that the
        ticket has once, two are recorded.
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
