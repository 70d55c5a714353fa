"""Every address. Who gets what at each stands in tests/web/test_access_table.py."""

from __future__ import annotations

from django.contrib.auth import views as auth
from django.urls import path

from vps.views import agent, health

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("log-in/", auth.LoginView.as_view(template_name="accounts/login.html"), name="login"),
    path("log-out/", auth.LogoutView.as_view(), name="logout"),
    path("agent/blobs/<slug:sha256>", agent.blob, name="agent_blob"),
]
