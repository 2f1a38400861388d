"""``/file`` and ``/files``: the attachments."""
