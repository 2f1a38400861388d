"""The chat widget: one script for pages of any site."""
