// Draws what stands in data-plot, with uPlot. The numbers are on the page as text too.
"use strict";
(function () {
  const drawn = new Map(); // element -> uPlot

  // light-dark() is only resolved where a property is used: an element tells the colour.
  function colour(name) {
    const probe = document.createElement("span");
    probe.hidden = true;
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value;
  }

  function words(unit, value) {
    if (value == null) return "";
    if (unit === "percent") return `${+value.toFixed(value < 10 ? 1 : 0)} %`;
    let size = unit === "mib" ? value * 1048576 : value;
    let name = "B";
    for (const next of ["KiB", "MiB", "GiB", "TiB"]) {
      if (size < 1024) break;
      size /= 1024;
      name = next;
    }
    return `${+size.toFixed(size < 10 ? 1 : 0)} ${name}${unit === "bytes" ? "/s" : ""}`;
  }

  // Steps of bytes are powers of two.
  const binary = [];
  for (let power = 0; power < 50; power += 1) binary.push(2 ** power);

  function draw(area) {
    const told = JSON.parse(area.dataset.plot);
    const axis = { stroke: () => colour("--quiet"), font: "11px system-ui, sans-serif", grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false } };
    const now = Date.now() / 1000;
    const top = (highest) => Math.max(told.top || 0, highest || 0, told.unit === "percent" ? 5 : 1) * 1.02;
    const options = {
      width: Math.max(200, area.clientWidth),
      height: 140,
      cursor: { y: false, drag: { x: false, y: false } },
      legend: { show: false },
      scales: {
        x: { time: true, range: () => [Math.min(told.data[0][0], now - 3600), now] },
        y: { range: (plot, low, high) => [0, top(high)] },
      },
      axes: [
        { ...axis, space: 60, size: 24, values: "{HH}:{mm}" },
        { ...axis, size: 68, space: 32, incrs: told.unit === "percent" ? undefined : binary, values: (plot, marks) => marks.map((mark) => words(told.unit, mark)) },
      ],
      series: [
        {},
        ...told.labels.map((label, index) => ({
          label,
          stroke: () => colour(index ? "--wait" : "--accent"),
          dash: index ? [5, 3] : undefined,
          width: 1.5,
          points: { show: false },
        })),
      ],
    };
    drawn.set(area, new uPlot(options, told.data, area));
  }

  function drawAll() {
    for (const [area, plot] of drawn) {
      if (area.isConnected) continue;
      plot.destroy();
      drawn.delete(area);
    }
    for (const area of document.querySelectorAll("[data-plot]")) if (!drawn.has(area)) draw(area);
  }

  function again() {
    for (const [area, plot] of drawn) plot.setSize({ width: Math.max(200, area.clientWidth), height: 140 });
  }

  drawAll();
  document.addEventListener("htmx:afterSettle", drawAll);
  addEventListener("resize", again);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  new MutationObserver(again).observe(document.documentElement, { attributeFilter: ["data-theme"] });
})();
