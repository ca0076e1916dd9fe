"""The event store: the port, its backends in memory, PostgreSQL and SQLite, and snapshots."""
