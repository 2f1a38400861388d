"""API keys: rules, limits, rates, usage and the caller they make."""
