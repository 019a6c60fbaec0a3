// The chosen steps beside each other: what each recovers, and below it every method's map. One cell is chosen and large.
const root = make("div", { class: "sf-stepmaps" });
element.replaceChildren(root);
const view = { key: null, opacity: 0.8, together: false, words: {}, cell: null, measure: "local_ssim" };
let cells = [], colours = null, ready = 0;
const SMALL = 192, LARGE = 448;

const about = (one) => `step ${one.step}, t = ${Math.round(one.timestep)}`;
const mapOf = (pane, row, place) => {
  const wanted = view.words[row.name] || "";
  return (row.choices.find((choice) => choice.word === wanted) || row.choices[0]).maps[place];
};

class Cell {
  constructor(pane, paneNumber, row, place) {
    Object.assign(this, { pane, paneNumber, row, place, step: pane.steps[place] });
    this.picture = make("img", { src: this.step.picture, alt: "", draggable: false });
    this.canvas = make("canvas", { "aria-hidden": "true" });
    this.button = make("button", {
      type: "button", class: "sf-cell", "aria-pressed": "false", style: `aspect-ratio:${pane.width}/${pane.height}`,
      "aria-label": row ? `${row.label}, ${about(this.step)}: show it large` : `What ${about(this.step)} recovers: show it large`,
      "data-map": row ? row.name : "", "data-step": String(this.step.step),
      onclick: () => { view.cell = this.id; large(); },
      onkeydown: (event) => {
        const by = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
        if (!by) return;
        const across = pane.steps.length, mine = cells.filter((cell) => cell.paneNumber === paneNumber);
        const next = mine[mine.indexOf(this) + by[0] * across + by[1]];
        if (next) { next.button.focus(); event.preventDefault(); }
      },
    }, this.picture, row ? this.canvas : null);
  }
  get id() { return [this.paneNumber, this.row ? this.row.name : "", this.step.step].join("/"); }
  get map() { return this.row ? mapOf(this.pane, this.row, this.place) : null; }
  paint(canvas, most, scale) {
    const { tall, wide } = fitted(this.pane, most);
    if (!this.map) { canvas.hidden = true; return; }
    canvas.hidden = false;
    const fine = heat.enlarged(this.map, tall, wide);
    heat.paint(canvas, fine, heat.pixels(this.picture, tall, wide), { tall, wide, colours, dim: props.value.dim, most: view.opacity, tau: 0, scale });
  }
}

function scales() {  // of every method, over all its steps and panes
  const found = {};
  for (const cell of cells) if (cell.map) {
    const [low, high] = found[cell.row.name] || [Infinity, -Infinity];
    found[cell.row.name] = [Math.min(low, cell.map.low), Math.max(high, cell.map.high)];
  }
  return found;
}
function paint() {
  const shared = view.together ? scales() : {};
  for (const cell of cells) if (cell.row) cell.paint(cell.canvas, SMALL, shared[cell.row.name] || null);
  large();
}

function large() {
  const cell = cells.find((one) => one.id === view.cell) || cells.find((one) => one.row) || cells[0];
  if (!cell) return;
  view.cell = cell.id;
  for (const one of cells) one.button.setAttribute("aria-pressed", String(one === cell));
  const { pane, row, step } = cell, place = root.querySelector(".sf-chosen");
  const canvas = make("canvas", { class: "sf-map", "aria-hidden": "true" });
  const title = row ? `${row.label} at ${about(step)}` : `What ${about(step)} recovers`;
  const word = row && view.words[row.name] ? `, the word “${view.words[row.name]}”` : "";
  const several = props.value.panes.length > 1;
  const measure = make("select", { id: own + "measure", onchange: (event) => { view.measure = event.target.value; } },
    props.value.measures.map(([key, text]) => make("option", { value: key, selected: key === view.measure }, text)));
  place.replaceChildren(
    make("figure", {}, make("div", { class: "sf-picture still", style: `aspect-ratio:${pane.width}/${pane.height}` },
      make("img", { src: step.picture, alt: title, draggable: false }), row ? canvas : null)),
    make("div", { class: "sf-side" },
      make("h3", {}, title + word), several ? make("p", { class: "sf-eyebrow" }, pane.title) : null,
      make("p", {}, row ? `Bright are ${row.aid}.` + (cell.map ? ` The map goes from ${cell.map.low.toPrecision(3)} to ${cell.map.high.toPrecision(3)}.` : " This map holds no numbers.") : "The clean image that the denoiser would answer with at this step, before the next one adds to it."),
      row && row.facts[cell.place] ? make("p", { class: "sf-facts" }, row.facts[cell.place]) : null,
      row ? make("div", { class: "sf-check" },
        make("p", {}, "Can it be trusted? Take the places away in the map’s order, or give them back, and see whether the recovered image follows sooner than with a map that knows nothing." + (row.choices.length > 1 ? " The map of all words together is checked." : "")),
        make("div", { class: "sf-fields" }, make("div", { class: "sf-field" }, make("label", { for: own + "measure" }, "Distance of the images"), measure)),
        make("div", { class: "sf-go" },
          make("button", { type: "button", class: "sf-primary", onclick: () => trigger("check", { pane: cell.paneNumber, map: row.name, step: step.step, measure: view.measure }) }, "Check it: deletion and insertion"),
          make("span", { class: "sf-price" }, props.value.cost ? "Costs " + props.value.cost + "." : ""))) : null));
  if (row) {
    const shared = view.together ? scales()[row.name] : null;
    cell.paint(canvas, LARGE, shared);
  }
}

