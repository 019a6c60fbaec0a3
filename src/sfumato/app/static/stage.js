// Images with their words: hover or click a word to see its map, click a point or drag a region to see whose it is.
const SIDE = 512;
const root = make("div", { class: "sf-stage" });
element.replaceChildren(root);
const view = { key: null, word: null, hovered: null, opacity: 1, threshold: 0, together: false, step: 0, layer: "", head: "" };
let panes = [], colours = null, ready = 0;

class Pane {
  constructor(given, number, several) {
    Object.assign(this, given, fitted(given, SIDE), { number, cache: new Map(), marked: null });
    this.picture = make("img", { alt: given.alt, src: given.image, draggable: false });
    this.canvas = make("canvas", { class: "sf-map", "aria-hidden": "true", hidden: true });
    this.mark = make("div", { class: "sf-mark", hidden: true });
    this.cross = make("div", { class: "sf-cross", hidden: true });
    this.frame = make("div", {
      class: "sf-picture", tabindex: "0", role: "application", style: `aspect-ratio:${given.width}/${given.height}`,
      "aria-label": given.alt + ". Click a point or drag a region to see which words own it; or move the cross with the arrow keys and press Enter.",
    }, this.picture, this.canvas, this.mark, this.cross);
    this.chips = make("div", { class: "sf-chips" + (given.words.length > 14 ? " many" : ""), role: "group", "aria-label": "Words of the prompt", dir: "auto" },
      given.words.map((word, place) => this.chip(word, place)));
    this.readout = make("p", { class: "sf-readout", role: "status", "aria-live": "polite" });
    this.owners = make("div", { class: "sf-owners" });
    this.column = make("div", { class: "sf-pane" },
      several ? make("p", { class: "sf-title" }, given.title) : null,
      make("figure", {}, this.frame),
      make("div", { class: "sf-side" }, given.words.length ? make("p", { class: "sf-eyebrow" }, given.question) : make("p", { class: "sf-eyebrow" }, given.none),
        this.chips, notesOf(given.notes), this.readout, this.owners,
        make("p", { class: "sf-facts" }, given.facts),
        given.words.length ? make("figure", { class: "sf-original" }, make("img", { alt: "The image without a map", src: given.image }), make("figcaption", {}, "as generated")) : null));
    this.listen();
  }
  chip(word, place) {
    const note = word.note ? make("small", {}, word.note) : null;
    if (!word.map) return make("span", { class: "sf-chip unseen", title: "not seen by the model" }, word.label, note);
    return make("button", {
      type: "button", class: "sf-chip", "aria-pressed": "false", "data-word": word.label, style: `--share:${100 * word.size}%`, title: word.caveat || null,
      onmouseenter: () => hover(word.label), onmouseleave: () => hover(null),
      onfocus: (event) => { if (event.target.matches(":focus-visible")) hover(word.label); }, onblur: () => hover(null),
      onclick: () => { view.word = view.word === word.label ? null : word.label; if (view.word === null) view.hovered = null; paint(); remember(); },
      onkeydown: (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        const all = Array.from(this.chips.querySelectorAll("button"));
        all[(all.indexOf(event.currentTarget) + step + all.length) % all.length].focus();
        event.preventDefault();
      },
    }, word.label, note);
  }
  place(label) { return this.words.findIndex((word) => word.map && word.label === label); }
  fine(place) {
    if (!this.cache.has(place)) this.cache.set(place, heat.enlarged(this.words[place].map, this.tall, this.wide));
    return this.cache.get(place);
  }
  paint(scale) {
    const label = view.hovered ?? view.word, place = label === null ? -1 : this.place(label);
    this.canvas.hidden = place < 0 || !this.picture.complete || !this.picture.naturalWidth;
    for (const chip of this.chips.querySelectorAll("button")) {
      chip.classList.toggle("shown", chip.dataset.word === label);
      chip.setAttribute("aria-pressed", String(chip.dataset.word === view.word));
    }
    if (place < 0) { this.readout.textContent = label === null ? this.hint : `“${label}” is not in this prompt.`; return; }
    const fine = this.fine(place);
    if (this.canvas.hidden) return;
    this.under ??= heat.pixels(this.picture, this.tall, this.wide);
    const covered = heat.paint(this.canvas, fine, this.under, {
      tall: this.tall, wide: this.wide, colours, dim: props.value.dim, most: view.opacity, tau: view.threshold, scale,
    });
    this.readout.textContent = heat.reading(this.words[place], { covered, tau: view.threshold, peak: { top: fine.top, unit: this.unit } });
  }
  range() {
    let low = Infinity, high = -Infinity;
    this.words.forEach((word, place) => { if (word.map) { const f = this.fine(place); low = Math.min(low, f.low); high = Math.max(high, f.top); } });
    return [low, high];
  }
  at(event) { return placeOf(event, this.frame); }
  listen() {
    let from = null;
    this.frame.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.words.length) return;
      from = this.at(event);
      this.frame.setPointerCapture(event.pointerId);
    });
    this.frame.addEventListener("pointermove", (event) => {
      if (from === null) return;
      const to = this.at(event);
      if (Math.hypot(to[0] - from[0], to[1] - from[1]) > 0.02) this.box(from, to);
    });
    this.frame.addEventListener("pointerup", (event) => {
      if (from === null) return;
      const to = this.at(event), moved = Math.hypot(to[0] - from[0], to[1] - from[1]) > 0.02;
      this.own(from, moved ? to : from);
      from = null;
    });
    this.frame.addEventListener("pointercancel", () => { from = null; });
    this.frame.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && this.at_cross) this.own(this.at_cross, this.at_cross);
      this.at_cross = moveCross(event, this.cross, this.at_cross || [0.5, 0.5]) || this.at_cross;
    });
  }
  box([x, y], [u, v]) {
    this.mark.hidden = false;
    const point = x === u && y === v;
    this.mark.classList.toggle("point", point);
    this.mark.style.left = 100 * Math.min(x, u) + "%"; this.mark.style.top = 100 * Math.min(y, v) + "%";
    this.mark.style.width = point ? "" : 100 * Math.abs(x - u) + "%"; this.mark.style.height = point ? "" : 100 * Math.abs(y - v) + "%";
  }
  own(from, to) {
    this.marked = [from, to];
    this.box(from, to);
    const [left, right] = [from[0], to[0]].sort((a, b) => a - b).map((x) => Math.floor(x * this.wide));
    const [top, bottom] = [from[1], to[1]].sort((a, b) => a - b).map((y) => Math.floor(y * this.tall));
    const found = [];
    this.words.forEach((word, place) => {
      if (!word.map) return;
      const { values, low, span } = this.fine(place);
      let all = 0, here = 0;
      for (const value of values) all += Math.max(0, low + span * value);
      for (let y = top; y <= bottom; y++) for (let x = left; x <= right; x++) here += Math.max(0, low + span * values[y * this.wide + x]);
      const mean = here / ((right - left + 1) * (bottom - top + 1));
      found.push({ label: word.label, mean, times: mean / (all / values.length || 1) });
    });
    const sum = found.reduce((total, one) => total + one.mean, 0) || 1;
    found.sort((a, b) => b.times - a.times);
    const most = Math.max(...found.map((one) => one.times), 1e-9);
    const where = from === to || (from[0] === to[0] && from[1] === to[1])
      ? `the point x ${Math.floor(from[0] * this.width)}, y ${Math.floor(from[1] * this.height)}` : "the region";
    this.owners.replaceChildren(
      make("p", { class: "sf-eyebrow" }, `Whose is ${where}? Each word’s map there, as a multiple of its mean over the image.`),
      make("ol", {}, found.slice(0, 6).map((one) => make("li", {},
        make("button", { type: "button", class: "sf-owner", onclick: () => { view.word = one.label; paint(); remember(); } },
          make("b", {}, one.label), make("i", { style: `--share:${100 * one.times / most}%` }),
          make("span", {}, `${one.times.toFixed(1)} ×, ${heat.percent(one.mean / sum)} of all`))))),
      make("button", { type: "button", class: "sf-quiet", onclick: () => { this.mark.hidden = true; this.marked = null; this.owners.replaceChildren(); } }, "Clear"),
    );
  }
}

