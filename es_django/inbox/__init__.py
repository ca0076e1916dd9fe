"""The inbox: handlers of messages, receipts of handled messages, and the ingress, which receives events over HTTP."""
