from typing import ClassVar

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

from es_django.models.stored_bytes import StoredBytes
from es_django.store.append_only import create_trigger, drop_trigger


def refuse_changes(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    create_trigger(schema_editor.connection)


def allow_changes(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    drop_trigger(schema_editor.connection)


class Migration(migrations.Migration):
    initial: ClassVar[bool] = True

    dependencies: ClassVar[list[tuple[str, str]]] = []

    operations: ClassVar[list[migrations.operations.base.Operation]] = [
        migrations.CreateModel(
            name="OutboxMessage",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("message_id", models.UUIDField()),
                ("destination", models.CharField(max_length=255)),
                ("type", models.CharField(max_length=255)),
                ("key", models.CharField(blank=True, max_length=255, null=True)),
                ("data", models.JSONField()),
                ("headers", models.JSONField()),
                (
                    "size",
                    models.GeneratedField(
                        db_persist=True,
                        expression=StoredBytes("data"),
                        output_field=models.BigIntegerField(),
                    ),
                ),
                ("stream_version", models.BigIntegerField(blank=True, null=True)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("claimed", "Claimed"),
                            ("published", "Published"),
                            ("dead", "Dead"),
                            ("discarded", "Discarded"),
                        ],
                        default="pending",
                        max_length=9,
                    ),
                ),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("available_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("claimed_by", models.CharField(blank=True, max_length=255, null=True)),
                ("claimed_until", models.DateTimeField(blank=True, null=True)),
                ("published_at", models.DateTimeField(blank=True, null=True)),
                ("failed_at", models.DateTimeField(blank=True, null=True)),
                ("last_error", models.TextField(blank=True, default="")),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "permissions": [
                    ("requeue_outboxmessage", "Can requeue dead messages"),
                    ("release_outboxmessage", "Can release messages that wait or that a worker holds"),
                    ("discard_outboxmessage", "Can discard messages"),
                ],
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="Stream",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("category", models.CharField(max_length=255)),
                ("key", models.CharField(max_length=255)),
                ("version", models.BigIntegerField(help_text="The number of events in this stream.")),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("updated_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("archived_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="StoredEvent",
            fields=[
                ("position", models.BigAutoField(primary_key=True, serialize=False)),
                ("version", models.BigIntegerField()),
                ("type", models.CharField(max_length=255)),
                ("schema_version", models.PositiveIntegerField()),
                ("data", models.JSONField()),
                ("metadata", models.JSONField()),
                ("correlation_id", models.CharField(blank=True, max_length=255, null=True)),
                ("causation_id", models.CharField(blank=True, max_length=255, null=True)),
                ("event_id", models.UUIDField()),
                ("recorded_at", models.DateTimeField()),
            ],
            options={
                "verbose_name": "event",
                "db_table": "es_django_event",
                "permissions": [("view_sensitive_data", "Can view the sensitive fields of events")],
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="InboxReceipt",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("consumer", models.CharField(max_length=255)),
                ("message_id", models.CharField(max_length=255)),
                ("conflict", models.CharField(blank=True, db_default="", default="", max_length=32)),
                ("fingerprint", models.CharField(blank=True, db_default="", default="", max_length=32)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("handled", "Handled"),
                            ("dead", "Dead"),
                            ("handling", "Handling"),
                            ("retrying", "Retrying"),
                        ],
                        max_length=8,
                    ),
                ),
                ("attempts", models.PositiveIntegerField(default=1)),
                ("last_error", models.TextField(blank=True, default="")),
                ("message", models.JSONField(blank=True, null=True)),
                ("route", models.JSONField(blank=True, null=True)),
                ("retry_at", models.DateTimeField(blank=True, null=True)),
                ("handled_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "permissions": [("replay_inboxreceipt", "Can replay dead messages")],
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(
                        condition=models.Q(("status", "handled")), fields=["handled_at"], name="es_django_inbox_handled"
                    ),
                    models.Index(condition=models.Q(("status", "dead")), fields=["id"], name="es_django_inbox_dead"),
                    models.Index(
                        condition=models.Q(("status__in", ("handling", "retrying"))),
                        fields=["retry_at"],
                        name="es_django_inbox_open",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("message_id", "consumer", "conflict"), name="es_django_inbox_once"),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("consumer", ""), _negated=True),
                            models.Q(("message_id", ""), _negated=True),
                        ),
                        name="es_django_inbox_not_empty",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("retry_at__isnull", True), ("status__in", ("handled", "dead"))),
                            models.Q(("retry_at__isnull", False), ("status__in", ("handling", "retrying"))),
                            _connector="OR",
                        ),
                        name="es_django_inbox_status_fits",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ProjectionCheckpoint",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=255)),
                ("partition", models.PositiveIntegerField(default=0)),
                ("partitions", models.PositiveIntegerField(default=1)),
                ("position", models.BigIntegerField(default=0)),
                (
                    "side_effects",
                    models.JSONField(
                        blank=True,
                        help_text="During a rebuild: [partition, partitions, position] up to which the side effects "
                        "are done.",
                        null=True,
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("running", "Running"),
                            ("paused", "Paused"),
                            ("rebuilding", "Rebuilding"),
                            ("failed", "Failed"),
                            ("inline", "Inline"),
                        ],
                        default="running",
                        max_length=10,
                    ),
                ),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("retry_at", models.DateTimeField(blank=True, null=True)),
                ("last_error", models.TextField(blank=True, default="")),
                ("failed_position", models.BigIntegerField(blank=True, null=True)),
                (
                    "failing_until",
                    models.BigIntegerField(
                        blank=True,
                        help_text="An event up to this position fails. The runner makes batches smaller until it finds "
                        "the event.",
                        null=True,
                    ),
                ),
                (
                    "needs_newer_code",
                    models.BooleanField(
                        default=False,
                        help_text="Newer code wrote the event at the failed position. A runner with that code goes on.",
                    ),
                ),
                ("updated_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "permissions": [
                    ("operate_projectioncheckpoint", "Can pause, resume and rebuild projections, and skip events")
                ],
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(fields=("name", "partition"), name="es_django_checkpoint_identity"),
                    models.CheckConstraint(
                        condition=models.Q(("position__gte", 0)),
                        name="es_django_checkpoint_position_not_negative",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("partition__lt", models.F("partitions"))),
                        name="es_django_checkpoint_partition_exists",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="SkippedEvent",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("projection", models.CharField(max_length=255)),
                ("position", models.BigIntegerField()),
                ("error", models.TextField()),
                ("skipped_by", models.CharField(max_length=255)),
                ("skipped_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "default_permissions": ("view",),
                "indexes": [models.Index(fields=["projection", "-position"], name="es_django_skipped_events")],
            },
        ),
        migrations.CreateModel(
            name="Snapshot",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                (
                    "stream",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="snapshots",
                        to="es_django.stream",
                    ),
                ),
                ("version", models.BigIntegerField()),
                ("schema", models.CharField(max_length=255)),
                ("state", models.TextField()),
                ("taken_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "default_permissions": ("view",),
            },
        ),
        migrations.AddConstraint(
            model_name="stream",
            constraint=models.UniqueConstraint(fields=("category", "key"), name="es_django_stream_identity"),
        ),
        migrations.AddConstraint(
            model_name="stream",
            constraint=models.CheckConstraint(
                condition=models.Q(models.Q(("category", ""), _negated=True), models.Q(("key", ""), _negated=True)),
                name="es_django_stream_identity_not_empty",
            ),
        ),
        migrations.AddConstraint(
            model_name="stream",
            constraint=models.CheckConstraint(
                condition=models.Q(("version__gte", 0)), name="es_django_stream_version_not_negative"
            ),
        ),
        migrations.AddField(
            model_name="outboxmessage",
            name="stream",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="messages",
                to="es_django.stream",
            ),
        ),
        migrations.AddField(
            model_name="storedevent",
            name="stream",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="events",
                to="es_django.stream",
            ),
        ),
        migrations.AddConstraint(
            model_name="snapshot",
            constraint=models.UniqueConstraint(fields=("stream", "schema"), name="es_django_snapshot_schema"),
        ),
        migrations.AddConstraint(
            model_name="snapshot",
            constraint=models.CheckConstraint(
                condition=models.Q(("version__gt", 0)), name="es_django_snapshot_version_positive"
            ),
        ),
        migrations.AddIndex(
            model_name="outboxmessage",
            index=models.Index(
                condition=models.Q(("status", "pending")), fields=["destination", "id"], name="es_django_outbox_pending"
            ),
        ),
        migrations.AddIndex(
            model_name="outboxmessage",
            index=models.Index(
                condition=models.Q(("status", "claimed")), fields=["destination", "id"], name="es_django_outbox_claimed"
            ),
        ),
        migrations.AddIndex(
            model_name="outboxmessage",
            index=models.Index(
                condition=models.Q(("available_at__gt", models.F("created_at")), ("status", "pending")),
                fields=["destination", "available_at"],
                name="es_django_outbox_waiting",
            ),
        ),
        migrations.AddIndex(
            model_name="outboxmessage",
            index=models.Index(
                condition=models.Q(("key__isnull", False), ("status__in", ("pending", "claimed"))),
                fields=["destination", "key", "id"],
                name="es_django_outbox_open_key",
            ),
        ),
        migrations.AddConstraint(
            model_name="outboxmessage",
            constraint=models.UniqueConstraint(fields=("message_id",), name="es_django_outbox_message_id"),
        ),
        migrations.AddConstraint(
            model_name="outboxmessage",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("claimed_by__isnull", True),
                        ("claimed_until__isnull", True),
                        ("failed_at__isnull", True),
                        ("published_at__isnull", True),
                        ("status", "pending"),
                    ),
                    models.Q(
                        ("claimed_by__isnull", False),
                        ("claimed_until__isnull", False),
                        ("failed_at__isnull", True),
                        ("published_at__isnull", True),
                        ("status", "claimed"),
                    ),
                    models.Q(
                        ("claimed_by__isnull", True),
                        ("claimed_until__isnull", True),
                        ("failed_at__isnull", True),
                        ("published_at__isnull", False),
                        ("status", "published"),
                    ),
                    models.Q(
                        ("claimed_by__isnull", True),
                        ("claimed_until__isnull", True),
                        ("failed_at__isnull", False),
                        ("published_at__isnull", True),
                        ("status__in", ("dead", "discarded")),
                    ),
                    _connector="OR",
                ),
                name="es_django_outbox_status_fits",
            ),
        ),
        migrations.AddConstraint(
            model_name="storedevent",
            constraint=models.UniqueConstraint(fields=("stream", "version"), name="es_django_event_version"),
        ),
        migrations.AddConstraint(
            model_name="storedevent",
            constraint=models.UniqueConstraint(fields=("event_id",), name="es_django_event_id"),
        ),
        migrations.AddConstraint(
            model_name="storedevent",
            constraint=models.CheckConstraint(
                condition=models.Q(("version__gt", 0)), name="es_django_event_version_positive"
            ),
        ),
        migrations.AddConstraint(
            model_name="storedevent",
            constraint=models.CheckConstraint(
                condition=models.Q(("position__gt", 0), ("position__lt", 140737488355328)),
                name="es_django_event_position_fits",
            ),
        ),
        migrations.CreateModel(
            name="Lease",
            fields=[
                ("name", models.CharField(max_length=255, primary_key=True, serialize=False)),
                ("owner", models.CharField(max_length=255)),
                ("token", models.UUIDField()),
                ("expires_at", models.DateTimeField()),
            ],
            options={
                "default_permissions": ("view",),
            },
        ),
        migrations.AddIndex(
            model_name="outboxmessage",
            index=models.Index(
                condition=models.Q(("status", "dead")),
                fields=["destination", "id"],
                name="es_django_outbox_dead",
            ),
        ),
        migrations.AddIndex(
            model_name="outboxmessage",
            index=models.Index(
                condition=models.Q(("status__in", ("dead", "discarded"))),
                fields=["id"],
                name="es_django_outbox_given_up",
            ),
        ),
        migrations.AddIndex(
            model_name="storedevent",
            index=models.Index(
                condition=models.Q(("correlation_id__isnull", False)),
                fields=["correlation_id"],
                name="es_django_event_correlated",
            ),
        ),
        migrations.AddIndex(
            model_name="storedevent",
            index=models.Index(
                condition=models.Q(("causation_id__isnull", False)),
                fields=["causation_id"],
                name="es_django_event_caused_by",
            ),
        ),
        migrations.AddIndex(
            model_name="outboxmessage",
            index=models.Index(
                condition=models.Q(("stream__isnull", False)),
                fields=["stream", "stream_version"],
                name="es_django_outbox_source",
            ),
        ),
        migrations.RunPython(refuse_changes, allow_changes),
    ]
