// Before anything is drawn: the colours that were chosen with the switch.
"use strict";
(function () {
  try {
    const chosen = localStorage.getItem("theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch (error) {
    // No storage: the system's setting holds.
  }
})();
