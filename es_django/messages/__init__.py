"""Messages, their conversion to CloudEvents, and the signatures of Standard Webhooks."""
