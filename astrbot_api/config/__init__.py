"""Settings, agent configs and the other files of the data directory."""
