"""Compare snapshots with a replay of their streams."""

from collections.abc import Iterator

from es_django.audit.findings import AuditContext, Finding, in_pages
from es_django.core.aggregates import Aggregate
from es_django.core.equality import changed
from es_django.core.errors import DefinitionError, EsDjangoError
from es_django.core.serialization import storable_text
from es_django.core.streams import StreamId
from es_django.models import Snapshot, Stream
from es_django.store.backends import store_for
from es_django.store.snapshots import SnapshotCodec

Reader = tuple[type[Aggregate], SnapshotCodec]
"""An aggregate class and the codec of its snapshots."""


def findings(context: AuditContext) -> Iterator[Finding]:
    readers = dict(_readers(Aggregate))
    for page in in_pages(Snapshot.objects.using(context.using), "stream_id", "version", "schema"):
        streams = Stream.objects.using(context.using).in_bulk([stream_id for _, stream_id, *_ in page])
        for _, stream_id, version, schema in page:
            context.counts["snapshots"] += 1
            stream = streams.get(stream_id)
            if stream is None:
                yield Finding("snapshot", f"stream {stream_id} of the snapshot at version {version} does not exist")
            elif version > stream.version:
                name = f"stream {stream.category!r} {stream.key!r}"
                yield Finding("snapshot", f"{name} is at version {stream.version}, its snapshot at version {version}")
            elif schema not in readers:
                # The code of another release may read this snapshot. The current code ignores it.
                context.counts["snapshots of another schema"] += 1
            else:
                yield from _compare(context, StreamId(stream.category, stream.key), schema, *readers[schema])
        context.report(page[-1][0])


def _readers(base: type[Aggregate]) -> Iterator[tuple[str, Reader]]:
    """Yield the reader of each aggregate class that has snapshots, with the schema of the snapshots."""
    for cls in base.__subclasses__():
        if cls.snapshot_every is not None:
            try:
                codec = SnapshotCodec(cls)
                schema = codec.schema
            except DefinitionError:
                continue  # such a class cannot have snapshots
            yield schema, (cls, codec)
        yield from _readers(cls)


def _compare(
    context: AuditContext, stream: StreamId, schema: str, cls: type[Aggregate], codec: SnapshotCodec
) -> Iterator[Finding]:
    store = store_for(context.using)
    snapshot = store.load(stream, schema=schema).snapshot
    if snapshot is None:
        return  # the snapshot was deleted or replaced after the page was read
    version, encoded = snapshot
    where = f"{stream}, version {version}"
    state = codec.decode(encoded)
    if state is None:
        yield Finding("snapshot", f"{where}: the state does not decode")
        return
    aggregate = cls(stream.key)
    try:
        aggregate._replay(store.load(stream, limit=version).tail)
    except EsDjangoError as error:
        yield Finding("snapshot", f"{where}: the events cannot be replayed: {error}")
    except Exception as error:
        yield Finding("snapshot", f"{where}: an @applies method raised {storable_text(error)}")
    else:
        if others := changed(state, aggregate._state()):
            yield Finding("snapshot", f"{where}: a replay gives another value of {', '.join(sorted(others))}")
