// The heads of a model as small maps, and the one that is picked as a large one.
const data = JSON.parse(document.getElementById("data").textContent);
const count = data.tokens.length, MEAN = data.heads;
const stored = new Uint16Array(Uint8Array.from(atob(data.weights), (sign) => sign.charCodeAt(0)).buffer);
// Of the small maps, on light and dark paper alike.
const ORANGE = [190, 85, 28];
let layer = 0, head = 0, at = [0, 0];

// How much token i attends to token j in a head of a layer; the mean over the heads after the last.
function weight(layer, head, i, j) {
  const place = (number) => stored[((layer * data.heads + number) * count + i) * count + j] / data.scale;
  if (head < MEAN) return place(head);
  let sum = 0;
  for (let number = 0; number < data.heads; number++) sum += place(number);
  return sum / data.heads;
}
const named = (head) => head === MEAN ? "mean of the heads" : `head ${head + 1}`;
const mean = (values) => values.reduce((a, b) => a + b) / values.length;
const figure = (values) => (head === MEAN ? mean(values[layer]) : values[layer][head]).toFixed(2);

function make(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// A map of a pixel a token; a text of more than 44 tokens is shrunk by the browser.
function small(layer, head) {
  const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
  canvas.width = canvas.height = count;
  const image = context.createImageData(count, count);
  for (let i = 0; i < count; i++) for (let j = 0; j < count; j++)
    image.data.set([...ORANGE, 255 * Math.sqrt(weight(layer, head, i, j))], 4 * (i * count + j));
  context.putImageData(image, 0, 0);
  return canvas;
}

const buttons = new Map();
function overview(section) {
  for (let row = 0; row < data.layers; row++) {
    const line = section.querySelector("tbody").insertRow(), title = document.createElement("th");
    title.scope = "row";
    title.textContent = `layer ${row + 1}`;
    line.append(title);
    for (let column = 0; column <= MEAN; column++) {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-label", `Layer ${row + 1}, ${named(column)}`);
      button.dataset.layer = row + 1;
      button.dataset.head = column === MEAN ? "mean" : column + 1;
      button.append(small(row, column));
      button.addEventListener("click", () => { [layer, head] = [row, column]; show(); });
      buttons.set(`${row},${column}`, button);
      line.insertCell().append(button);
    }
  }
  section.hidden = false;
}

// Room for the names in front of the map and above it, in the SVG's own units.
const LABEL = 12 + 7.3 * Math.min(14, Math.max(...data.tokens.map((token) => token.length)));
const CELL = Math.max(620 / count, 5), SIZE = CELL * count, NAMED = Math.ceil(13 / CELL);
const short = (token) => token.length > 14 ? `${token.slice(0, 13)}…` : token;

function large() {
  const svg = make("svg", { viewBox: `0 0 ${LABEL + SIZE + 2} ${LABEL + SIZE + 2}`, role: "img", tabindex: 0, "aria-label": `Attention, layer ${layer + 1}, ${named(head)}` });
  const map = make("g", { class: "map", transform: `translate(${LABEL} ${LABEL})` });
  map.append(make("rect", { class: "ground", width: SIZE, height: SIZE }));
  data.tokens.forEach((token, i) => {
    const middle = LABEL + (i + 0.5) * CELL;
    const across = make("text", { class: "row", x: LABEL - 6, y: middle + 4, "text-anchor": "end" }, short(token));
    const above = make("text", { class: "column", transform: `translate(${middle + 4} ${LABEL - 6}) rotate(-90)` }, short(token));
    across.toggleAttribute("hidden", i % NAMED !== 0);
    above.toggleAttribute("hidden", i % NAMED !== 0);
    svg.append(across, above);
    for (let j = 0; j < count; j++) map.append(make("rect", {
      class: "cell", x: j * CELL, y: i * CELL, width: CELL - 0.5, height: CELL - 0.5, opacity: weight(layer, head, i, j).toFixed(4),
    }));
  });
  const here = map.appendChild(make("rect", { class: "here", width: CELL, height: CELL }));
  svg.append(map);
  const read = (i, j) => {
    at = [i, j];
    here.setAttribute("x", j * CELL);
    here.setAttribute("y", i * CELL);
    for (const [kind, number] of [["row", i], ["column", j]])
      svg.querySelectorAll(`.${kind}`).forEach((text, n) => {
        text.classList.toggle("named", n === number);
        text.toggleAttribute("hidden", n % NAMED !== 0 && n !== number);
      });
    document.querySelector("#one .readout").textContent =
      `${data.tokens[i]} (${i}) gives ${data.tokens[j]} (${j}) ${(100 * weight(layer, head, i, j)).toFixed(1)}% of its attention.`;
  };
  const bounded = (value) => Math.min(Math.max(value, 0), count - 1);
  const follow = (event) => {
    const box = map.querySelector(".ground").getBoundingClientRect();
    read(bounded(Math.floor((event.clientY - box.top) / box.height * count)), bounded(Math.floor((event.clientX - box.left) / box.width * count)));
  };
  for (const event of ["pointermove", "pointerdown"]) map.addEventListener(event, follow);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    read(bounded(at[0] + step[0]), bounded(at[1] + step[1]));
  });
  read(...at);
  return svg;
}

function show() {
  for (const [place, button] of buttons) button.setAttribute("aria-pressed", place === `${layer},${head}`);
  const section = document.getElementById("one");
  section.querySelector("h2").textContent = `Layer ${layer + 1}, ${named(head)}`;
  document.getElementById("keys").textContent = `Entropy ${figure(data.entropy)} nats (${data.most.toFixed(2)} for all tokens alike), mean distance ${figure(data.distance)} tokens.`;
  section.querySelector("figure").replaceChildren(large());
  section.hidden = false;
}

overview(document.getElementById("all"));
show();
