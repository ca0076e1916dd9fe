"""The SQL of the outbox, one module for each database."""
