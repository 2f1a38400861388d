"""The owner's account: login, password and secret key."""
