// Upload by pieces: each goes to its offset, a broken connection goes on where the server says it stands.
"use strict";
for (const form of document.querySelectorAll("form.upload")) (() => {
  const input = form.querySelector(".drop input[type=file]");
  const drop = form.querySelector(".drop");
  const progress = form.querySelector(".upload-progress");
  const bar = progress.querySelector("progress");
  const figures = form.querySelector(".upload-figures");
  const problem = form.querySelector(".upload-error");
  // Sentences come with the page, where gettext had them; {name} in them is put in here.
  const words = (name, put = {}) => progress.dataset[name].replace(/\{(\w+)\}/g, (all, key) => put[key] ?? all);
  const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
  let running = null;

  const size = (n) => {
    for (const unit of ["B", "KiB", "MiB", "GiB"]) {
      if (n < 1024) return `${n < 10 && unit !== "B" ? n.toFixed(1) : Math.round(n)} ${unit}`;
      n /= 1024;
    }
    return `${n.toFixed(1)} TiB`;
  };
  const say = (text) => { problem.firstElementChild.textContent = text; problem.hidden = !text; };
  const onto = form.querySelector("[name=version]")?.value || "";
  const remembered = (file, target) => `upload:${target.part}:${target.version}:${file.name}:${file.size}:${file.lastModified}`;

  class Refused extends Error {}
  async function answer(response) {
    let body = {};
    try { body = await response.json(); } catch { /* an error page of the proxy, say */ }
    if (response.ok || response.status === 409) return body;
    if (response.status >= 500) throw new Error(words("answered", { status: response.status }));
    throw new Refused(body.error || words("refused", { status: response.status }));
  }
  async function begin(file, target) {
    const key = remembered(file, target);
    const known = localStorage.getItem(key);
    if (known) {
      const response = await fetch(known, { headers: { Accept: "application/json" } });
      if (response.ok) {
        const where = await response.json();
        if (where.state === "open" && where.size === file.size) return where;
      }
      localStorage.removeItem(key);
    }
    const body = new FormData(form);
    for (const name of ["file", "ramdisk", "modules"]) body.delete(name);
    body.set("part", target.part);
    if (target.version) body.set("version", target.version);
    body.set("filename", file.name);
    body.set("size", file.size);
    const where = await answer(await fetch(form.action, { method: "POST", body, headers: { "X-CSRFToken": token } }));
    localStorage.setItem(key, where.url);
    return where;
  }
  // XMLHttpRequest, for fetch tells nothing of how far a body has been sent.
  function put(where, piece, sent) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      running.request = request;
      request.open("PUT", where.url);
      request.setRequestHeader("X-CSRFToken", token);
      request.setRequestHeader("Upload-Offset", String(where.offset));
      request.upload.onprogress = (event) => sent(event.loaded);
      request.onload = () => resolve(new Response(request.response, { status: request.status }));
      request.onerror = () => reject(new Error(words("broke")));
      request.onabort = () => reject(new Error("stopped"));
      request.send(piece);
    });
  }
  // The kernel, and behind it what was chosen to stand beside it.
  async function sendAll(file) {
    say("");
    running = { stopped: false, request: null };
    let where = await send(file, { part: form.querySelector("[name=part]")?.value || "kernel", version: onto });
    for (const more of form.querySelectorAll("input[data-part]")) {
      if (where && more.files[0]) await send(more.files[0], { part: more.dataset.part, version: where.version_id });
    }
    if (where && where.version && !running.stopped) window.location.assign(where.version);
  }
  async function send(file, target) {
    progress.hidden = false;
    form.querySelector(".upload-name").textContent = file.name;
    let where = await begin(file, target);
    const began = performance.now();
    const first = where.offset;
    const show = (done) => {
      const seconds = (performance.now() - began) / 1000;
      const speed = seconds > 0.2 ? (done - first) / seconds : 0;
      const left = speed > 0 ? Math.ceil((file.size - done) / speed) : null;
      bar.value = (100 * done) / file.size;
      const told = { done: size(done), all: size(file.size), speed: size(speed), left };
      figures.textContent = words(left === null ? "sofar" : "sofarLeft", told);
    };
    // Each piece is on the disk before it is answered: where the line is quick, few large ones cost less.
    let faults = 0, most = where.piece / 4;
    while (where.offset < file.size) {
      if (running.stopped) return null;
      const start = where.offset, sentAt = performance.now();
      try {
        where = { ...where, ...await answer(await put(where, file.slice(start, start + most), (n) => show(start + n))) };
        if (performance.now() - sentAt < 1000) most = Math.min(2 * most, where.piece);
        faults = 0;
      } catch (error) {
        most = where.piece / 4;
        if (running.stopped || error instanceof Refused || ++faults > 8) throw error;
        figures.textContent = words("again", { why: error.message });
        await new Promise((resolve) => setTimeout(resolve, Math.min(500 * 2 ** faults, 15000)));
        try { where = { ...where, ...await answer(await fetch(where.url)) }; } catch (again) { if (again instanceof Refused) throw again; }
      }
    }
    show(file.size);
    localStorage.removeItem(remembered(file, target));
    return where;
  }
  function take(file) {
    if (!file || (running && !running.stopped)) return;
    if (file.size > Number(form.dataset.limit)) {
      say(words("large", { file: file.name, size: size(file.size), limit: size(Number(form.dataset.limit)) }));
      return;
    }
    const name = form.querySelector("[name=kernel]");
    if (name && !name.value) name.value = file.name.replace(/\.gz$/, "").replace(/[^A-Za-z0-9._-]/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 63);
    sendAll(file).catch((error) => {
      if (!running.stopped) say(error.message);
    }).finally(() => { running.stopped = true; input.value = ""; if (!problem.hidden) progress.hidden = true; });
  }
  input.addEventListener("change", () => take(input.files[0]));
  form.addEventListener("submit", (event) => { event.preventDefault(); take(input.files[0]); });
  for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.remove("over"); });
  drop.addEventListener("drop", (event) => take(event.dataTransfer.files[0]));
  form.querySelector(".upload-stop").addEventListener("click", () => {
    if (!running) return;
    running.stopped = true;
    if (running.request) running.request.abort();
    say(words("stopped"));
    progress.hidden = true;
  });
})();
