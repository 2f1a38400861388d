"""Wake-ups between workers and hosts."""
