"""``/keys``: the limits of the caller's key, and session keys."""
