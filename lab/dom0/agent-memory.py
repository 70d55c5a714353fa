"""Print number, PSS and RSS (KiB) of the agent's processes; read by lab/dom0_agent.py, run in dom0."""

import re
from pathlib import Path

root = int(Path("/run/berth-agent.pid").read_text())
parents = {}
for stat in Path("/proc").glob("[0-9]*/stat"):
    try:
        parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        continue
mine, grown = {root}, True
while grown:
    more = {pid for pid, parent in parents.items() if parent in mine} - mine
    mine |= more
    grown = bool(more)
pss = rss = count = 0
for pid in mine:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        continue
    count += 1
    pss += int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])
    rss += int(re.search(r"^Rss:\s+(\d+)", text, re.M)[1])
print(count, pss, rss)