function controls() {
  const id = own + "opacity", colourId = own + "colours";
  const output = make("output", { for: id }, Math.round(100 * view.opacity) + "%");
  return make("div", { class: "sf-controls" },
    make("div", {}, make("label", { for: id }, "Overlay", output),
      make("input", { id, type: "range", min: "0", max: "100", step: "5", value: String(100 * view.opacity), oninput: (event) => { view.opacity = event.target.value / 100; output.textContent = event.target.value + "%"; paint(); } })),
    make("div", {}, make("label", { for: colourId }, "Colours"),
      make("select", { id: colourId, onchange: (event) => { view.together = event.target.value === "all"; paint(); } },
        [["own", "from each map’s own lowest to highest"], ["all", "the same for all steps of a method"]].map(([key, text]) => make("option", { value: key, selected: (key === "all") === view.together }, text)))));
}

function block(pane, number, several) {
  const columns = `--steps:${pane.steps.length + 1}`;
  const made = (row) => pane.steps.map((_, place) => { const cell = new Cell(pane, number, row, place); cells.push(cell); return cell.button; });
  const word = (row) => {
    if (row.choices.length < 2) return null;
    const id = own + "word" + number;
    return make("span", { class: "sf-word" }, make("label", { for: id }, "of "),
      make("select", { id, onchange: (event) => { view.words[row.name] = event.target.value; for (const other of root.querySelectorAll(".sf-word select")) other.value = event.target.value; paint(); } },
        row.choices.map((choice) => make("option", { value: choice.word, selected: (view.words[row.name] || "") === choice.word }, choice.word || "all words"))));
  };
  return make("div", { class: "sf-steps-pane" },
    several ? make("p", { class: "sf-title" }, pane.title) : null,
    notesOf(pane.notes),
    make("div", { class: "sf-scroll", tabindex: "-1" }, make("div", { class: "sf-grid", style: columns },
      pane.steps.map((one) => make("p", { class: "sf-when" }, make("b", {}, `step ${one.step}`), ` t = ${Math.round(one.timestep)}`)), make("p", { class: "sf-when" }, make("b", {}, "in the end")),
      make("p", { class: "sf-row-name" }, make("b", {}, "Recovered"), make("span", {}, " the clean image that each step would answer with")), made(null),
      make("img", { class: "sf-end", src: pane.image, alt: "The image that the run made in the end" }),
      pane.rows.map((row) => [make("p", { class: "sf-row-name" }, make("b", {}, row.label), word(row), make("span", {}, " " + row.aid)), ...made(row), make("span")]).flat())),
    (props.value.links || [])[number] ? make("nav", { class: "sf-take", "aria-label": "Downloads" }, props.value.links[number].map(({ text, href }) => make("a", { href, download: "" }, text)), number ? null : linkButton("Copy a link to this", () => addressIs(props.value.link))) : null);
}

function show() {
  const value = props.value || {};
  cells = [];
  if (!value.panes) {
    root.replaceChildren(make("div", { class: "sf-empty" }, make("p", {}, value.empty || "Nothing has been made yet."),
      (value.examples || []).length ? make("div", { class: "sf-examples" }, value.examples.map((text) => make("button", { type: "button", class: "sf-quiet", onclick: () => trigger("example", { text }) }, text))) : null));
    delete root.dataset.ready;
    return;
  }
  colours ??= heat.bytes(value.colours);
  if (view.key !== value.key && value.link) addressIs(value.link);
  if (view.key !== value.key) Object.assign(view, { key: value.key, cell: null, words: {}, together: value.panes.length > 1 });
  const several = value.panes.length > 1, wide = value.panes.some((pane) => pane.steps.length > 4);
  root.replaceChildren(
    make("div", { class: "sf-panes sf-steps-panes" + (several && !wide ? " two" : "") }, value.panes.map((pane, number) => block(pane, number, several))),
    cells.some((cell) => cell.row) ? controls() : "",
    make("div", { class: "sf-chosen" }));
  const mine = ++ready;
  Promise.all(cells.map((cell) => cell.picture.decode().catch(() => null))).then(() => {
    if (mine !== ready) return;
    paint();
    root.dataset.ready = value.key;
  });
}
show();
watch("value", show);
