"""Lists that newer versions of AstrBot offer to clients with keys."""
