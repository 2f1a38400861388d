"""Turns: opening, running, finishing and watching them."""
