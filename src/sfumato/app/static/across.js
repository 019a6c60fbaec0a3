// A generated image and its reference: click a point of one to see where it is on the other. The server answers from
// what was kept of the run; the heads and the parts of the run are strips below, each of which can be chosen.
const root = make("div", { class: "sf-across" });
element.replaceChildren(root);
let colours = null, ready = 0, key = null, asked = {}, opacity = 0.85;
const cursors = { image: [0.5, 0.5], reference: [0.5, 0.5] };
const OTHER = { image: "reference", reference: "image" };

function ask(change) {
  asked = { ...asked, ...change };
  trigger("ask", asked);
}
const box = ([left, upper, right, lower], kind = "") => make("div", { class: "sf-mark " + kind, style: `left:${100 * left}%;top:${100 * upper}%;width:${100 * (right - left)}%;height:${100 * (lower - upper)}%` });
const spot = (x, y, picture) => make("div", { class: "sf-mark point", style: `left:${100 * (x + 0.5) / picture.width}%;top:${100 * (y + 0.5) / picture.height}%` });

function paint(canvas, image, map, picture, most) {
  const { tall, wide } = fitted(picture, most);
  heat.paint(canvas, heat.enlarged(map, tall, wide), heat.pixels(image, tall, wide), { tall, wide, colours, dim: props.value.dim, most: opacity, tau: 0, scale: null });
}

function frame(which, value) {
  const picture = value[which], question = value.asked, from = question.side === which;
  const image = make("img", { src: picture.src, alt: picture.alt, draggable: false });
  const canvas = make("canvas", { class: "sf-map", "aria-hidden": "true", hidden: true });
  const cross = make("div", { class: "sf-cross", hidden: true });
  const clickable = which === "image" || value.patches;
  const made = make("div", {
    class: "sf-picture" + (clickable ? "" : " still"), tabindex: "0", role: "application", style: `aspect-ratio:${picture.width}/${picture.height}`, "data-side": which,
    "aria-label": picture.alt + (clickable ? `. Click a point to see where it is on the ${which === "image" ? "reference" : "painted image"}; or move the cross with the arrow keys and press Enter.` : "."),
  }, image, canvas, which === "image" && value.outline ? make("img", { src: value.outline, alt: "", class: "sf-outline", draggable: false }) : null);
  const point = ([x, y]) => { if (clickable) ask({ side: which, x: Math.floor(x * picture.width), y: Math.floor(y * picture.height) }); };
  made.addEventListener("click", (event) => point(placeOf(event, made)));
  made.addEventListener("keydown", (event) => {
    if (event.key === "Enter") { point(cursors[which]); event.preventDefault(); return; }
    cursors[which] = moveCross(event, cross, cursors[which]) || cursors[which];
  });
  if (from && question.x !== null) {
    if (value.patch && which === "reference") made.append(box(value.patch, "asked"));
    made.append(spot(question.x, question.y, picture));
  }
  if (!from) { made.append(box(value.answer.box, "best")); made.dataset.best = value.answer.box.map((one) => one.toFixed(4)).join(" "); }
  if (!from && which === "reference" && value.truth) made.append(make("div", { class: "sf-truth", style: `left:${100 * value.truth[0]}%;top:${100 * value.truth[1]}%` }));
  made.append(cross);
  return { made, image, canvas, which };
}

function words(value) {
  const question = value.asked, { times, peak } = value.answer;
  const much = Number.isFinite(times) ? `${times.toFixed(1)} times an even share` : "";
  if (question.x === null) return `All of the painted part together looked most at the framed place of the reference (${heat.percent(peak)} of its attention, ${much}). Click a point to ask of it alone.`;
  if (question.side === "image") return `The point x ${question.x}, y ${question.y} of the painted image looked most at the framed place of the reference: ${heat.percent(peak)} of its attention, ${much}.`;
  return `The framed patch at x ${question.x}, y ${question.y} of the reference was looked at most by the framed place of the painted image: ${peak.toFixed(1)} times an even share.`;
}

function strip(value, axis, title, name) {
  const maps = value.strips[axis];
  if (!maps.length) return null;
  const target = OTHER[value.asked.side], picture = value[target];
  const items = [null, ...maps.keys()].map((place) => {
    const image = make("img", { src: picture.src, alt: "", draggable: false }), canvas = make("canvas", { "aria-hidden": "true" });
    const map = place === null ? null : maps[place];
    const label = place === null ? `all` : name(place, maps.length);
    return { image, canvas, map, made: make("button", {
      type: "button", class: "sf-tile", "aria-pressed": String(value.asked[axis] === place), "data-axis": axis, "data-place": place === null ? "all" : String(place),
      "aria-label": `${title}: ${label}`, onclick: () => ask({ [axis]: place }),
    }, map ? make("span", { class: "sf-tile-picture", style: `aspect-ratio:${picture.width}/${picture.height}` }, image, canvas, box(map.box, "best")) : null, make("span", {}, label)) };
  });
  return { items, made: make("section", { class: "sf-strip-of" }, make("p", { class: "sf-eyebrow" }, title), make("div", { class: "sf-tiles", role: "group", "aria-label": title }, items.map((one) => one.made))) };
}

