from datetime import datetime

from es_django import Event

CLOSING = "Closed"


class StepTaken(Event):
    """A row of the help desk's log. `at` is the time of the step, perhaps long before it was recorded."""

    step: str
    resource: str
    at: datetime
    seriousness: str
    customer: str
    product: str
    responsible_section: str
    seriousness_2: str
    service_level: str
    service_type: str
    support_section: str
    workgroup: str

    class Meta:
        name = "helpdesk.step_taken"

    @property
    def closes(self) -> bool:
        return self.step == CLOSING
