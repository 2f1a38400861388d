"""What leaves the server by itself: deliveries, webhooks and their signatures."""
