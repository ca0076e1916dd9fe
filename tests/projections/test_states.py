"""The status of a checkpoint changes only along allowed transitions."""

import pytest

from es_django.errors import ProjectionStatusError
from es_django.models import CheckpointStatus, ProjectionCheckpoint
from es_django.projections.states import transition

ALLOWED = {
    "running": "paused failed rebuilding inline",
    "rebuilding": "running paused failed inline",
    "paused": "running rebuilding",
    "failed": "running rebuilding",
    "inline": "paused",
}


class TestTransition:
    @pytest.mark.parametrize("before", CheckpointStatus)
    @pytest.mark.parametrize("after", CheckpointStatus)
    def test_transitions_outside_the_table_are_refused(self, before: CheckpointStatus, after: CheckpointStatus) -> None:
        state = ProjectionCheckpoint(name="tests.effects", status=before)
        if after in ALLOWED[before].split():
            transition(state, after)
            assert state.status == after
        else:
            with pytest.raises(
                ProjectionStatusError, match=f"cannot be changed to status {after}: its status is {before}"
            ):
                transition(state, after)