function controls(value) {
  const id = own + "opacity", layerId = own + "layer";
  const output = make("output", { for: id }, Math.round(100 * opacity) + "%");
  return make("div", { class: "sf-controls" },
    make("div", {}, make("label", { for: id }, "Overlay", output),
      make("input", { id, type: "range", min: "0", max: "100", step: "5", value: String(Math.round(100 * opacity)), oninput: (event) => { opacity = event.target.value / 100; output.textContent = event.target.value + "%"; redraw(); } })),
    make("div", {}, make("label", { for: layerId }, "Layer, the finest first"),
      make("select", { id: layerId, onchange: (event) => ask({ layer: event.target.value || null }) },
        [["", "all layers"], ...value.layers.map((name) => [name, name.replace(/\.transformer_blocks.*/, "")])].map(([one, text]) => make("option", { value: one, selected: (value.asked.layer || "") === one }, text)))),
    make("div", { class: "sf-share" }, make("button", { type: "button", class: "sf-quiet", onclick: () => ask({ side: "image", x: null, y: null, group: null, head: null, layer: null }) }, "Ask of all that was painted")));
}

let redraw = () => {};
function show() {
  const value = props.value || {};
  if (!value.image) {
    root.replaceChildren(make("div", { class: "sf-empty" }, make("p", {}, value.empty || "Nothing has been painted yet.")));
    delete root.dataset.ready;
    return;
  }
  colours ??= heat.bytes(value.colours);
  asked = { ...value.asked };
  if (key !== value.key) key = value.key;
  const active = document.activeElement, focused = root.contains(active) ? active.dataset.side ? `[data-side="${active.dataset.side}"]` : active.dataset.axis ? `[data-axis="${active.dataset.axis}"][data-place="${active.dataset.place}"]` : "" : "";
  const left = frame("image", value), right = frame("reference", value);
  const where = value.asked.side === "image" ? "reference" : "image", onto = where === "image" ? left : right;
  const times = strip(value, "group", "By part of the run, from noise to image", (place, count) => `part ${place + 1} of ${count}`);
  const heads = strip(value, "head", "By head of the attention", (place) => `head ${place}`);
  root.replaceChildren(
    make("p", { class: "sf-readout", role: "status", "aria-live": "polite" }, words(value)),
    value.causal ? "" : make("p", { class: "sf-eyebrow" }, "This model reads the reference as one token: its attention is 1 everywhere and has no say in the image."),
    value.patches ? "" : make("p", { class: "sf-eyebrow" }, "The tokens of this model are no places of the reference; the heat over it only counts them."),
    make("div", { class: "sf-panes two sf-pictures" },
      make("div", {}, make("h3", {}, "Painted"), make("figure", {}, left.made), make("p", { class: "sf-note" }, "Click inside the outline: where did this place come from?")),
      make("div", {}, make("h3", {}, "Reference"), make("figure", {}, right.made), make("p", { class: "sf-note" }, value.patches ? "Click a part of the object: where did it go?" : ""))),
    make("p", { class: "sf-eyebrow" }, "How to read it: the ring is what you asked about; bright places of the other picture go with it, the white frame is the strongest." + (value.truth ? " The cross is where the point truly comes from: this example was drawn here, so that is known." : "")),
    controls(value), times ? times.made : "", heads ? heads.made : "",
    value.links ? make("nav", { class: "sf-take", "aria-label": "Downloads" }, value.links.map(({ text, href }) => make("a", { href, download: "" }, text))) : "");
  if (focused) root.querySelector(focused)?.focus();
  redraw = () => {
    onto.canvas.hidden = false;
    paint(onto.canvas, onto.image, value.answer, value[where], 448);
    for (const each of [times, heads]) for (const one of each ? each.items : []) if (one.map) paint(one.canvas, one.image, one.map, value[where], 128);
  };
  const mine = ++ready, all = [left.image, right.image, ...[times, heads].flatMap((each) => each ? each.items.filter((one) => one.map).map((one) => one.image) : [])];
  Promise.all(all.map((image) => image.decode().catch(() => null))).then(() => {
    if (mine !== ready) return;
    redraw();
    root.dataset.ready = [value.key, value.asked.side, value.asked.x, value.asked.y, value.asked.group, value.asked.head, value.asked.layer].join(" ");
  });
}
show();
watch("value", show);
