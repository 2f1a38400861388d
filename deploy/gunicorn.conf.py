from gevent import monkey

monkey.patch_all()  # before anything else is imported

# gunicorn -c deploy/gunicorn.conf.py wsgi:application
#
# The settings and hooks of `astrbot-api serve`. Add your own settings at the end.
# The file is run by its path. Importing astrbot_api here would keep its code in the
# master, and workers would still run the old code after an upgrade and reload (HUP).

import importlib.util
import runpy
from pathlib import Path

_package = importlib.util.find_spec("astrbot_api")
if _package is None or _package.origin is None:
    raise SystemExit("astrbot_api is not installed in this Python: pip install astrbot-api")
globals().update(
    {
        name: value
        for name, value in runpy.run_path(
            str(Path(_package.origin).parent / "server" / "gunicorn_conf.py")
        ).items()
        if not name.startswith("_")
    }
)

# Your own settings:
# bind = ["unix:/run/astrbot-api/http.sock"]
# workers = 4