function hover(label) { view.hovered = label; paint(); }
function paint() {
  let scale = null;
  if (view.together && panes.length) {
    const ranges = panes.map((pane) => pane.range());
    scale = [Math.min(...ranges.map((r) => r[0])), Math.max(...ranges.map((r) => r[1]))];
  }
  for (const pane of panes) pane.paint(scale);
}

let asking = 0;
function pick() {
  clearTimeout(asking);
  asking = setTimeout(() => trigger("pick", { step: view.step, layer: view.layer, head: view.head }), 120);
  remember();
}

// The view in the address, so that the link that a visitor copies shows the same.
function remember() {
  if (!props.value || !props.value.link) return;
  const query = new URLSearchParams(props.value.link);
  const extra = { word: view.word, opacity: view.opacity === 1 ? null : view.opacity, threshold: view.threshold || null,
    together: view.together || null, at_step: view.step || null, layer: view.layer || null, head: view.head === "" ? null : view.head };
  for (const [name, value] of Object.entries(extra)) if (value !== null && value !== "") query.set(name, value);
  addressIs(query);
}

function slider(label, attributes, shown, change) {
  const id = own + label.replace(/\W/g, "");
  const output = make("output", { for: id }, shown(Number(attributes.value)));
  return make("div", {}, make("label", { for: id }, label, output),
    make("input", { id, type: "range", ...attributes, oninput: (event) => { const value = Number(event.target.value); output.textContent = shown(value); change(value); } }));
}
function picker(label, options, value, change) {
  const id = own + label.replace(/\W/g, "");
  return make("div", {}, make("label", { for: id }, label),
    make("select", { id, onchange: (event) => change(event.target.value) },
      options.map(([key, text]) => make("option", { value: key, selected: key === value }, text))));
}
function controls(value) {
  const { steps = 0, layers = [], heads = 0 } = value.axes || {};
  return make("div", { class: "sf-controls" },
    slider("Overlay", { min: "0", max: "100", step: "5", value: String(100 * view.opacity) }, (v) => v + "%", (v) => { view.opacity = v / 100; paint(); remember(); }),
    slider("Threshold", { min: "0", max: "95", step: "5", value: String(100 * view.threshold) }, (v) => v ? (v / 100).toFixed(2) + " of the peak" : "off", (v) => { view.threshold = v / 100; paint(); remember(); }),
    picker("Colours", [["own", "from each map’s own lowest to highest"], ["all", "the same for all words"]], view.together ? "all" : "own", (v) => { view.together = v === "all"; paint(); remember(); }),
    steps ? slider("Step", { min: "0", max: String(steps), step: "1", value: String(view.step) }, (v) => v ? `${v} of ${steps}` : `all ${steps}`, (v) => { view.step = v; pick(); }) : null,
    layers.length ? picker("Layer", [["", "all layers"], ...layers.map((name) => [name, name])], view.layer, (v) => { view.layer = v; pick(); }) : null,
    heads ? picker("Head", [["", "all heads"], ...Array.from({ length: heads }, (_, i) => [String(i), "head " + i])], view.head, (v) => { view.head = v; pick(); }) : null,
    make("div", { class: "sf-share" }, linkButton("Copy a link to this view", remember)));
}

