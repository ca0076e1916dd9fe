"""The event model in pure Python: events, streams, aggregates and their registries."""
