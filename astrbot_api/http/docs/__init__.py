"""``/openapi.json`` and ``/docs``, the interactive documentation."""
