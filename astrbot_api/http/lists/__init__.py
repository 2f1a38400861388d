"""Read-only lists that newer versions of AstrBot have, and clients with keys call."""
