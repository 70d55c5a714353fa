// The boot menu: a preview while one types, entries that can be dragged. Everything also works by its buttons.
"use strict";
(function () {
  let timer = 0;
  let edits = 0;
  const sentAt = new WeakMap(); // request -> how many edits there were when it was sent

  const editor = () => document.getElementById("editor");
  let listening = true; // htmx hears a new form only some milliseconds after it was put in
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.target.id === "editor") listening = false;
  });
  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.target.id === "editor") listening = true;
  });

  function preview() {
    if (!window.htmx) return;
    if (listening) htmx.trigger(editor(), "preview");
    else later(30);
  }

  function later(milliseconds) {
    clearTimeout(timer);
    timer = setTimeout(preview, milliseconds);
  }

  document.addEventListener("input", (event) => {
    if (event.target.closest("#editor")) edits += 1;
    if (event.target.closest("#editor input[type=text], #editor input[type=number]")) later(600);
  });
  document.addEventListener("change", (event) => {
    if (event.target.closest("#editor select, #editor input[type=radio]")) later(0);
  });

  // An answer that is older than what was typed meanwhile takes nothing away; the next one comes at once.
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target.id === "editor") sentAt.set(event.detail.xhr, edits);
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target.id !== "editor") return;
    const command = event.detail.requestConfig.parameters.do;
    if (dragged || (!command && sentAt.get(event.detail.xhr) !== edits)) event.detail.shouldSwap = false;
  });

  // Up, Down, Remove, Add and Preview look without a new page; Save sends the form as it is.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("#editor button[data-look]");
    if (!button || !window.htmx) return;
    event.preventDefault();
    clearTimeout(timer);
    htmx.ajax("POST", editor().action, {
      source: editor(),
      target: "#editor",
      swap: "outerHTML",
      values: { do: button.value },
    });
  });

  let dragged = null;
  document.addEventListener("pointerdown", (event) => {
    for (const row of document.querySelectorAll("#editor [data-row]")) {
      // By its bar only, so that text in fields can still be selected.
      row.draggable = Boolean(event.target.closest(".row-bar")) && row.contains(event.target);
    }
  });
  document.addEventListener("dragstart", (event) => {
    dragged = event.target.closest && event.target.closest("[data-row]");
    if (dragged) {
      event.dataTransfer.effectAllowed = "move";
      dragged.classList.add("dragged");
    }
  });
  document.addEventListener("dragover", (event) => {
    const row = dragged && event.target.closest && event.target.closest("[data-row]");
    if (!row) return;
    event.preventDefault();
    if (row === dragged) return;
    const box = row.getBoundingClientRect();
    row.parentNode.insertBefore(dragged, event.clientY > box.top + box.height / 2 ? row.nextSibling : row);
  });
  document.addEventListener("drop", (event) => dragged && event.preventDefault());
  document.addEventListener("dragend", () => {
    if (!dragged) return;
    dragged.classList.remove("dragged");
    dragged = null;
    preview();
  });
})();
