"""What each order does: one short function for each verb, over a Job. They run in the domU's lane, or the dom0's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vps.agent.context import Job
from vps.agent.trials import trial
from vps.agent.verbs.arm import arm
from vps.agent.verbs.delete import delete
from vps.agent.verbs.destroy import destroy
from vps.agent.verbs.look import look
from vps.agent.verbs.pause import pause, unpause
from vps.agent.verbs.prepare import prepare
from vps.agent.verbs.reboot import reboot
from vps.agent.verbs.shutdown import shutdown
from vps.agent.verbs.start import start
from vps.agent.verbs.try_once import try_once
from vps.xen.messages import Verb

# Each gives the order's `result`; raises VerbFailed, Aborted, OSError.
VERBS: dict[Verb, Callable[[Job], dict[str, Any]]] = {
    Verb.PREPARE: prepare,
    Verb.START: start,
    Verb.SHUTDOWN: shutdown,
    Verb.REBOOT: reboot,
    Verb.DESTROY: destroy,
    Verb.PAUSE: pause,
    Verb.UNPAUSE: unpause,
    Verb.DELETE: delete,
    Verb.LOOK: look,
    Verb.TRY: try_once,
    Verb.TRIAL: trial,
    Verb.ARM: arm,
}

# What stays when an order is cancelled or superseded while it runs.
REMAINS: dict[Verb, str] = {
    Verb.PREPARE: "What was made so far stays, and the next preparation uses it. What was ready before still is.",
    Verb.START: "No domain was made. What was prepared stays.",
    Verb.SHUTDOWN: "The guest may have been asked to shut down already, and may still do so.",
    Verb.REBOOT: "The guest may have been asked to reboot already; it is built anew when it does.",
    Verb.DESTROY: "The domain may be gone already.",
    Verb.TRY: "The guest may have been asked to shut down already. Its default entry boots next.",
    Verb.TRIAL: "Nothing of the trial is left.",
    Verb.ARM: "The next boot is what it was.",
    Verb.DELETE: "Some of its disks may be wiped already; only deleting can follow.",
}
