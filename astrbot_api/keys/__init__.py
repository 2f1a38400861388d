"""API keys: rules, limits, rates and usage, and the caller that holds a key."""
