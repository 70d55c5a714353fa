"""A lane for each domU: what concerns one domU is done one thing after the other, by a bounded pool of threads."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from uuid import UUID

logger = logging.getLogger(__name__)

Task = Callable[[], None]


class Lanes:
    """`threads` lanes are worked on at the same time; threads start when they are needed first."""

    def __init__(self, threads: int) -> None:
        self._most = threads
        self._lock = threading.Lock()
        self._ready: deque[UUID] = deque()
        self._wake = threading.Condition(self._lock)
        self._tasks: dict[UUID, deque[tuple[str, Task]]] = {}
        self._threads = 0
        self._idle = 0
        self._closed = False

    def submit(self, lane: UUID, task: Task, key: str = "") -> bool:
        """Put a task at the lane's end. With a `key`, False when such a one waits there already."""
        with self._lock:
            if self._closed:
                return False
            waiting = self._tasks.get(lane)
            if waiting is None:
                self._tasks[lane] = deque([(key, task)])
                self._ready.append(lane)
                if not self._idle and self._threads < self._most:
                    self._threads += 1
                    threading.Thread(target=self._work, name=f"lane-{self._threads}", daemon=True).start()
                self._wake.notify()
            elif key and any(key == other for other, _ in waiting):
                return False
            else:
                waiting.append((key, task))
            return True

    def busy(self, lane: UUID) -> bool:
        """Whether anything runs or waits in a lane."""
        with self._lock:
            return lane in self._tasks

    def close(self) -> None:
        """Begin nothing more; what runs goes on until it looks at its abort event."""
        with self._lock:
            self._closed = True
            self._wake.notify_all()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
                while not self._ready and not self._closed:
                    self._wake.wait()
                self._idle -= 1
                if self._closed:
                    return
                lane = self._ready.popleft()
                _, task = self._tasks[lane].popleft()
            try:
                task()
            except Exception:
                logger.exception("a task in the lane of domU %s failed", lane)
            with self._lock:
                if self._tasks[lane]:
                    self._ready.append(lane)
                    self._wake.notify()
                else:
                    del self._tasks[lane]
