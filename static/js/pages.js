// Small things on every page. Without this file everything still works by reloading.
"use strict";
(function () {
  const ORDER = ["auto", "light", "dark"];

  function themeSwitch() {
    const button = document.getElementById("theme");
    if (!button) return;
    const say = () => {
      const now = document.documentElement.dataset.theme || "auto";
      button.title = button.dataset[now];
      button.querySelector("span").textContent = button.dataset[now];
    };
    button.addEventListener("click", () => {
      const now = document.documentElement.dataset.theme || "auto";
      const next = ORDER[(ORDER.indexOf(now) + 1) % ORDER.length];
      if (next === "auto") delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = next;
      try {
        if (next === "auto") localStorage.removeItem("theme");
        else localStorage.setItem("theme", next);
      } catch (error) {
        // No storage: it holds for this page.
      }
      say();
    });
    button.hidden = false;
    say();
  }

  // A menu closes on Escape and on a click elsewhere.
  function menus() {
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      for (const menu of document.querySelectorAll("details.menu[open]")) {
        menu.open = false;
        menu.querySelector("summary").focus();
      }
    });
    document.addEventListener("click", (event) => {
      for (const menu of document.querySelectorAll("details.menu[open]")) {
        if (!menu.contains(event.target)) menu.open = false;
      }
    });
  }

  // What is being read or used is not taken away by a poll.
  function busy(part) {
    if (part.querySelector("details.menu[open]")) return true;
    const selection = document.getSelection();
    return Boolean(selection && !selection.isCollapsed && part.contains(selection.anchorNode));
  }

  function polling() {
    const stale = document.getElementById("stale");
    const isPoll = (event) => event.target instanceof Element && event.target.hasAttribute("data-poll");
    document.addEventListener("htmx:beforeRequest", (event) => {
      if (isPoll(event) && (document.hidden || busy(event.target))) event.preventDefault();
    });
    document.addEventListener("htmx:beforeSwap", (event) => {
      if (!isPoll(event)) return;
      const asked = new URL(event.detail.pathInfo.finalRequestPath, location.href);
      const came = new URL(event.detail.xhr.responseURL || asked, location.href);
      if (asked.pathname !== came.pathname) {
        // Logged out meanwhile: the whole page says so.
        event.detail.shouldSwap = false;
        location.reload();
        return;
      }
      if (busy(event.target)) event.detail.shouldSwap = false;
      else keepOpen(event.target);
    });
    for (const name of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
      document.addEventListener(name, () => {
        if (stale) stale.hidden = false;
      });
    }
    document.addEventListener("htmx:afterOnLoad", () => {
      if (stale) stale.hidden = true;
    });
  }

  // Sections that were opened stay open over a poll; they have ids.
  function keepOpen(part) {
    const open = [...part.querySelectorAll("details[open][id]")].map((section) => section.id);
    if (!open.length) return;
    document.addEventListener(
      "htmx:afterSettle",
      () => {
        for (const id of open) {
          const section = document.getElementById(id);
          if (section) section.open = true;
        }
      },
      { once: true },
    );
  }

  // <button data-copy="id">: the text of the element with that id.
  function copying() {
    document.addEventListener("click", (event) => {
      const button = event.target.closest && event.target.closest("button[data-copy]");
      if (!button) return;
      const text = document.getElementById(button.dataset.copy).textContent;
      navigator.clipboard.writeText(text).then(() => {
        const before = button.textContent;
        button.textContent = button.dataset.done;
        setTimeout(() => {
          button.textContent = before;
        }, 1500);
      });
    });
    if (navigator.clipboard) {
      for (const button of document.querySelectorAll("button[data-copy]")) button.hidden = false;
    }
  }

  // A form is sent once, however often its button is clicked.
  function once() {
    document.addEventListener("submit", (event) => {
      const form = event.target;
      if (form.method !== "post" || form.hasAttribute("hx-post")) return;
      if (form.dataset.sent) event.preventDefault();
      else form.dataset.sent = "yes";
    });
    window.addEventListener("pageshow", () => {
      for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
    });
  }

  themeSwitch();
  menus();
  polling();
  copying();
  once();
})();
