"""The product's settings, without what `collectstatic` must have made before a page is rendered."""

from __future__ import annotations

from vps.settings import *  # noqa: F403

STORAGES["staticfiles"] = {  # noqa: F405
    "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage",
}
