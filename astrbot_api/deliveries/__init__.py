"""Outgoing requests that the server starts itself: deliveries, webhooks, signatures."""
