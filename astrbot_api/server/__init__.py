"""What runs the application: gunicorn's configuration, drain, and ``serve``.

Nothing here is needed to use the blueprints in a server of one's own.
"""
