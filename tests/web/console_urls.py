"""The product's addresses, with the console's whether or not vps.urls has them already."""

from __future__ import annotations

from django.urls import path

from vps.urls import urlpatterns as others
from vps.views import console

urlpatterns = [
    *others,
    path("servers/<uuid:pk>/console/", console.console, name="console"),
    path("servers/<uuid:pk>/console/ticket", console.console_ticket, name="console_ticket"),
]
