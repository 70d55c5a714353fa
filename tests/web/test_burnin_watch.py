"""What the burn-in reads of a console."""

from __future__ import annotations

import threading
import time

import pytest

from tests.conftest import RedisServer
from tests.web.world import make_dom0, make_domu
from vps.burnin import watch
from vps.xen.messages import Channels

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_dom0_whose_consoles_said_nothing_yet(web_redis: RedisServer) -> None:
    domu = make_domu(make_dom0())
    stream = Channels(domu.dom0_id).console
    with web_redis.client() as redis:
        assert not redis.exists(stream)
        says = threading.Timer(
            0.5, redis.xadd, [stream, {"k": "live", "d": str(domu.pk), "r": "run", "o": 0, "b": b"NetBSD"}]
        )
        says.start()
        assert next(watch(domu, time.monotonic() + 20)) == ("run", b"NetBSD")
        says.join()
