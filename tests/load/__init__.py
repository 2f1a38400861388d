"""Fault tests under load: ``make torture``."""
