"""Client for an AstrBot that answers turns instead of a model, through its HTTP API."""
