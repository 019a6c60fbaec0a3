(() => {
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const all = (selector) => Array.from(document.querySelectorAll(selector));
const byId = (id) => document.getElementById(id);
const chips = all(".chip[data-place]");
const tabs = all("[role=tab]");
const canvas = byId("canvas"), readout = byId("readout");
const strength = byId("strength"), threshold = byId("threshold");
const colours = heat.bytes(data.colours);
const state = { image: 0, pinned: null, hovered: null };

const enlarged = new Map();
function fine(image, place) {
  const key = image + "/" + place;
  if (!enlarged.has(key)) {
    enlarged.set(key, heat.enlarged(data.images[image].words[place], data.tall, data.wide));
  }
  return enlarged.get(key);
}

const pixels = [];
function below(image) {
  pixels[image] ??= heat.pixels(byId("image-" + image), data.tall, data.wide);
  return pixels[image];
}

function draw(place) {
  canvas.hidden = place === null;
  if (place === null) return null;
  return heat.paint(canvas, fine(state.image, place), below(state.image), {
    tall: data.tall, wide: data.wide, colours, dim: data.dim, most: strength.value / 100, tau: threshold.value / 100,
  });
}

function show() {
  const place = state.hovered ?? state.pinned;
  const rows = data.images[state.image].rows;
  const largest = Math.max(1e-12, ...rows.map((row) => (row && row.share) || 0));
  const covered = canvas && strength ? draw(place) : null;
  for (const chip of chips) {
    const here = Number(chip.dataset.place);
    chip.classList.toggle("shown", here === place);
    chip.setAttribute("aria-pressed", String(here === state.pinned));
    chip.style.setProperty("--share", 100 * ((rows[here] && rows[here].share) || 0) / largest + "%");
  }
  if (byId("strength-value")) {
    byId("strength-value").textContent = strength.value + "%";
    byId("threshold-value").textContent = Number(threshold.value) ? (threshold.value / 100).toFixed(2) + " of the peak" : "off";
  }
  const row = place === null ? null : rows[place];
  if (!row) { readout.textContent = data.hint; return; }
  const peak = { top: fine(state.image, place).top, unit: data.unit, at: row.peak };
  const tau = threshold ? threshold.value / 100 : 0;
  readout.textContent = heat.reading(row, { covered, tau, peak });
}

function choose(image) {
  state.image = image;
  tabs.forEach((tab, i) => {
    tab.setAttribute("aria-selected", String(i === image));
    tab.tabIndex = i === image ? 0 : -1;
  });
  for (const part of all("[data-image]")) part.hidden = Number(part.dataset.image) !== image;
  show();
}

chips.forEach((chip, i) => {
  const place = Number(chip.dataset.place);
  const enter = () => { state.hovered = place; show(); };
  const leave = () => { state.hovered = null; show(); };
  chip.addEventListener("mouseenter", enter);
  chip.addEventListener("mouseleave", leave);
  chip.addEventListener("focus", () => { if (chip.matches(":focus-visible")) enter(); });
  chip.addEventListener("blur", leave);
  chip.addEventListener("click", () => {
    state.pinned = state.pinned === place ? null : place;
    if (state.pinned === null) state.hovered = null;
    show();
  });
  chip.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) { chips[(i + step + chips.length) % chips.length].focus(); event.preventDefault(); }
  });
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") { state.pinned = state.hovered = null; show(); }
});
for (const item of all(".tile[data-place], tr[data-place]:not(.unseen)"))
  item.addEventListener("click", () => {
    state.pinned = Number(item.dataset.place);
    show();
    document.querySelector(".stage").scrollIntoView({ block: "nearest" });
  });
tabs.forEach((tab, i) => {
  tab.addEventListener("click", () => choose(i));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) { const next = (i + step + tabs.length) % tabs.length; tabs[next].focus(); choose(next); event.preventDefault(); }
  });
});
for (const slider of [strength, threshold]) if (slider) slider.addEventListener("input", show);
state.pinned = data.first;
const ready = all(".picture > img").map((image) => image.decode().catch(() => null));
Promise.all(ready).then(() => choose(0));
})();
