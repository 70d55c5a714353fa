"""Addresses of accounts; vps/urls.py includes them at the root."""

from __future__ import annotations

from django.urls import path

from accounts.views import mail

urlpatterns = [
    path("outbox/", mail.outbox, name="outbox"),
]
