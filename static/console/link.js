// The connection to the gateway: a ticket for each, and again after it broke. What passes stands in
// docs/design.md, Consoles.
"use strict";
(function () {
  const FIRST_PAUSE = 500; // ms
  const LONGEST_PAUSE = 15000;
  const TOOK_EVERY = 64 * 1024; // bytes
  const KEYS_AT_ONCE = 16 * 1024;
  // Close codes after which nobody tries again by themselves.
  const FINAL = { 4403: "rights", 4408: "idle", 4429: "many", 1008: "broken", 1009: "broken" };

  class Link {
    // `settings` has ticket and socket; `hears` has open, word, bytes, waiting, closed, failed.
    constructor(settings, csrf, hears) {
      this.settings = settings;
      this.csrf = csrf;
      this.hears = hears;
      this.socket = null;
      this.tries = 0;
      this.timer = 0;
      this.why = "";
      this.run = "";
      this.offset = 0; // in the run, of the next byte
      this.got = 0; // bytes on this connection
      this.drawn = 0;
      this.told = 0;
      this.badTickets = 0;
      this.unopened = 0; // sockets in a row that never opened
      window.addEventListener("online", () => this.now());
      document.addEventListener("visibilitychange", () => {
        if (!document.hidden && this.timer) this.now();
      });
    }

    get isOpen() {
      return Boolean(this.socket) && this.socket.readyState === WebSocket.OPEN;
    }

    // Connect, unless that is under way.
    now() {
      if (this.socket) return;
      clearTimeout(this.timer);
      this.timer = 0;
      this.socket = "asked";
      this.hears.connecting();
      this.ask().then(
        (ticket) => this.open(ticket),
        (error) => {
          this.socket = null;
          if (error.final) this.hears.failed(error.final, error.message);
          else this.later();
        },
      );
    }

    async ask() {
      const answer = await fetch(this.settings.ticket, {
        method: "POST",
        headers: { "X-CSRFToken": this.csrf, Accept: "application/json" },
        credentials: "same-origin",
        redirect: "manual",
        cache: "no-store",
      });
      if (answer.ok) return (await answer.json()).ticket;
      const error = new Error();
      if (answer.type === "opaqueredirect" || answer.status === 401) error.final = "loggedout";
      else if (answer.status === 404) error.final = "gone";
      else if (answer.status === 403) error.final = "rights";
      throw error;
    }

    open(ticket) {
      const here = location.protocol === "https:" ? "wss://" : "ws://";
      const socket = new WebSocket(this.settings.socket || here + location.host + "/ws/console");
      socket.binaryType = "arraybuffer";
      this.socket = socket;
      this.why = "";
      this.got = this.drawn = this.told = 0;
      this.unopened += 1;
      socket.addEventListener("open", () => {
        this.unopened = 0;
        const first = { ticket };
        if (this.run) Object.assign(first, { run: this.run, offset: this.offset });
        socket.send(JSON.stringify(first));
      });
      socket.addEventListener("message", (event) => {
        if (this.socket === socket) this.take(event.data);
      });
      socket.addEventListener("close", (event) => {
        if (this.socket === socket) this.closed(event.code);
      });
    }

    take(data) {
      if (typeof data !== "string") {
        this.got += data.byteLength;
        this.offset += data.byteLength;
        this.hears.bytes(new Uint8Array(data));
        return;
      }
      const word = JSON.parse(data);
      if (word.type === "ready") this.tries = this.badTickets = 0;
      else if (word.type === "bye") this.why = word.why;
      else if (word.type === "skipped") this.offset += word.bytes;
      else if (word.type === "run") {
        word.again = word.run === this.run;
        word.first = !this.run;
        this.run = word.run;
        this.offset = word.offset;
      }
      this.hears.word(word);
    }

    closed(code) {
      this.socket = null;
      this.hears.closed();
      if (code === 4401 && this.badTickets++ < 2) this.now();
      else if (code === 4401) this.hears.failed("ticket");
      else if (FINAL[code] === "many") this.hears.failed(this.why || "gateway");
      else if (FINAL[code]) this.hears.failed(FINAL[code]);
      else this.later(code === 1012);
    }

    // A gateway that was stopped on purpose is back soon.
    later(soon) {
      const longest = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.tries);
      this.tries += 1;
      const pause = soon && this.tries === 1 ? 300 * Math.random() : longest * (0.7 + 0.3 * Math.random());
      this.timer = setTimeout(() => this.now(), pause);
      this.hears.waiting(pause, this.unopened > 2);
    }

    // Bytes have been drawn; the gateway sends on when it knows.
    drew(count) {
      this.drawn += count;
      if (this.isOpen && (this.drawn - this.told >= TOOK_EVERY || this.drawn === this.got)) {
        this.told = Math.min(this.drawn, this.got);
        this.socket.send(JSON.stringify({ type: "took", bytes: this.told }));
      }
    }

    say(word) {
      if (this.isOpen) this.socket.send(JSON.stringify(word));
    }

    keys(bytes) {
      for (let at = 0; this.isOpen && at < bytes.length; at += KEYS_AT_ONCE) {
        this.socket.send(bytes.subarray(at, at + KEYS_AT_ONCE));
      }
    }
  }

  window.BerthConsole = { Link };
})();
