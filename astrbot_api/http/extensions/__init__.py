"""What plugins answer over HTTP."""
