from django.db.models import F

from es_django import Projection, RecordedEvent, projects
from testproject.helpdesk.events import StepTaken
from testproject.helpdesk.models import StepCount, TicketStatus


class Steps(Projection):
    class Meta:
        name = "helpdesk.steps"
        mode = "async"
        models = [StepCount, TicketStatus]

    @projects
    def step_taken(self, event: StepTaken, recorded: RecordedEvent) -> None:
        if not StepCount.objects.filter(name=event.step).update(count=F("count") + 1):
            StepCount.objects.create(name=event.step, count=1)
        self._follow(recorded.stream.key, event)

    def _follow(self, ticket: str, event: StepTaken) -> None:
        # Order by the times of the steps, because corrected rows arrive late. At equal times, a closing step wins.
        status = {"latest_at": event.at, "is_open": not event.closes}
        earlier = {"latest_at__lte" if event.closes else "latest_at__lt": event.at}
        if not TicketStatus.objects.filter(ticket=ticket, **earlier).update(**status):
            TicketStatus.objects.bulk_create([TicketStatus(ticket=ticket, **status)], ignore_conflicts=True)
