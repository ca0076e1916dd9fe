"""The trigger that keeps events unchanged, and its restoration after a migration.

Events are facts. The database refuses to change or delete them, except in a transaction that declares maintenance.
SQLite refuses updates only, because Django empties its tables with DELETE at the end of a test. On SQLite, a migration
that changes the table of events makes the table anew, without its triggers. So each `migrate` restores the trigger.
"""

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

TABLE = "es_django_event"
NAME = "es_django_event_append_only"

_BODY = """
BEGIN
    IF coalesce(current_setting('es_django.maintenance', true), '') <> 'on' THEN
        RAISE EXCEPTION 'events are append-only: % on es_django_event is refused', TG_OP
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'To change events, start the transaction with: SET LOCAL es_django.maintenance = on';
    END IF;
    RETURN coalesce(NEW, OLD);
END
"""

_CREATE = {
    "postgresql": (
        f"CREATE OR REPLACE FUNCTION es_django_refuse_event_change() RETURNS trigger LANGUAGE plpgsql AS $${_BODY}$$",
        f"DROP TRIGGER IF EXISTS {NAME} ON {TABLE}",
        f"CREATE TRIGGER {NAME} BEFORE UPDATE OR DELETE ON {TABLE} "
        "FOR EACH ROW EXECUTE FUNCTION es_django_refuse_event_change()",
    ),
    "sqlite": (
        f"DROP TRIGGER IF EXISTS {NAME}",
        f"CREATE TRIGGER {NAME} BEFORE UPDATE ON {TABLE} "
        "BEGIN SELECT raise(ABORT, 'events are append-only: UPDATE on es_django_event is refused'); END",
    ),
}
_DROP = {
    "postgresql": (
        f"DROP TRIGGER IF EXISTS {NAME} ON {TABLE}",
        "DROP FUNCTION IF EXISTS es_django_refuse_event_change()",
    ),
    "sqlite": (f"DROP TRIGGER IF EXISTS {NAME}",),
}

# 27 stands for BEFORE UPDATE OR DELETE, FOR EACH ROW.
_STATE = {
    "postgresql": """
        SELECT tgenabled IN ('O', 'A'), tgtype = 27 AND tgqual IS NULL AND tgattr::text = '', prosrc
          FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
         WHERE tgrelid = CAST('es_django_event' AS regclass) AND tgname = 'es_django_event_append_only'
    """,
    "sqlite": """
        SELECT 1, 1, sql FROM sqlite_master
         WHERE type = 'trigger' AND tbl_name = 'es_django_event' AND name = 'es_django_event_append_only'
    """,
}
_SOURCE = {"postgresql": _BODY, "sqlite": _CREATE["sqlite"][-1]}


def trigger_problem(connection: BaseDatabaseWrapper) -> str:
    """Return what is wrong with the trigger, or an empty text. The table of events must exist."""
    with connection.cursor() as cursor:
        cursor.execute(_STATE[connection.vendor])
        found = cursor.fetchone()
    if found is None:
        return f"{TABLE} has no trigger {NAME}: events can be changed"
    is_enabled, has_scope, source = found
    if not is_enabled:
        return f"trigger {NAME} on {TABLE} is disabled: events can be changed"
    if not has_scope or source.split() != _SOURCE[connection.vendor].split():
        return f"trigger {NAME} on {TABLE} is not the one of es_django: events may be changed"
    return ""


def create_trigger(connection: BaseDatabaseWrapper) -> None:
    _execute(connection, _CREATE)


def drop_trigger(connection: BaseDatabaseWrapper) -> None:
    _execute(connection, _DROP)


def restore_trigger(connection: BaseDatabaseWrapper) -> bool:
    """Create the trigger if the table of events exists and its trigger is missing, disabled or changed.

    Return whether the trigger was created.
    """
    if connection.vendor not in _CREATE or TABLE not in connection.introspection.table_names():
        return False
    if not trigger_problem(connection):
        return False
    create_trigger(connection)
    return True


def _execute(connection: BaseDatabaseWrapper, statements: dict[str, tuple[str, ...]]) -> None:
    cursor: CursorWrapper
    with connection.cursor() as cursor:
        for statement in statements[connection.vendor]:
            cursor.execute(statement)
