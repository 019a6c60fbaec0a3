// A denoiser drawn from its module tree: a U of resolution levels, or a column. Blocks open; layers are picked.
const root = make("div", { class: "sf-schematic" });
element.replaceChildren(root);
let seen;  // the value that is drawn
let open = null, full = false, said = "", width = 0;
const SVG = "http://www.w3.org/2000/svg";
const draw = (tag, attributes = {}, ...children) => {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
};
const chosen = () => (props.value || {}).chosen || [];

function toggle(name) {
  const { most = 1 } = props.value, now = chosen();
  said = "";
  let next;
  if (now.includes(name)) next = now.filter((one) => one !== name);
  else if (most === 1) next = [name];
  else if (now.length >= most) { said = `At most ${most} layers are shown at a time; take one away first.`; next = now; }
  else next = [...now, name];
  props.value = { ...props.value, chosen: next };
  trigger("picked", { chosen: next });
  show();
}
const pressed = (act) => (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); event.stopPropagation(); act(); } };
function moved(event) {  // arrow keys go from block to block and from layer to layer
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const all = Array.from(root.querySelectorAll("svg [tabindex]")), at = all.indexOf(document.activeElement);
  if (at < 0) return;
  all[(at + step + all.length) % all.length].focus();
  event.preventDefault();
}

const HEAD = 23, CELL = 22, TALL = HEAD + CELL + 9, GAP = 12;
function places(blocks, levels) {  // where each block stands: x, y, width of each, and the height of all
  const spots = new Map();
  if (blocks.every((block) => block.side === "column")) {
    const across = width > 620 && blocks.length > 8 ? 2 : 1, wide = Math.min(460, (width - 2 - GAP * (across - 1)) / across);
    const rows = Math.ceil(blocks.length / across);
    blocks.forEach((block, i) => spots.set(block, { x: 1 + Math.floor(i / rows) * (wide + GAP), y: 1 + (i % rows) * (TALL + GAP), w: wide }));
    return { spots, tall: rows * (TALL + GAP), u: false };
  }
  const inset = Math.min(46, width * 0.045), gutter = Math.min(60, width * 0.07);
  let y = 16;
  levels.forEach((_, level) => {
    const left = blocks.filter((block) => block.level === level && block.side === "down");
    const right = blocks.filter((block) => block.level === level && block.side === "up").reverse();
    const rows = Math.max(left.length, right.length), wide = (width - gutter) / 2 - inset * level - 1;
    left.forEach((block, i) => spots.set(block, { x: 1 + inset * level, y: y + i * (TALL + GAP), w: wide }));
    right.forEach((block, i) => spots.set(block, { x: (width + gutter) / 2, y: y + (i + rows - right.length) * (TALL + GAP), w: wide }));
    y += rows * (TALL + GAP) + (rows ? 14 : 0);
  });
  const middle = blocks.filter((block) => block.side === "middle"), deep = inset * levels.length;
  const wide = Math.min((width - 2 * deep - GAP * (middle.length - 1)) / middle.length, 260);
  const all = wide * middle.length + GAP * (middle.length - 1);
  middle.forEach((block, i) => spots.set(block, { x: (width - all) / 2 + i * (wide + GAP), y, w: wide }));
  return { spots, tall: y + (middle.length ? TALL + 2 : 0), u: true };
}

function cell(layer, x, y, size, number) {
  const on = chosen().includes(layer.name), within = chosen().some((name) => name.startsWith(layer.name + "."));
  const act = () => { toggle(layer.name); root.querySelector(`[data-layer="${CSS.escape(layer.name)}"]`)?.focus(); };
  const sign = layer.role === "attention" ? "A" : layer.role === "sampling" ? "⇅" : String(number);
  return draw("g", { class: "sf-unit " + layer.role, role: "checkbox", "aria-checked": on ? "true" : within ? "mixed" : "false", tabindex: "0", "data-layer": layer.name,
      "aria-label": `${layer.name}, ${layer.kind}, ${layer.size}`, onclick: (event) => { event.stopPropagation(); act(); }, onkeydown: pressed(act) },
    draw("title", {}, `${layer.name}\n${layer.kind}, ${layer.size} (channels × height × width)`),
    draw("rect", { x, y, width: size, height: CELL, rx: 4 }),
    size >= 11 ? draw("text", { x: x + size / 2, y: y + 15, "text-anchor": "middle" }, sign) : null);
}
function shortened(text, room) {
  const most = Math.max(3, Math.floor(room / 6.9));
  return text.length <= most ? text : "…" + text.slice(text.length - most + 1);
}
function box(block, spot) {
  const act = () => { open = open === block.name ? null : block.name; full = false; show(); root.querySelector(`[data-block="${CSS.escape(block.name)}"]`)?.focus(); };
  const cells = block.layers.filter((layer) => layer.cell), count = Math.max(1, cells.length);
  const size = Math.min(26, (spot.w - 14 - 3 * (count - 1)) / count), grid = props.value.levels[block.level];
  const whole = chosen().includes(block.name), roomy = spot.w > 150, inside = block.layers.filter((layer) => chosen().includes(layer.name) && !cells.some((one) => layer.name === one.name || layer.name.startsWith(one.name + "."))).length;
  return draw("g", { class: "sf-block" + (open === block.name ? " open" : "") + (whole ? " whole" : "") },
    draw("g", { class: "sf-blockhead", role: "button", tabindex: "0", "aria-expanded": String(open === block.name), "data-block": block.name,
        "aria-label": `${block.name}, ${block.kind}, ${block.layers.length} layers, grid ${grid}`, onclick: act, onkeydown: pressed(act) },
      draw("title", {}, `${block.name}: ${block.kind}, ${block.layers.length} layers on ${grid}. Open it to see them all.`),
      draw("rect", { class: "sf-box", x: spot.x, y: spot.y, width: Math.max(8, spot.w), height: TALL, rx: 8 }),
      draw("text", { class: "sf-blockname", x: spot.x + 8, y: spot.y + 16 }, shortened(block.name + (whole ? " ✓" : inside ? ` +${inside}` : ""), spot.w - (roomy ? 74 : 12))),
      roomy ? draw("text", { class: "sf-blockgrid", x: spot.x + spot.w - 8, y: spot.y + 16, "text-anchor": "end" }, grid) : null),
    cells.length && size >= 5 ? cells.map((layer, i) => cell(layer, spot.x + 7 + i * (size + 3), spot.y + HEAD + 2, size, i)) : null);
}

