"""Tokens of build machines: what they can, what they cannot, when they end; with real curl over a real socket."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Membership, Role, User
from accounts.models.quota import sums
from tests.kernels import netbsd
from tests.web.conftest import Browser, Cast, make_version
from vps import tasks
from vps.models import Event, KernelVersion, Upload, UploadToken

CONTENT = netbsd()
SUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def staging(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings.BERTH_STAGING_DIR = tmp_path / "staging"
    monkeypatch.setattr(tasks.inspect_version, "ring", lambda version: True)
    return settings.BERTH_STAGING_DIR


@pytest.fixture
def secret(cast: Cast, version: KernelVersion) -> str:
    return UploadToken.make(version.kernel, cast.developer, "ci", 30)[1]


def send(version: KernelVersion, secret: str, content: bytes = CONTENT, **more: Any) -> Any:
    query = more.pop("query", {"sha256": hashlib.sha256(content).hexdigest(), "filename": "netbsd.gz"})
    address = reverse("api_kernel_versions", args=[version.kernel_id])
    headers = {"Authorization": f"Bearer {secret}"} | more.pop("headers", {})
    url = f"{address}?{'&'.join(f'{k}={v}' for k, v in query.items())}"
    strict = Client(enforce_csrf_checks=True)
    return strict.generic(more.pop("method", "PUT"), url, content, headers=headers, **more)


@pytest.mark.django_db
def test_a_build_machine_uploads(cast: Cast, version: KernelVersion, secret: str) -> None:
    answer = send(version, secret)
    assert answer.status_code == 201, answer.content
    told = answer.json()
    made = KernelVersion.objects.get(kernel=version.kernel, number=2)
    assert (told["version"], told["state"]) == ("generic 2", "inspecting")
    assert (made.filename, made.uploaded_by) == ("netbsd.gz", cast.developer)
    tasks.inspect_version(str(made.pk))
    verdict = Client().get(told["verdict"], headers={"Authorization": f"Bearer {secret}"}).json()
    assert (verdict["state"], verdict["paths"]["pvgrub"]) == ("ok", "ok")
    token = UploadToken.objects.get()
    assert token.last_used_at is not None
    assert (
        secret not in token.secret_sha256
        and token.secret_sha256 == hashlib.sha256(secret.encode()).hexdigest()
    )


@pytest.mark.django_db
def test_bad_inputs_are_answered_with_sentences(
    cast: Cast, version: KernelVersion, secret: str, staging: Path, settings: Any
) -> None:
    before = sums(cast.tenant)["kernel_bytes"]["used"]
    other = make_version(cast.tenant, "other")
    right = {"sha256": SUM}
    cases: list[tuple[Any, int, str]] = [
        (send(version, secret, method="GET"), 405, "Send the file with PUT"),
        (send(version, "berth_wrong"), 401, "not known"),
        (send(version, "", headers={"Authorization": "Basic x"}), 401, "not known"),
        (send(other, secret), 404, "for another kernel"),
        (send(version, secret, query={}), 400, "Add ?sha256="),
        (send(version, secret, query={"sha256": "abc"}), 400, "64 hexadecimal digits"),
        (send(version, secret, CONTENT_LENGTH=""), 411, "Content-Length"),
        (send(version, secret, CONTENT_LENGTH="-5"), 411, "Content-Length"),
        (send(version, secret, b"", query=right, CONTENT_LENGTH="0"), 422, "is empty"),
        (send(version, secret, CONTENT_LENGTH=str(257 << 20)), 413, "the limit is 256 MiB"),
        (send(version, secret, query={"sha256": "0" * 64}), 422, "not the announced 000"),
    ]
    for answer, status, words in cases:
        assert (answer.status_code, answer["Content-Type"]) == (status, "application/json"), words
        assert words in answer.json()["error"]
    assert KernelVersion.objects.filter(kernel=version.kernel).count() == 1, "nothing became a version"
    assert sums(cast.tenant)["kernel_bytes"]["used"] == before
    assert not staging.exists() or not list(staging.iterdir())
    settings.BERTH_KERNEL_LIMIT = 4 << 30
    huge = send(version, secret, CONTENT_LENGTH=str(3 << 30))
    assert (huge.status_code, "is left" in huge.json()["error"]) == (422, True), (
        "quota, before a byte is taken"
    )


@pytest.mark.django_db
def test_a_token_can_do_nothing_else(cast: Cast, version: KernelVersion, secret: str) -> None:
    bearer = {"Authorization": f"Bearer {secret}"}
    for name, args in (("kernels", []), ("kernel", [version.kernel_id]), ("kernel_version", [version.pk])):
        assert Client().get(reverse(name, args=args), headers=bearer).status_code == 302, "to the log-in"
    assert Client().get(reverse("agent_blob", args=[version.original_id]), headers=bearer).status_code == 401
    theirs = make_version(cast.other, "theirs")
    verdict = reverse("api_kernel_verdict", args=[theirs.pk])
    assert Client().get(verdict, headers=bearer).status_code == 404
    assert Client().get(reverse("api_kernel_verdict", args=[version.pk])).status_code == 401
    assert Client().post(reverse("api_kernel_verdict", args=[version.pk])).status_code == 405


@pytest.mark.django_db
@pytest.mark.parametrize("how", ["left", "viewer", "inactive", "expired", "revoked"])
def test_when_it_ends(cast: Cast, version: KernelVersion, secret: str, how: str) -> None:
    member = Membership.objects.get(user=cast.developer)
    if how == "left":
        member.delete()
    elif how == "viewer":
        Membership.objects.filter(pk=member.pk).update(role=Role.VIEWER)
    elif how == "inactive":
        User.objects.filter(pk=cast.developer.pk).update(is_active=False)
    elif how == "expired":
        UploadToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    else:
        UploadToken.objects.get().revoke(cast.owner)
    assert send(version, secret).status_code == 401
    assert not Upload.objects.exists()
    assert UploadToken.objects.get().last_used_at is None


@pytest.mark.django_db
def test_so_many_in_an_hour(version: KernelVersion, secret: str, settings: Any) -> None:
    settings.BERTH_TOKEN_UPLOADS = 2
    assert [send(version, secret).status_code for _ in range(3)] == [201, 201, 429]
    assert int(send(version, secret)["Retry-After"]) > 3000
    Upload.objects.update(created_at=timezone.now() - timedelta(minutes=61))
    assert send(version, secret).status_code == 201


@pytest.mark.django_db
def test_the_pages(cast: Cast, version: KernelVersion, browser: Browser) -> None:
    make = reverse("kernel_token", args=[version.kernel_id])
    answer = browser(cast.developer).post(make, {"name": "ci <1>", "days": "30"})
    text = answer.content.decode()
    token = UploadToken.objects.get()
    secret = text.split("TOKEN=")[1].split("\n")[0]
    assert answer["Cache-Control"] == "no-store"
    assert "curl -T vmlinuz" in text and f"/api/kernels/{version.kernel_id}/versions?" in text
    assert UploadToken.of_secret(secret) == token
    page = browser(cast.owner).get(reverse("kernel", args=[version.kernel_id])).content.decode()
    assert "ci &lt;1&gt;" in page and secret not in page
    assert (
        "ci &lt;1&gt;"
        not in browser(cast.viewer).get(reverse("kernel", args=[version.kernel_id])).content.decode()
    )
    wrong = browser(cast.developer).post(make, {"name": "", "days": "9999"})
    assert wrong.status_code == 422 and "Select a valid choice" in wrong.content.decode()
    revoke = reverse("kernel_token_revoke", args=[token.pk])
    assert browser(cast.stranger).post(revoke).status_code == 404
    assert browser(cast.viewer).post(revoke).status_code == 403
    for _ in range(2):
        assert browser(cast.admin).post(revoke).status_code == 302
    assert UploadToken.of_secret(secret) is None
    kinds = Event.objects.filter(kind__startswith="token.").order_by("id").values_list("kind", "actor__name")
    assert list(kinds) == [("token.made", "Developer"), ("token.revoked", "Admin")]


@pytest.mark.django_db
def test_not_too_many_tokens(
    cast: Cast, version: KernelVersion, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vps.models.upload_token.MAX_LIVE", 1)
    make = reverse("kernel_token", args=[version.kernel_id])
    codes = [browser(cast.owner).post(make, {"name": "a", "days": "7"}).status_code for _ in range(2)]
    assert codes == [200, 409]


@pytest.mark.django_db(transaction=True)
def test_with_real_curl(cast: Cast, version: KernelVersion, live_server: Any, tmp_path: Path) -> None:
    _, secret = UploadToken.make(version.kernel, cast.developer, "ci", 30)
    file = tmp_path / "netbsd"
    file.write_bytes(CONTENT)
    address = f"{live_server.url}/api/kernels/{version.kernel_id}/versions?filename=netbsd&sha256="

    def curl(*words: str) -> dict[str, Any]:
        argv = ["curl", "-sS", "-m", "60", "-H", f"Authorization: Bearer {secret}", *words]
        done = subprocess.run(argv, capture_output=True, timeout=90, check=True, cwd=tmp_path)
        return json.loads(done.stdout)

    told = curl("-T", "netbsd", address + SUM)
    assert told["version"] == "generic 2"
    assert "not the announced" in curl("-T", "netbsd", address + "1" * 64)["error"]
    assert "Content-Length" in curl("-T", "-", "-H", "Transfer-Encoding: chunked", address + SUM)["error"]
    assert b"broke off" in _half(live_server.url, f"{address}{SUM}", secret)
    assert KernelVersion.objects.filter(kernel=version.kernel).count() == 2
    assert not Upload.objects.filter(state="open").exists()


def _half(server: str, address: str, secret: str) -> bytes:
    """Send the half of what was announced; gives the answer."""
    host, _, port = server.removeprefix("http://").partition(":")
    head = (
        f"PUT {address.removeprefix(server)} HTTP/1.0\r\nHost: {host}\r\nContent-Length: {len(CONTENT)}\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=60) as line:
        line.sendall(f"{head}Authorization: Bearer {secret}\r\n\r\n".encode() + CONTENT[: len(CONTENT) // 2])
        line.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: line.recv(65536), b""))
