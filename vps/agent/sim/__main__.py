from __future__ import annotations

import sys

from vps.agent.sim.xl import main

if __name__ == "__main__":
    sys.exit(main())
