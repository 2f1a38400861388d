"""An AstrBot that answers in place of a model: turns, files and messengers by its HTTP API."""
