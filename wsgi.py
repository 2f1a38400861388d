"""The WSGI application, for any WSGI server.

``astrbot-api serve`` does not need this file. With gunicorn::

    gunicorn -c deploy/gunicorn.conf.py wsgi:application
"""

from astrbot_api import create_app

application = create_app()