function picture(value) {
  const { spots, tall, u } = places(value.blocks, value.levels);
  const middle = (spot) => [spot.x + spot.w / 2, spot.y + TALL / 2];
  const way = value.blocks.map((block, i) => `${i ? "L" : "M"}${middle(spots.get(block)).map(Math.round).join(" ")}`).join("");
  const bridges = [];
  if (u) value.levels.forEach((_, level) => {
    const left = value.blocks.filter((one) => one.level === level && one.side === "down").pop();
    const right = value.blocks.find((one) => one.level === level && one.side === "up");
    if (!left || !right) return;
    const [from, to] = [spots.get(left), spots.get(right)], y = Math.max(from.y, to.y) + TALL / 2;
    bridges.push(draw("line", { class: "sf-bridge", x1: from.x + from.w, y1: y, x2: to.x, y2: y }));
  });
  return draw("svg", { viewBox: `0 0 ${width} ${tall}`, width, height: tall, role: "group", "aria-label": "The denoiser: blocks in order, each with its layers", onkeydown: moved },
    draw("path", { class: "sf-way", d: way }), bridges, value.blocks.map((block) => box(block, spots.get(block))));
}

function inside(block) {  // all layers of the block that is open
  const main = block.layers.filter((layer) => layer.main), listed = full ? block.layers : main;
  return make("div", { class: "sf-inside" },
    make("p", { class: "sf-eyebrow" }, `${block.name}, ${block.kind}: its layers in order of execution, with channels × height × width`),
    make("div", { class: "sf-layers", role: "group", "aria-label": "Layers of " + block.name }, listed.map((layer) =>
      make("button", { type: "button", class: "sf-layer " + layer.role, "aria-pressed": String(chosen().includes(layer.name)), title: layer.name, "data-inner": layer.name,
        onclick: () => { toggle(layer.name); root.querySelector(`[data-inner="${CSS.escape(layer.name)}"]`)?.focus(); } },
        make("b", {}, layer.short), make("span", {}, `${layer.kind} ${layer.size}`)))),
    block.layers.length > main.length ? make("button", { type: "button", class: "sf-quiet", onclick: () => { full = !full; show(); } },
      full ? "Only the main ones" : `All ${block.layers.length} layers`) : null);
}

function show() {
  seen = props.value;
  const value = props.value || {};
  if (!value.blocks) { root.replaceChildren(make("p", { class: "sf-eyebrow" }, value.empty || "")); return; }
  const room = root.clientWidth || 740, wide = room > 1020;
  width = wide ? 740 : Math.max(280, Math.min(820, room));
  const block = value.blocks.find((one) => one.name === open);
  const now = chosen();
  root.replaceChildren(
    make("p", { class: "sf-eyebrow" }, "Click a small field to pick that layer, or the name of a block to see all layers inside. A: attention; ⇅: changes the resolution; dashed: connections that skip the levels below."),
    make("div", { class: "sf-draft" + (wide ? " wide" : "") }, picture(value), block ? inside(block) : null),
    make("div", { class: "sf-picked", role: "status" },
      now.length ? make("span", {}, value.most > 1 ? `Picked ${now.length} of ${value.most}:` : "Picked:") : make("span", {}, value.note || ""),
      now.map((name) => make("button", { type: "button", class: "sf-quiet", title: "take away " + name, onclick: () => toggle(name) }, name, make("span", { "aria-hidden": "true" }, " ×"))),
      said ? make("strong", {}, said) : null));
}
show();
watch("value", show);
// A value that comes while its part of the page is being opened is told to nobody.
for (const wait of [50, 300, 1500]) setTimeout(() => { if (root.isConnected && props.value !== seen) show(); }, wait);
let last = 0;
new ResizeObserver(() => { const now = root.clientWidth; if (now && Math.abs(now - last) > 4) { last = now; show(); } }).observe(root);
