// One channel of every layer at one step; the slider asks the server for another channel, the film for another step.
const root = make("div", { class: "sf-maps" });
element.replaceChildren(root);
let seen;  // the value that is drawn
let key = null, asking = 0, step = 0;
const wanted = new Map();  // channels that somebody chose, by layer; all others follow the strongest
const cards = new Map();

function ask() {
  clearTimeout(asking);
  asking = setTimeout(() => trigger("maps", { step, channels: Object.fromEntries(wanted) }), 90);
}
function choose(name, channel) { if (channel === null) wanted.delete(name); else wanted.set(name, channel); ask(); }

function card(layer) {
  const id = own + "c" + cards.size;
  const image = make("img", { class: "coarse", alt: "" }), scale = make("span", { class: "sf-scale" });
  const slider = make("input", { id, type: "range", min: "0", max: String(layer.channels - 1), step: "1",
    oninput: (event) => { number.textContent = `${event.target.value} of ${layer.channels}`; choose(layer.name, Number(event.target.value)); } });
  const number = make("output", { for: id }), marks = make("div", { class: "sf-marks" });
  const body = make("figure", { class: "sf-map-card", "data-layer": layer.name },
    make("figcaption", { title: layer.name }, make("b", {}, layer.short), make("span", {}, `${layer.channels} channels on ${layer.grid}`)),
    make("div", { class: "sf-picture still", style: `aspect-ratio:${layer.aspect}` }, image),
    scale, make("label", { for: id }, "Channel ", number), slider, marks);
  return { body, update(now) {
    image.src = now.src;
    image.alt = `Channel ${now.channel} of ${now.name}`;
    scale.textContent = `dark ${now.low.toPrecision(2)} to bright ${now.high.toPrecision(2)}` + (now.share === null ? "" : `; ${Math.round(100 * now.share)}% of it in the part`);
    if (!wanted.has(now.name) || wanted.get(now.name) === now.channel) { slider.value = String(now.channel); number.textContent = `${now.channel} of ${now.channels}`; }
    const mark = (text, channel, title) => make("button", { type: "button", class: "sf-quiet", title, "aria-pressed": String(now.channel === channel), onclick: () => choose(now.name, channel) }, text);
    const held = document.activeElement, at = Array.from(marks.children).indexOf(held);
    marks.replaceChildren(
      mark(`strongest: ${now.strongest}`, now.strongest, "the channel with the largest sum at this step"),
      ...(now.inside === null ? [] : [mark(`in ${now.part === "drawn" ? "the drawn part" : now.part}: ${now.inside}`, now.inside, "the channel with the largest sum inside the chosen part")]),
      ...(now.follows ? [] : [make("button", { type: "button", class: "sf-quiet", title: "show the strongest channel of every step again", onclick: () => choose(now.name, null) }, "follow")]),
      ...(props.value.ablate ? [make("button", { type: "button", class: "sf-quiet", title: "make the image again without this channel", onclick: () => trigger("ablate", { layer: now.name, channel: now.channel }) }, "without it?")] : []));
    if (at >= 0) marks.children[Math.min(at, marks.children.length - 1)].focus();
  } };
}
function show() {
  seen = props.value;
  const value = props.value || {};
  if (!(value.layers || []).length) { root.replaceChildren(value.empty ? make("p", { class: "sf-eyebrow" }, value.empty) : ""); key = null; return; }
  const names = value.key + value.layers.map((layer) => layer.name).join();
  if (names !== key) {
    key = names;
    wanted.clear(); cards.clear();
    for (const layer of value.layers) cards.set(layer.name, card(layer));
    root.replaceChildren(make("h3", {}), make("p", { class: "sf-eyebrow" }, value.note), make("div", { class: "sf-map-cards" }, Array.from(cards.values(), (one) => one.body)));
  }
  step = value.step;
  root.querySelector("h3").textContent = value.title;
  for (const layer of value.layers) cards.get(layer.name).update(layer);
  root.dataset.step = String(value.step);
}
document.addEventListener("sf-step", (event) => {
  const value = props.value || {};
  if (!root.isConnected || !value.follows || event.detail.key !== value.follows) return;
  const to = Math.min(event.detail.step, value.steps - 1);
  if (to === step && to === value.step) return;
  step = to;
  ask();
});
show();
watch("value", show);
// A value that comes while its part of the page is being opened is told to nobody.
for (const wait of [50, 300, 1500]) setTimeout(() => { if (root.isConnected && props.value !== seen) show(); }, wait);
