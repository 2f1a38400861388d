"""Notifications between workers and hosts."""
