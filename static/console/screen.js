// The terminal. What a guest prints is hostile: it may draw, and nothing else.
"use strict";
(function () {
  const FONT = 'ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", Menlo, Consolas, monospace';
  const COLUMNS = 80;
  const ROWS = 24;
  const SMALLEST = 6; // px
  const LARGEST = 40;
  const CHOSEN_LARGEST = 20; // px, where nobody chose
  const SCROLLBACK = 10000; // lines
  const PALETTES = {
    dark: {
      background: "#11151a", foreground: "#d7dde4", cursor: "#8ec5ff", cursorAccent: "#11151a",
      selectionBackground: "#35506e", black: "#2a313a", red: "#ff7b72", green: "#6fd58a", yellow: "#e3b65a",
      blue: "#79b8ff", magenta: "#d8a6ff", cyan: "#67d5d9", white: "#d7dde4", brightBlack: "#8b96a3",
      brightRed: "#ffa198", brightGreen: "#93e6a8", brightYellow: "#f2d184", brightBlue: "#a9d2ff",
      brightMagenta: "#e6c6ff", brightCyan: "#97e6e8", brightWhite: "#ffffff",
    },
    light: {
      background: "#fbfbf9", foreground: "#1d2329", cursor: "#1460aa", cursorAccent: "#fbfbf9",
      selectionBackground: "#bcd7f2", black: "#1d2329", red: "#b3261e", green: "#1a6b34", yellow: "#7a5400",
      blue: "#1460aa", magenta: "#7d3a9c", cyan: "#0b6a70", white: "#5c6670", brightBlack: "#626c76",
      brightRed: "#a5140c", brightGreen: "#0d5a26", brightYellow: "#694700", brightBlue: "#0a4f93",
      brightMagenta: "#6b2a89", brightCyan: "#02585e", brightWhite: "#3c444c",
    },
  };
  // Titles, colours of the page, notifications, the clipboard, the guest's folder: none of the guest's business.
  const DEAF_TO = [0, 1, 2, 4, 5, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 50, 52, 66, 99,
    104, 105, 110, 111, 112, 117, 119, 133, 633, 777, 1337];

  class Screen {
    // `hears` has keys(bytes), drew(count), link(address), leave(), search(), paste(), found(result), ignored().
    constructor(element, hears) {
      this.element = element;
      this.hears = hears;
      this.fill = false;
      this.letters = 0; // px that somebody chose; 0: as fits
      this.live = false;
      this.mayAnswer = false;
      this.byPerson = false;
      this.encoder = new TextEncoder();
      this.terminal = new Terminal({
        cols: COLUMNS,
        rows: ROWS,
        scrollback: SCROLLBACK,
        fontFamily: FONT,
        fontSize: 14,
        allowProposedApi: true,
        minimumContrastRatio: 4.5,
        disableStdin: true,
        cursorBlink: false,
        windowOptions: {},
        macOptionIsMeta: true,
        theme: PALETTES.dark,
        linkHandler: { activate: (event, address) => hears.link(address), allowNonHttpProtocols: false },
      });
      this.addons();
      this.safety();
      this.terminal.open(element);
      this.terminal.attachCustomKeyEventHandler((event) => this.shortcut(event));
      element.addEventListener("paste", (event) => this.pasted(event), true);
      this.listen();
      this.colours();
      new ResizeObserver(() => this.fit()).observe(element.parentElement);
      if (document.fonts) document.fonts.ready.then(() => this.fit());
      this.fit();
    }

    addons() {
      this.fitting = new FitAddon.FitAddon();
      this.searching = new SearchAddon.SearchAddon();
      this.serializing = new SerializeAddon.SerializeAddon();
      this.terminal.loadAddon(this.fitting);
      this.terminal.loadAddon(this.searching);
      this.terminal.loadAddon(this.serializing);
      this.terminal.loadAddon(new Unicode11Addon.Unicode11Addon());
      this.terminal.loadAddon(new WebLinksAddon.WebLinksAddon((event, address) => this.hears.link(address)));
      this.terminal.unicode.activeVersion = "11";
      this.searching.onDidChangeResults((result) => this.hears.found(result));
    }

    safety() {
      for (const number of DEAF_TO) this.terminal.parser.registerOscHandler(number, () => true);
      // Window operations, among them titles that the terminal would type back.
      this.terminal.parser.registerCsiHandler({ final: "t" }, () => true);
    }

    listen() {
      // xterm answers questions of the guest by itself (device status, attributes). Only what a person did is
      // sent, and such answers by the first who types, and not when an old record is drawn.
      this.terminal._core.coreService.onUserInput(() => {
        this.byPerson = true;
      });
      this.terminal.onData((data) => {
        const byPerson = this.byPerson;
        this.byPerson = false;
        if (byPerson || (this.live && this.mayAnswer)) this.hears.keys(this.encoder.encode(data), byPerson);
      });
      this.terminal.onBinary((data) => {
        this.byPerson = false;
        this.hears.keys(Uint8Array.from(data, (letter) => letter.charCodeAt(0) & 255), true);
      });
    }

    shortcut(event) {
      if (event.type !== "keydown") return true;
      if (event.key === "Escape" && event.shiftKey) return this.done(event, this.hears.leave);
      if (event.ctrlKey && event.shiftKey) {
        if (event.code === "KeyF") return this.done(event, this.hears.search);
        if (event.code === "KeyV") return this.done(event, this.hears.paste);
        if (event.code === "KeyC") return this.done(event, () => this.copy());
      }
      const printed = event.key.length === 1 || event.key === "Enter";
      if (this.terminal.options.disableStdin && printed && !event.ctrlKey && !event.metaKey) this.hears.ignored();
      return true;
    }

    done(event, call) {
      event.preventDefault();
      call();
      return false;
    }

    copy() {
      const text = this.terminal.getSelection();
      if (text && navigator.clipboard) navigator.clipboard.writeText(text).catch(() => {});
    }

    pasted(event) {
      event.preventDefault();
      event.stopPropagation();
      this.hears.pasted(event.clipboardData ? event.clipboardData.getData("text/plain") : "");
    }

    // Type a text as pasted. Control characters could end a bracketed paste, or do worse.
    paste(text) {
      this.terminal.focus();
      // eslint-disable-next-line no-control-regex
      this.terminal.paste(text.replace(/\r\n?/g, "\n").replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, ""));
    }

    write(bytes) {
      this.terminal.write(bytes, () => this.hears.drew(bytes.length));
    }

    // A line of ours among the guest's: colours and modes are put back first.
    say(text) {
      this.terminal.write("\x1b[0m\x1b[?25h\r\n\x1b[7m " + text.replace(/[^\p{L}\p{N}\p{P}\p{S} ]/gu, "") + " \x1b[0m\r\n");
    }

    // A guest that died may have left the terminal in any mode; its last words stay where they are.
    settle() {
      this.terminal.write("\x18\x1b[0m\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?2004l\x1b[?1l\x1b>\x1b[4l\x1b(B");
    }

    // The next run writes below what the last one wrote.
    clearWay() {
      this.settle();
      this.terminal.write("\x1b[?1049l\x1b[r\x1b[999;1H");
    }

    typing(may) {
      this.terminal.options.disableStdin = !may;
      this.terminal.options.cursorBlink = may;
    }

    colours() {
      const system = matchMedia("(prefers-color-scheme: dark)");
      const choose = () => {
        const chosen = document.documentElement.dataset.theme;
        this.terminal.options.theme = PALETTES[chosen || (system.matches ? "dark" : "light")];
      };
      system.addEventListener("change", choose);
      new MutationObserver(choose).observe(document.documentElement, { attributeFilter: ["data-theme"] });
      choose();
    }

    fit() {
      const room = this.element.parentElement;
      const width = room.clientWidth - 16;
      const height = room.clientHeight - 8;
      if (width < 50 || height < 50) return;
      this.element.classList.toggle("fills", this.fill);
      if (this.fill) {
        this.terminal.options.fontSize = this.letters || 14;
        const size = this.fitting.proposeDimensions();
        if (size) this.terminal.resize(Math.max(20, size.cols), Math.max(5, size.rows));
        return;
      }
      if (this.terminal.cols !== COLUMNS || this.terminal.rows !== ROWS) this.terminal.resize(COLUMNS, ROWS);
      this.terminal.options.fontSize = this.letters || this.largest(width, height);
    }

    // The largest letters with which all columns and rows are seen.
    largest(width, height) {
      const probe = document.createElement("span");
      probe.className = "probe";
      probe.style.fontFamily = FONT;
      probe.textContent = "W".repeat(100);
      document.body.append(probe);
      const cell = probe.getBoundingClientRect();
      probe.remove();
      const wide = width / ((cell.width / 100 / 100) * COLUMNS);
      const high = height / ((cell.height / 100) * ROWS);
      const fits = Math.floor(Math.min(wide, Math.max(high, 11), CHOSEN_LARGEST) * 2) / 2;
      return Math.max(SMALLEST, fits);
    }

    resizeLetters(by) {
      const now = this.terminal.options.fontSize;
      this.letters = Math.min(LARGEST, Math.max(SMALLEST, Math.round(now) + by));
      this.fit();
      return this.letters;
    }

    find(text, back) {
      const light = this.terminal.options.theme === PALETTES.light;
      const options = {
        decorations: {
          matchBackground: light ? "#ffe9a8" : "#4d3a00", matchOverviewRuler: "#e3b65a",
          activeMatchBackground: light ? "#ffc24d" : "#1f5c99", activeMatchColorOverviewRuler: "#79b8ff",
        },
      };
      if (back) this.searching.findPrevious(text, options);
      else this.searching.findNext(text, options);
    }

    findNothing() {
      this.searching.clearDecorations();
    }

    // All that is on the screen and above it, as text (for tests and for copying).
    text() {
      return this.serializing.serialize({ excludeModes: true, excludeAltBuffer: true });
    }
  }

  window.BerthConsole.Screen = Screen;
})();
