"""``/keys``: what a key may do, and keys made with a key."""
