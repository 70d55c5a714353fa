"""The quick start with stand-ins for its children: `driver.py '{"web": "serve", ...}' OPTIONS`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from vps.quickstart import __main__ as quickstart
from vps.quickstart import supervisor
from vps.quickstart.supervisor import Child

STAND_IN = str(Path(__file__).with_name("stand_in.py"))


def main() -> int:
    wanted = {"web": "serve", "gateway": "serve", "agent": "agent"} | json.loads(sys.argv[1])
    for name, value in wanted.pop("constants", {}).items():
        setattr(supervisor if hasattr(supervisor, name) else quickstart, name, value)

    def product(start: quickstart.Start) -> tuple[list[Child], list[Child]]:
        python, web = sys.executable, start.web.fileno()
        gateway = start.gateway.fileno()
        ours = quickstart.web_environment(start)
        at_once = [
            Child("web", (python, STAND_IN, wanted["web"], str(web)), ours, (web,)),
            Child("gateway", (python, STAND_IN, wanted["gateway"], str(gateway)), ours, (gateway,)),
            Child("agent", (python, STAND_IN, wanted["agent"]), quickstart.environment(start)),
        ]
        return at_once, [Child("worker", (python, STAND_IN, "idle"), ours)]

    quickstart.product = product  # type: ignore[assignment]
    quickstart.prepare = lambda start: None  # type: ignore[assignment]
    return quickstart.main(sys.argv[2:])


sys.exit(main())
