"""``/chat/runs``: a turn by its id: its state, its stream again, its end."""
