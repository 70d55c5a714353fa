// Keys for operators: j and k in a list or among the dom0s, a approves, c changes, r refuses. Without it: Tab.
"use strict";
(function () {
  const typing = (target) => target.matches("textarea, select, input:not([type=radio])") || target.isContentEditable;

  function step(by) {
    const rows = [...document.querySelectorAll("a[data-row], #approve input[type=radio]")];
    if (!rows.length) return;
    const here = rows.findIndex((row) => row === document.activeElement || row.checked);
    const next = rows[Math.min(rows.length - 1, Math.max(0, here + by))];
    next.focus();
    if (next.type === "radio") next.checked = true;
  }

  function go(selector) {
    const found = document.querySelector(selector);
    if (found) {
      found.focus();
      found.scrollIntoView({ block: "nearest" });
    }
  }

  const KEYS = {
    j: () => step(1),
    k: () => step(-1),
    a: () => go("#approve button"),
    c: () => go("#approve input[type=number]"),
    r: () => go("#refuse textarea"),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    const act = KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
})();
