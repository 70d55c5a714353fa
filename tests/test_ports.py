from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from vps.quickstart import ports


def test_a_free_port_is_taken_and_listens() -> None:
    with ports.listen(0) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
        assert listener.getsockname()[0] == "127.0.0.1"
        assert not ports.is_free(port)
    assert ports.is_free(port)


def test_a_busy_port_is_named_with_its_holder_and_the_cure() -> None:
    with ports.listen(0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ports.PortBusy) as refused:
            ports.listen(port, "Take another: make run PORT=8010")
    words = str(refused.value)
    assert words.startswith(f"Port {port} is taken by process {os.getpid()} (")
    assert words.endswith("Take another: make run PORT=8010")


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_somebody_on_the_other_loopback_counts_too() -> None:
    """Browsers try ::1 first for localhost."""
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            other.bind(("::1", 0))
        except OSError:
            pytest.skip("no ::1 on this machine")
        other.listen(1)
        port = other.getsockname()[1]
        with pytest.raises(ports.PortBusy, match=f"Port {port} is taken by process {os.getpid()}"):
            ports.listen(port)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may take it")
def test_a_reserved_port_is_said_to_be_so() -> None:
    with pytest.raises(ports.PortBusy, match="Port 81 is reserved for root; take one from 1024 on"):
        ports.listen(81)


def test_without_proc_the_holder_is_another_program(tmp_path: Path) -> None:
    assert ports.holder(1, proc=tmp_path) is None
