"""`manage.py add_loaders --image`: a loader of another origin, such as a legacy pv-grub, inspected and recorded."""

from __future__ import annotations

import hashlib
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from tests import kernels
from vps.models import Event, Loader

pytestmark = pytest.mark.django_db


def add(image: Path, kind: str, **options: Any) -> str:
    out = StringIO()
    call_command("add_loaders", image=image, kind=kind, stdout=out, **options)
    return out.getvalue()


def test_a_legacy_loader_is_inspected_and_recorded(tmp_path: Path) -> None:
    data = kernels.minios()
    image = tmp_path / "pv-grub-x86_64.gz"
    image.write_bytes(data)
    said = add(image, "pv64", label="pv-grub of Xen 4.15", built="make -C stubdom pv-grub")
    sha256 = hashlib.sha256(data).hexdigest()
    assert said == f"PV, 64 bit pv-grub of Xen 4.15: added, {sha256[:16]}\n"
    loader = Loader.for_kernel(pvh=False, architecture="x86_64", simulated=False)
    assert loader is not None and loader.current
    assert (loader.blob.sha256, loader.version) == (sha256, "pv-grub of Xen 4.15")
    assert loader.build["file"] == "pv-grub-x86_64.gz"
    assert loader.build["built"] == "make -C stubdom pv-grub"
    assert (loader.build["sha256"], loader.build["size"]) == (sha256, len(data))
    assert loader.build["inspected"]
    assert Event.objects.filter(kind="loader.added").count() == 1
    assert "was there already" in add(image, "pv64")
    assert Loader.objects.count() == 1


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        pytest.param(kernels.grub("i386"), "pv64", "is an image for pv32, not for pv64", id="bitness"),
        pytest.param(kernels.grub("pvh"), "pv64", "is an image for pvh, not for pv64", id="PVH"),
        pytest.param(b"no loader", "pv64", "is no loader", id="rubbish"),
    ],
)
def test_what_is_none_or_another_is_refused(tmp_path: Path, data: bytes, kind: str, words: str) -> None:
    image = tmp_path / "image"
    image.write_bytes(data)
    with pytest.raises(CommandError, match=words):
        add(image, kind)
    assert not Loader.objects.exists()


def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be inspected"):
        add(tmp_path / "nothing", "pv64")
