"""``POST /chat``: one turn, as a stream of events."""
