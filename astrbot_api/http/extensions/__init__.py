"""HTTP routes of plugins."""
