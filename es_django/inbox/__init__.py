"""The inbox: handlers, receipts, and the HTTP ingress."""
