"""How Debian's Chromium is started: as root, without a screen, and without calls to anybody."""

from __future__ import annotations

from playwright.sync_api import expect

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Playwright's five seconds are short where something else has the cores; what never comes fails all the same.
expect.set_options(timeout=20_000)
