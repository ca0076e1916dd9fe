"""Health, lag, metrics, traces and probes."""
