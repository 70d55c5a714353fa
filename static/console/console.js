// The console's page: bar, strips, dialogs around the terminal.
"use strict";
(function () {
  const { Link, Screen } = window.BerthConsole;
  const byId = (id) => document.getElementById(id);
  const told = (id) => JSON.parse(byId(id).textContent);
  const settings = told("settings");
  const WORDS = told("words");
  const PASTE_LIMIT = 32 * 1024; // bytes
  const csrf = byId("csrf").elements.csrfmiddlewaretoken.value;

  let mayType = false;
  let mode = "watching";
  let replaying = true;
  let ended = false;
  let countdown = 0;

  function words(name, more) {
    return (WORDS[name] || name).replace(/\{(\w+)\}/g, (whole, key) => (more && key in more ? more[key] : whole));
  }

  function size(count) {
    if (count < 1024) return words("bytes", { n: count });
    if (count < 1024 * 1024) return words("kib", { n: Math.round(count / 1024) });
    return words("mib", { n: (count / 1024 / 1024).toFixed(1) });
  }

  // The strip under the bar: one sentence, at most one thing to do about it.
  const note = byId("note");
  let noted = "";
  function say(kind, text, label, action) {
    noted = kind;
    note.hidden = false;
    note.dataset.kind = kind;
    note.querySelector(".text").textContent = text;
    const button = note.querySelector("button");
    const link = note.querySelector("a");
    link.hidden = typeof action !== "string";
    button.hidden = typeof action !== "function";
    if (typeof action === "string") {
      link.href = action;
      link.textContent = label;
    } else if (action) {
      button.textContent = label;
      button.onclick = action;
    }
  }
  function unsay(...kinds) {
    if (kinds.length && !kinds.includes(noted)) return;
    clearInterval(countdown);
    noted = "";
    note.hidden = true;
  }

  const screen = new Screen(byId("terminal"), {
    keys: (bytes, byPerson) => type(bytes, byPerson),
    drew: (count) => link.drew(count),
    link: (address) => askLink(address),
    leave: () => byId("bar").querySelector("button:not([hidden]), a").focus(),
    search: () => search(true),
    paste: () => openPaste(),
    pasted: (text) => pasted(text),
    found: (result) => found(result),
    ignored: () => notTyping(),
  });

  const link = new Link(settings, csrf, {
    connecting: () => {
      clearInterval(countdown);
      if (noted !== "lost") say("connecting", words("connecting"));
    },
    bytes: (bytes) => screen.write(bytes),
    word: (word) => HEAR[word.type] && HEAR[word.type](word),
    closed: () => {
      replaying = true;
      screen.live = false;
      screen.typing(false);
    },
    waiting: (pause, unreachable) => lost(pause, unreachable),
    failed: (why) => failed(why),
  });

  function lost(pause, unreachable) {
    clearInterval(countdown);
    const until = Date.now() + pause;
    const show = () => {
      const left = Math.ceil((until - Date.now()) / 1000);
      const text = left > 1 ? words(unreachable ? "unreachable" : "lost", { n: left }) : words("lost_now");
      say("lost", text, words("now"), () => link.now());
    };
    show();
    countdown = setInterval(show, 1000);
  }

  function failed(why) {
    clearInterval(countdown);
    byId("people").textContent = "";
    if (why === "loggedout") {
      say("failed", words(why), words("login"), "/log-in/?next=" + encodeURIComponent(location.pathname));
    } else if (why === "gone" || why === "rights") {
      say("failed", words(why));
    } else {
      say("failed", words(why), words("again"), () => link.now());
    }
  }

  const HEAR = {
    ready(word) {
      unsay("connecting", "lost", "failed");
      mayType = word.may_type;
      mode = word.mode;
      state(word.state);
      showMode();
    },
    replayed() {
      // What was asked in the record was answered long ago: answers count when it is drawn.
      screen.terminal.write("", () => {
        replaying = false;
        screen.live = true;
      });
    },
    skipped(word) {
      screen.say(words("skipped", { n: size(word.bytes) }));
    },
    run(word) {
      if (word.again) return;
      if (!word.first) {
        screen.clearWay();
        screen.say(words("run") + " " + new Date().toLocaleTimeString());
      }
      alive(); // also the first run of all, which was waited for
    },
    ended(word) {
      screen.settle();
      showEnd(words(word.reason in WORDS ? word.reason : "unknown"), word);
    },
    absent(word) {
      if (!replaying && ended) return;
      screen.settle();
      if (word.reason) showEnd(words(word.reason in WORDS ? word.reason : "unknown"), word);
      else showEnd(words(link.run ? "absent" : "never"), {});
    },
    people(word) {
      showPeople(word.people);
    },
    silent(word) {
      say("silent", word.seconds ? words("silent", { n: word.seconds }) : words("silent_now"));
    },
    heard() {
      unsay("silent");
    },
  };

  // State, people, mode

  function state(name) {
    const template = document.querySelector(`template[data-state="${CSS.escape(name)}"]`);
    const now = byId("state");
    if (!template || now.dataset.state === name) return;
    now.dataset.state = name;
    now.replaceChildren(template.content.cloneNode(true));
  }

  function showPeople(people) {
    const others = people.filter((one) => !one.you);
    const names = others.map((one) => `${one.name} (${words(one.mode)})`);
    const text = names.length ? words("others", { names: names.join(", ") }) : words("alone");
    const place = byId("people");
    place.textContent = text;
    place.title = text;
    place.dataset.count = String(others.length);
    // Of several who type, the first one's terminal answers the guest's questions.
    const typists = people.filter((one) => one.mode === "typing");
    screen.mayAnswer = Boolean(typists.length) && typists[0].you;
  }

  function showMode() {
    const group = byId("mode");
    group.hidden = false;
    for (const button of group.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
      button.disabled = !mayType && button.dataset.mode === "typing";
      button.title = button.disabled ? words("watch_only") : "";
    }
    const typing = mode === "typing";
    screen.typing(typing);
    byId("paste-open").disabled = !typing;
    byId("keys").hidden = !typing || !matchMedia("(pointer: coarse)").matches;
    if (typing && document.activeElement === document.body) screen.terminal.focus();
  }

  for (const button of byId("mode").querySelectorAll("button")) {
    button.addEventListener("click", () => {
      link.say({ type: "mode", mode: button.dataset.mode });
      screen.terminal.focus();
    });
  }

  let control = false;
  function type(bytes, byPerson) {
    if (mode !== "typing") return;
    if (byPerson && control && bytes.length === 1 && bytes[0] >= 63 && bytes[0] < 128) bytes[0] &= 31;
    if (byPerson && control) hold(false);
    link.keys(bytes);
  }

  // What ended, and what can be done

  const end = byId("end");
  function showEnd(what, word) {
    ended = true;
    const parts = [];
    if (word.code !== undefined) parts.push(words("code", { n: word.code }));
    if (word.next === "restart" && word.restart_in) parts.push(words("restart", { n: Math.round(word.restart_in) }));
    else if (word.next === "restart") parts.push(words("restart_now"));
    else if (word.next in WORDS) parts.push(words(word.next));
    end.querySelector(".what").textContent = what;
    end.querySelector(".next").textContent = parts.join(" ");
    byId("start").hidden = !mayType || word.next === "restart" || word.next === "rebuild";
    byId("start").disabled = false;
    end.hidden = false;
    screen.fit();
  }

  function alive() {
    ended = false;
    end.hidden = true;
    unsay("asked");
    screen.fit();
  }

  byId("start").addEventListener("click", async () => {
    byId("start").disabled = true;
    let good = false;
    try {
      const answer = await fetch(settings.start, {
        method: "POST",
        headers: { "X-CSRFToken": csrf },
        credentials: "same-origin",
        redirect: "manual",
      });
      good = answer.ok || answer.type === "opaqueredirect";
    } catch {
      good = false;
    }
    say("asked", words(good ? "starting" : "not_started"));
    byId("start").disabled = good;
  });

  // Search

  const field = byId("search-text");
  function search(open) {
    byId("search").hidden = !open;
    byId("search-open").setAttribute("aria-expanded", String(open));
    if (open) {
      field.value = screen.terminal.getSelection().split("\n")[0].slice(0, 100) || field.value;
      field.select();
      field.focus();
    } else {
      screen.findNothing();
      screen.terminal.focus();
    }
    screen.fit();
  }
  function found(result) {
    const n = result.resultCount;
    byId("search-found").textContent = !field.value
      ? ""
      : n
        ? words("results", { i: Math.max(1, result.resultIndex + 1), n })
        : words("nothing");
  }
  byId("search-open").addEventListener("click", () => search(byId("search").hidden));
  byId("search-close").addEventListener("click", () => search(false));
  byId("search-before").addEventListener("click", () => screen.find(field.value, true));
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    screen.find(field.value, false);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") search(false);
    if (event.key === "Enter" && event.shiftKey) {
      event.preventDefault();
      screen.find(field.value, true);
    }
  });

  // Pasting: one line goes at once, several are asked about.

  const dialog = byId("paste");
  const area = byId("paste-text");
  function problem(text) {
    const place = dialog.querySelector(".problem");
    place.hidden = !text;
    place.textContent = text;
  }
  function tooLong(text) {
    const bytes = new TextEncoder().encode(text).length;
    return bytes > PASTE_LIMIT ? words("paste_long", { n: Math.ceil(bytes / 1024) }) : "";
  }
  let forgetting = 0;
  function notTyping() {
    if (noted && noted !== "watching") return;
    say("watching", words(mayType ? "not_typing" : "watch_only"));
    clearTimeout(forgetting);
    forgetting = setTimeout(() => unsay("watching"), 4000);
  }
  function pasted(text) {
    if (mode !== "typing") {
      notTyping();
    } else if (text && !/[\r\n]/.test(text) && !tooLong(text)) {
      screen.paste(text);
    } else if (text) {
      askPaste(text);
    }
  }
  function askPaste(text) {
    const lines = text.replace(/(\r\n?|\n)$/, "").split(/\r\n?|\n/).length;
    byId("paste-title").textContent = words(lines > 1 || /[\r\n]/.test(text) ? "paste_lines" : "paste_one", { n: lines });
    area.value = text;
    problem(tooLong(text));
    dialog.returnValue = "";
    dialog.showModal();
  }
  async function openPaste() {
    if (mode !== "typing") return pasted("");
    let text = "";
    try {
      text = await navigator.clipboard.readText();
    } catch {
      text = ""; // not allowed: it is put into the field by hand
    }
    askPaste(text);
    area.focus();
  }
  byId("paste-open").addEventListener("click", openPaste);
  area.addEventListener("input", () => problem(tooLong(area.value)));
  dialog.querySelector("form").addEventListener("submit", (event) => {
    if (!event.submitter || event.submitter.value !== "paste") return;
    if (tooLong(area.value)) event.preventDefault();
    else if (area.value && mode === "typing") screen.paste(area.value);
  });
  dialog.addEventListener("close", () => {
    // This comes a moment later, and the next text may have been asked about by then.
    if (dialog.open) return;
    area.value = "";
    screen.terminal.focus();
  });

  // Links of the guest: only http and https, and only after a look at the address.

  function askLink(address) {
    let url;
    try {
      url = new URL(address);
    } catch {
      return;
    }
    if (url.protocol !== "http:" && url.protocol !== "https:") return;
    const ask = byId("link");
    ask.querySelector(".why").textContent = words("link");
    ask.querySelector(".address").textContent = url.href;
    ask.returnValue = "";
    ask.onclose = () => {
      if (ask.returnValue === "open") window.open(url.href, "_blank", "noopener,noreferrer");
      screen.terminal.focus();
    };
    ask.showModal();
  }

  // Size, full screen, reading aloud

  function keep(name, value) {
    try {
      localStorage.setItem("console." + name, value);
    } catch {
      // No storage: it holds for this page.
    }
  }
  function kept(name) {
    try {
      return localStorage.getItem("console." + name);
    } catch {
      return null;
    }
  }
  function showSize() {
    byId("size").querySelector(".shown").textContent = words(screen.fill ? "fixed" : "fill");
    byId("size").setAttribute("aria-pressed", String(screen.fill));
  }
  function tellSize() {
    const { cols, rows } = screen.terminal;
    if (!screen.fill || mode !== "typing" || (cols === 80 && rows === 24)) return;
    const command = () => `stty cols ${screen.terminal.cols} rows ${screen.terminal.rows}`;
    const offer = () => {
      say("tell", words("tell"), words("tell_button", { command: command() }), () => {
        link.keys(new TextEncoder().encode(command() + "\r"));
        unsay("tell");
        screen.terminal.focus();
      });
      screen.fit();
    };
    offer(); // the strip itself takes room
    offer();
  }
  byId("size").addEventListener("click", () => {
    screen.fill = !screen.fill;
    keep("fill", screen.fill ? "yes" : "");
    unsay("tell");
    screen.fit();
    showSize();
    tellSize();
    screen.terminal.focus();
  });
  byId("smaller").addEventListener("click", () => keep("letters", screen.resizeLetters(-1)));
  byId("larger").addEventListener("click", () => keep("letters", screen.resizeLetters(1)));
  byId("full").addEventListener("click", () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen().catch(() => {});
  });
  byId("full").hidden = !document.fullscreenEnabled;
  document.addEventListener("fullscreenchange", () => {
    byId("full").setAttribute("aria-pressed", String(Boolean(document.fullscreenElement)));
    screen.terminal.focus();
  });
  function aloud(on) {
    screen.terminal.options.screenReaderMode = on;
    byId("reader").setAttribute("aria-pressed", String(on));
  }
  byId("reader").addEventListener("click", () => {
    const on = !screen.terminal.options.screenReaderMode;
    keep("aloud", on ? "yes" : "");
    aloud(on);
  });
  byId("more").addEventListener("click", () => {
    const open = document.body.classList.toggle("all-tools");
    byId("more").setAttribute("aria-expanded", String(open));
    screen.fit();
  });

  // Keys that phones do not have

  function hold(on) {
    control = on;
    byId("ctrl").setAttribute("aria-pressed", String(on));
  }
  byId("ctrl").addEventListener("click", () => {
    hold(!control);
    screen.terminal.focus();
  });
  for (const button of byId("keys").querySelectorAll("[data-key], [data-arrow]")) {
    button.addEventListener("click", () => {
      const application = screen.terminal.modes.applicationCursorKeysMode;
      const text = button.dataset.key || (application ? "\x1bO" : "\x1b[") + button.dataset.arrow;
      type(new TextEncoder().encode(text), true);
      screen.terminal.focus();
    });
  }
  // A tap on a key must not take the keyboard away.
  byId("keys").addEventListener("pointerdown", (event) => event.preventDefault());

  screen.fill = kept("fill") === "yes";
  screen.letters = Number(kept("letters")) || 0;
  aloud(kept("aloud") === "yes");
  showSize();
  screen.fit();
  link.now();
  window.BerthConsole.page = { screen, link };
})();
