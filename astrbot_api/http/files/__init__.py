"""``/file`` and ``/files``: attachments."""
