"""The product's settings, for tests: a database and files of their own, quick passwords."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

_folder = tempfile.mkdtemp(prefix="berth-tests-")
atexit.register(shutil.rmtree, _folder, ignore_errors=True)
os.environ["BERTH_DATA_DIR"] = _folder
os.environ.setdefault("BERTH_SECRET_KEY", "only for tests")
for _name in ("BERTH_SECRET_KEY_FILE", "BERTH_SIGNING_KEY_FILE", "BERTH_BASE_URL", "BERTH_GATEWAY_URL"):
    os.environ.pop(_name, None)

from vps.settings import *  # noqa: E402, F403  the environment must be set first

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
STORAGES["staticfiles"] = {  # noqa: F405
    "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage",
}
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = True
