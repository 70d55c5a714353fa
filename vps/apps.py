"""The Django application of the web side."""

from __future__ import annotations

from django.apps import AppConfig


class VpsConfig(AppConfig):
    name = "vps"
    verbose_name = "Berth"

    def ready(self) -> None:
        from vps import celery  # noqa: F401  the app that accounts' tasks are rung by
