"""Messages and their formats: CloudEvents, and the signatures of Standard Webhooks."""
