"""``/chat/runs``: state, stream, stop and approvals of a run."""