function empty(value) {
  return make("div", { class: "sf-empty" }, make("p", {}, value.empty || "Nothing has been made yet."),
    (value.examples || []).length ? make("div", { class: "sf-examples" }, value.examples.map((text) =>
      make("button", { type: "button", class: "sf-quiet", onclick: () => trigger("example", { text }) }, text))) : null);
}

function show() {
  const value = props.value || {};
  if (!value.panes) { panes = []; root.replaceChildren(empty(value)); return; }
  const same = view.key === value.key;
  const marks = same ? panes.map((pane) => pane.marked) : [];
  colours ??= heat.bytes(value.colours);
  if (!same) {
    Object.assign(view, { key: value.key, word: null, hovered: null, opacity: 1, threshold: 0, together: value.panes.length > 1, step: 0, layer: "", head: "" }, value.view || {});
    if (view.word === null) view.word = value.first;
  }
  panes = value.panes.map((pane, number) => new Pane(pane, number, value.panes.length > 1));
  const held = same && root.querySelector(".sf-controls");  // kept, so that a slider that is being dragged stays in hand
  const row = make("div", { class: "sf-panes" + (panes.length > 1 ? " two" : "") }, panes.map((pane) => pane.column));
  root.replaceChildren(row, panes.some((pane) => pane.words.length) ? held || controls(value) : "");
  const mine = ++ready;
  Promise.all(panes.map((pane) => pane.picture.decode().catch(() => null))).then(() => {
    if (mine !== ready) return;
    paint();
    panes.forEach((pane, number) => { if (marks[number]) pane.own(...marks[number]); });
    root.dataset.ready = value.key;
    if (!same) remember();
  });
}
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && root.offsetParent) { view.word = view.hovered = null; paint(); } });
show();
watch("value", show);
