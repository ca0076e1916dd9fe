"""The statuses of a checkpoint, and the transitions between them."""

from collections.abc import Mapping

from es_django.models import CheckpointStatus, ProjectionCheckpoint
from es_django.projections.errors import ProjectionStatusError

TRANSITIONS: Mapping[str, frozenset[str]] = {
    CheckpointStatus.RUNNING: frozenset(
        {CheckpointStatus.PAUSED, CheckpointStatus.FAILED, CheckpointStatus.REBUILDING, CheckpointStatus.INLINE}
    ),
    CheckpointStatus.REBUILDING: frozenset(
        {CheckpointStatus.RUNNING, CheckpointStatus.PAUSED, CheckpointStatus.FAILED, CheckpointStatus.INLINE}
    ),
    CheckpointStatus.PAUSED: frozenset({CheckpointStatus.RUNNING, CheckpointStatus.REBUILDING}),
    CheckpointStatus.FAILED: frozenset({CheckpointStatus.RUNNING, CheckpointStatus.REBUILDING}),
    CheckpointStatus.INLINE: frozenset({CheckpointStatus.PAUSED}),
}
"""The statuses that can follow each status."""


def transition(checkpoint: ProjectionCheckpoint, status: CheckpointStatus) -> None:
    """Change a checkpoint's status without saving it. Raise `ProjectionStatusError` if `TRANSITIONS` forbids it."""
    if status not in TRANSITIONS[checkpoint.status]:
        raise ProjectionStatusError(
            checkpoint.name, f"changed to status {status}", f"its status is {checkpoint.status}"
        )
    checkpoint.status = status
