// The charts of a comparison: drawn from the numbers in the page, again whenever it is resized.
const data = JSON.parse(document.getElementById("data").textContent);
const DASHES = ["", "7 4", "2 4", "8 3 2 3"];

// Words and numbers, as bertexp/compare/wording.py writes them.
const number = (value) => value === null ? "–" : value.toFixed(data.digits).replace("-", "−");
function clock(seconds) {
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const kept = parts[0] ? parts : parts.slice(1);
  return kept.map((part, place) => place ? String(part).padStart(2, "0") : part).join(":");
}
function compact(value) {
  for (const [factor, prefix] of [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (Math.abs(value) >= 0.9995 * factor) return `${+(value / factor).toPrecision(3)}${prefix}`;
  return String(+value.toPrecision(3));
}
const spent = (value) => data.at === "seconds" ? `${clock(value)} of training` : `${compact(value)} ${data.at}`;

// SVG: an element with its attributes; text goes in as text, never as markup.
function make(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
const path = (points, x, y) => points.map(([a, b], i) => `${i ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
const colour = (setting) => `--paint:${setting.paint}`;
function linear([low, high], [from, to]) {
  return (value) => from + (value - low) / (high - low || 1) * (to - from);
}
function ticks([low, high], count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough) ?? power;
  const places = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i++) places.push(+(i * step).toPrecision(12));
  return places;
}
const decimals = (places) => Math.max(0, ...places.map((place) => (String(place).split(".")[1] ?? "").length));

// What all charts share: the margins, horizontal grid lines, labels of both axes.
function frame(width, height, left, window, xLabel) {
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": data.metric });
  const area = { left, right: width - 14, top: 26, bottom: height - 44 };
  const y = linear(window, [area.bottom, area.top]), places = ticks(window, height / 60), digits = decimals(places);
  for (const place of places) svg.append(
    make("line", { class: "grid", x1: left, x2: area.right, y1: y(place), y2: y(place) }),
    make("text", { x: left - 8, y: y(place) + 4, "text-anchor": "end" }, place.toFixed(digits)));
  svg.append(make("text", { class: "title", x: 0, y: 12 }, data.metric),
    make("text", { class: "title", x: area.right, y: height - 6, "text-anchor": "end" }, xLabel));
  return { svg, area, y };
}
const xTick = (svg, area, x, text) => svg.append(make("text", { x, y: area.bottom + 18, "text-anchor": "middle" }, text));

function describe(setting) {
  const interval = setting.low === null ? "" : ` (95% ${number(setting.low)} to ${number(setting.high)})`;
  const runs = setting.runs.filter((run) => run.value !== null).map((run) => number(run.value)).join(", ");
  return `${setting.label || setting.name}: ${number(setting.mean)}${interval}; runs: ${runs}`;
}
const SHAPES = [
  (x, y) => make("circle", { class: "mark", cx: x, cy: y, r: 6 }),
  (x, y) => make("rect", { class: "mark", x: x - 5.5, y: y - 5.5, width: 11, height: 11 }),
  (x, y) => make("path", { class: "mark", d: `M${x} ${y - 7}l7 7l-7 7l-7 -7z` }),
  (x, y) => make("path", { class: "mark", d: `M${x} ${y - 7}l7 12h-14z` }),
];
// A setting's mean, interval and runs; ``at`` gives the point of a value, ``aside`` px off its line.
function mark(setting, at, section) {
  const group = make("g", { class: "setting", style: colour(setting), tabindex: 0, role: "img", "aria-label": describe(setting) });
  const [x, y] = at(setting.mean, 0);
  group.append(make("circle", { class: "hit", cx: x, cy: y, r: 16 }));
  if (setting.low !== null) {
    // An interval beyond the window is cut at its edge.
    const [least, most] = data.metricWindow;
    const [[x1, y1], [x2, y2]] = [at(Math.max(setting.low, least), 0), at(Math.min(setting.high, most), 0)];
    group.append(make("line", { class: "interval", x1, y1, x2, y2 }));
  }
  for (const run of setting.runs) if (run.value !== null) {
    const [cx, cy] = at(run.value, 9);
    group.append(make("circle", { class: "dot", cx, cy, r: 2.6 }));
  }
  group.append(SHAPES[setting.style](x, y));
  for (const event of ["pointerenter", "focus", "click"])
    group.addEventListener(event, () => { section.querySelector(".readout").textContent = describe(setting); });
  return group;
}

function metricByKey(section, settings, width) {
  const { svg, area, y } = frame(width, 360, 58, data.metricWindow, data.key);
  const bend = data.logarithmic ? Math.log10 : (value) => value;
  const places = [...new Set(settings.map((s) => s.x))].sort((a, b) => a - b);
  const range = [bend(places[0]), bend(places.at(-1))];
  const straight = linear(range[0] === range[1] ? [range[0] - 1, range[1] + 1] : range, [area.left + 24, area.right - 24]);
  const x = (value) => straight(bend(value));
  let free = -Infinity;
  for (const place of places) if (x(place) - free > 44) xTick(svg, area, free = x(place), +place.toPrecision(4));
  const baseline = settings.find((s) => s.label === data.baseline);
  if (baseline) svg.append(make("line", { class: "reference", x1: area.left, x2: area.right, y1: y(baseline.mean), y2: y(baseline.mean) }));
  for (const style of new Set(settings.map((s) => s.style))) {
    const line = settings.filter((s) => s.style === style);
    svg.append(make("path", { class: "joint", "stroke-dasharray": DASHES[style], d: path(line.map((s) => [s.x, s.mean]), x, y) }));
  }
  for (const s of settings) svg.append(mark(s, (value, aside) => [x(s.x) + s.style * 9 + aside, y(value)], section));
  return svg;
}

function metricByRow(section, settings, width) {
  // Names that leave no room beside them stand above what they name.
  const wanted = 14 + 7 * Math.max(...settings.map((s) => s.name.length)), above = wanted > 0.4 * width;
  const tall = above ? 48 : 30, left = above ? 0 : wanted, height = 44 + tall * settings.length;
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": data.metric });
  const x = linear(data.metricWindow, [left + 8, width - 14]), places = ticks(data.metricWindow, (width - left) / 90), digits = decimals(places);
  for (const place of places) {
    svg.append(make("line", { class: "grid", x1: x(place), x2: x(place), y1: 0, y2: height - 40 }));
    xTick(svg, { bottom: height - 42 }, x(place), place.toFixed(digits));
  }
  svg.append(make("text", { class: "title", x: width - 14, y: height - 4, "text-anchor": "end" }, data.metric));
  const baseline = settings.find((s) => s.label === data.baseline);
  if (baseline) svg.append(make("line", { class: "reference", x1: x(baseline.mean), x2: x(baseline.mean), y1: 0, y2: height - 40 }));
  settings.forEach((s, row) => {
    const place = above ? { x: 0, y: tall * row + 14 } : { x: left - 4, y: tall * row + 19, "text-anchor": "end" };
    svg.append(make("text", { class: "title", ...place }, s.name),
      mark(s, (value, aside) => [x(value), tall * (row + 1) - 16 + aside], section));
  });
  return svg;
}

// A piece of a line, for a legend.
function sample(style, paint = "var(--quiet)") {
  const line = make("line", { class: "line", x1: 0, x2: 22, y1: 5, y2: 5, "stroke-dasharray": DASHES[style] });
  return make("svg", { class: "sample", style: `--paint:${paint}`, viewBox: "0 0 22 10", "aria-hidden": true }, line);
}

// A chart that is drawn as wide as its place is.
function responsive(section, draw) {
  const figure = section.querySelector("figure");
  const redraw = () => figure.replaceChildren(draw(Math.max(figure.clientWidth, 260)));
  section.hidden = false;
  new ResizeObserver(redraw).observe(figure);
  return redraw;
}

function metricChart(section) {
  const settings = data.settings.filter((s) => s.mean !== null);
  if (!data.metricWindow) return;
  responsive(section, (width) => (data.key ? metricByKey : metricByRow)(section, settings, width));
  const series = new Map(settings.map((s) => [s.style, s.series]));
  if (series.size > 1) section.querySelector(".series").append(...[...series].flatMap(([style, name]) => [sample(style), name]));
  const cut = settings.some((s) => s.low !== null && (s.low < data.metricWindow[0] || s.high > data.metricWindow[1]));
  section.querySelector(".readout").textContent = `Bars are 95% intervals${data.singleLook ? " for a single look" : ""}${cut ? ", cut at the edge" : ""}, small dots single runs`
    + (settings.some((s) => s.label === data.baseline) ? ", the dashed line the baseline." : ".");
}

// The value of a curve between its evaluations, null outside them.
function valueAt(curve, x) {
  const next = curve.findIndex(([place]) => place >= x);
  if (next < 0 || (next === 0 && curve[0][0] > x)) return null;
  if (curve[next][0] === x) return curve[next][1];
  const [[x1, y1], [x2, y2]] = [curve[next - 1], curve[next]];
  return y1 + (x - x1) / (x2 - x1) * (y2 - y1);
}

function curvesChart(section) {
  const settings = data.settings.filter((s) => s.runs.some((run) => run.curve.length > 1));
  if (!data.curveWindow) return;
  const all = settings.flatMap((s) => [s.curve, ...s.runs.map((run) => run.curve)]).flat();
  // The value at the budget is the one that is compared: it is read first.
  const places = [...new Set([...all.map(([x]) => x), ...(data.budget === null ? [] : [data.budget])])].sort((a, b) => a - b), values = all.map(([, y]) => y);
  const full = [Math.min(...values), Math.max(...values)], end = places.at(-1);
  const off = new Set(), whole = document.getElementById("whole");
  let at = data.budget ?? end, picked = null;

  const entries = settings.map((setting) => {
    const entry = document.createElement("button"), label = document.createElement("span");
    label.textContent = setting.name;
    entry.type = "button";
    entry.append(sample(setting.style, setting.paint), label, document.createElement("output"));
    entry.addEventListener("click", () => { off.has(setting) ? off.delete(setting) : off.add(setting); redraw(); });
    for (const [event, target] of [["pointerenter", setting], ["focus", setting], ["pointerleave", null], ["blur", null]])
      entry.addEventListener(event, () => { picked = target; redraw(); });
    return entry;
  });
  section.querySelector(".entries").append(...entries);
  for (const button of section.querySelectorAll("[data-show]")) {
    button.hidden = settings.length < 3;
    button.addEventListener("click", () => {
      for (const setting of settings) button.dataset.show === "all" ? off.delete(setting) : off.add(setting);
      redraw();
    });
  }
  whole.addEventListener("click", () => { whole.setAttribute("aria-pressed", whole.getAttribute("aria-pressed") !== "true"); redraw(); });

  const redraw = responsive(section, (width) => {
    const left = 58, window = whole.getAttribute("aria-pressed") === "true" ? full : data.curveWindow;
    const { svg, area, y } = frame(width, 380, left, window, data.at === "seconds" ? "training time" : data.at);
    const x = linear([0, end], [left, area.right]);
    for (const place of ticks([0, end], width / 110)) xTick(svg, area, x(place), data.at === "seconds" ? clock(place) : compact(place));
    if (data.budget !== null) svg.append(make("line", { class: "budget", x1: x(data.budget), x2: x(data.budget), y1: area.top, y2: area.bottom }));
    const clip = make("rect", { x: left, y: area.top, width: area.right - left + 2, height: area.bottom - area.top });
    const lines = make("g", { "clip-path": "url(#area)" });
    svg.append(make("clipPath", { id: "area" }, clip), lines);
    // The first are the best, where settings are ranked: they lie on top.
    for (const s of settings.filter((s) => !off.has(s)).reverse()) {
      const group = make("g", { class: s === picked ? "setting picked" : "setting", style: colour(s), "data-label": s.label });
      for (const run of s.runs) group.append(make("path", { class: "seed", d: path(run.curve, x, y) }));
      group.append(make("path", { class: "line", "stroke-dasharray": DASHES[s.style], d: path(s.curve, x, y) }));
      lines.append(group);
    }
    svg.classList.toggle("picking", picked !== null && !off.has(picked));
    read(svg, area, x);
    return svg;
  });

  // The crosshair, and every curve's value there: by pointer, by tap, by arrow keys.
  function read(svg, area, x) {
    const crosshair = svg.appendChild(make("line", { class: "crosshair", y1: area.top, y2: area.bottom }));
    const show = (place) => {
      at = place;
      crosshair.setAttribute("x1", x(at));
      crosshair.setAttribute("x2", x(at));
      section.querySelector(".readout").textContent = `After ${spent(at)}:`;
      settings.forEach((setting, i) => {
        entries[i].setAttribute("aria-pressed", !off.has(setting));
        entries[i].querySelector("output").textContent = number(valueAt(setting.curve, at));
      });
    };
    const follow = (event) => {
      const seen = event.clientX - svg.getBoundingClientRect().left;
      show(places.reduce((a, b) => Math.abs(x(b) - seen) < Math.abs(x(a) - seen) ? b : a));
    };
    for (const event of ["pointermove", "pointerdown"]) svg.addEventListener(event, follow);
    svg.setAttribute("tabindex", 0);
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      show(places[Math.min(Math.max(places.indexOf(at) + step, 0), places.length - 1)]);
    });
    show(at);
  }
}

metricChart(document.getElementById("metric"));
curvesChart(document.getElementById("curves"));
