"""Every address. Who gets what at each stands in tests/web/test_access_table.py."""

from __future__ import annotations

from django.contrib.auth import views as auth
from django.urls import include, path

from vps.views import (
    agent,
    boot,
    boot_try,
    console,
    direct_approval,
    dom0,
    domu,
    event,
    health,
    home,
    kept,
    kernel,
    operation,
    quota,
    sample,
    search,
    size,
    stuck,
)
from vps.views import request as requests

urlpatterns = [
    path("", include("accounts.urls")),
    path("", home.home, name="home"),
    path("today/", home.today, name="today"),
    path("stuck/", stuck.stuck_page, name="stuck"),
    path("stuck/operations/<uuid:pk>/<slug:do>/", stuck.stuck_operation, name="stuck_operation"),
    path("stuck/servers/<uuid:pk>/<slug:do>/", stuck.stuck_server, name="stuck_server"),
    path("log-in/", auth.LoginView.as_view(template_name="accounts/login.html"), name="login"),
    path("log-out/", auth.LogoutView.as_view(), name="logout"),
    # Requests
    path("ask/", requests.ask, name="ask"),
    path("requests/", requests.requests, name="requests"),
    path("requests/<uuid:pk>/", requests.one, name="request"),
    path("requests/<uuid:pk>/approve/", requests.approve, name="request_approve"),
    path("requests/<uuid:pk>/refuse/", requests.refuse, name="request_refuse"),
    path("requests/<uuid:pk>/withdraw/", requests.withdraw, name="request_withdraw"),
    # Quota
    path("quota/default/", quota.quota_default, name="quota_default"),
    path("quota/<uuid:pk>/", quota.quota, name="quota"),
    path("quota/<uuid:pk>/ask/", quota.quota_ask, name="quota_ask"),
    path("quota/<uuid:pk>/limits/", quota.quota_limits, name="quota_limits"),
    path("quota/<uuid:pk>/of/<slug:resource>/", quota.quota_entries, name="quota_entries"),
    # Servers
    path("servers/", domu.servers, name="servers"),
    path("servers/<uuid:pk>/", domu.server, name="server"),
    path("servers/<uuid:pk>/boot/", boot.boot, name="boot"),
    path("servers/<uuid:pk>/try/<int:serial>/", boot_try.try_menu, name="boot_try"),
    path("servers/<uuid:pk>/well/", boot_try.say_well, name="boot_well"),
    path("servers/<uuid:pk>/menus/<int:serial>/use/", boot_try.make_default, name="boot_use"),
    path("servers/<uuid:pk>/configuration/", domu.configuration, name="server_configuration"),
    path("servers/<uuid:pk>/samples/", sample.server_samples, name="server_samples"),
    path("servers/<uuid:pk>/destroy/", domu.destroy, name="server_destroy"),
    path("servers/<uuid:pk>/resize/", size.server_resize, name="server_resize"),
    path("servers/<uuid:pk>/delete/", kept.delete, name="server_delete"),
    path("servers/<uuid:pk>/undelete/", kept.undelete, name="server_undelete"),
    path("servers/<uuid:pk>/purge/", kept.purge, name="server_purge"),
    path("servers/<uuid:pk>/do/<slug:verb>/", domu.do, name="server_do"),
    path("servers/<uuid:pk>/console/", console.console, name="console"),
    path("servers/<uuid:pk>/console/ticket/", console.console_ticket, name="console_ticket"),
    # Kernels
    path("kernels/", kernel.kernels, name="kernels"),
    path("kernels/uploads/", kernel.kernel_upload, name="kernel_upload"),
    path("kernels/uploads/<uuid:pk>/", kernel.kernel_upload_piece, name="kernel_upload_piece"),
    path("kernels/versions/<uuid:pk>/", kernel.kernel_version, name="kernel_version"),
    path("kernels/versions/<uuid:pk>/parts/", kernel.kernel_parts, name="kernel_parts"),
    path("kernels/versions/<uuid:pk>/direct/", direct_approval.direct_ask, name="direct_ask"),
    path("direct/<uuid:pk>/", direct_approval.direct_approval, name="direct_approval"),
    path("direct/<uuid:pk>/decide/", direct_approval.direct_decide, name="direct_decide"),
    path("direct/<uuid:pk>/revoke/", direct_approval.direct_revoke, name="direct_revoke"),
    path("kernels/versions/<uuid:pk>/delete/", kernel.kernel_version_delete, name="kernel_version_delete"),
    path("kernels/<uuid:pk>/", kernel.kernel, name="kernel"),
    path("kernels/<uuid:pk>/catalogue/", kernel.kernel_catalogue, name="kernel_catalogue"),
    # What was done, what happened
    path("operations/", operation.operations, name="operations"),
    path("operations/<uuid:pk>/", operation.operation, name="operation"),
    path("operations/<uuid:pk>/cancel/", operation.cancel, name="operation_cancel"),
    path("events/", event.events, name="events"),
    path("events/export.<slug:form>", event.export, name="events_export"),
    path("search/", search.search, name="search"),
    # Hosts
    path("dom0s/", dom0.dom0s, name="dom0s"),
    path("dom0s/enrol/", dom0.enrol_dom0, name="dom0_enrol"),
    path("dom0s/<uuid:pk>/", dom0.dom0, name="dom0"),
    path("dom0s/<uuid:pk>/samples/", sample.dom0_samples, name="dom0_samples"),
    path("dom0s/<uuid:pk>/domains/<uuid:uuid>/<slug:do>/", stuck.dom0_domain, name="dom0_domain"),
    path("dom0s/<uuid:pk>/look/", dom0.look, name="dom0_look"),
    path("dom0s/<uuid:pk>/accept/", dom0.accept, name="dom0_accept"),
    path("dom0s/<uuid:pk>/credential/", dom0.credential, name="dom0_credential"),
    # For machines
    path("agent/blobs/<slug:sha256>", agent.blob, name="agent_blob"),
    path("well/<str:key>/", boot_try.well, name="well"),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
]
