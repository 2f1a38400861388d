"""Faults under load: what ``make torture`` runs."""
