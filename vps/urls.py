"""Every address. Who gets what at each stands in tests/web/test_access_table.py."""

from __future__ import annotations

from django.contrib.auth import views as auth
from django.urls import path

from vps.views import agent, health, kernel

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("log-in/", auth.LoginView.as_view(template_name="accounts/login.html"), name="login"),
    path("log-out/", auth.LogoutView.as_view(), name="logout"),
    path("kernels/", kernel.kernels, name="kernels"),
    path("kernels/uploads/", kernel.kernel_upload, name="kernel_upload"),
    path("kernels/uploads/<uuid:pk>/", kernel.kernel_upload_piece, name="kernel_upload_piece"),
    path("kernels/versions/<uuid:pk>/", kernel.kernel_version, name="kernel_version"),
    path("kernels/versions/<uuid:pk>/delete/", kernel.kernel_version_delete, name="kernel_version_delete"),
    path("kernels/<uuid:pk>/", kernel.kernel, name="kernel"),
    path("kernels/<uuid:pk>/catalogue/", kernel.kernel_catalogue, name="kernel_catalogue"),
    path("agent/blobs/<slug:sha256>", agent.blob, name="agent_blob"),
]
