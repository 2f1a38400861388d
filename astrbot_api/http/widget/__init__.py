"""The chat widget: a script for pages of any site."""
