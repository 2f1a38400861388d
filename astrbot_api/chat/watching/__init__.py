"""Streams, pushed messages and inboxes of this worker."""
