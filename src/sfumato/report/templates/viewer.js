(() => {
"use strict";
// Maps arrive as 16-bit numbers from each map's minimum to its maximum and are enlarged here as torch and the
// Python side do it: bicubic, a = -0.75, cell centres aligned, edges repeated.
const data = JSON.parse(document.getElementById("data").textContent);
const all = (selector) => Array.from(document.querySelectorAll(selector));
const byId = (id) => document.getElementById(id);
const chips = all(".chip[data-place]");
const tabs = all("[role=tab]");
const canvas = byId("canvas"), readout = byId("readout");
const strength = byId("strength"), threshold = byId("threshold");
const state = { image: 0, pinned: null, hovered: null };
const percent = (share) => (share >= 0.0995 ? Math.round(100 * share) : (100 * share).toFixed(1)) + "%";

function bytes(text) {
  const raw = atob(text);
  return Uint8Array.from(raw, (c) => c.charCodeAt(0));
}

function taps(nIn, nOut) {
  const A = -0.75;
  const cubic = (d) => d <= 1 ? ((A + 2) * d - (A + 3)) * d * d + 1 : d < 2 ? (((d - 5) * d + 8) * d - 4) * A : 0;
  return Array.from({ length: nOut }, (_, i) => {
    const centre = (i + 0.5) * nIn / nOut - 0.5, left = Math.floor(centre);
    return [-1, 0, 1, 2].map((t) => [Math.min(nIn - 1, Math.max(0, left + t)), cubic(Math.abs(centre - left - t))]);
  });
}

function bicubic(map, height, width, tall, wide) {
  const rows = taps(height, tall), columns = taps(width, wide);
  const half = new Float64Array(height * wide), full = new Float64Array(tall * wide);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < wide; x++)
      for (const [cell, weight] of columns[x]) half[y * wide + x] += weight * map[y * width + cell];
  for (let y = 0; y < tall; y++)
    for (const [cell, weight] of rows[y])
      for (let x = 0; x < wide; x++) full[y * wide + x] += weight * half[cell * wide + x];
  return full;
}

const enlarged = new Map();
function fine(image, place) {
  const key = image + "/" + place;
  if (!enlarged.has(key)) {
    const { map, low, high, grid } = data.images[image].words[place];
    const raw = bytes(map), coarse = new Float64Array(raw.length / 2);
    for (let i = 0; i < coarse.length; i++) coarse[i] = (raw[2 * i] + 256 * raw[2 * i + 1]) / 65535;
    const values = bicubic(coarse, grid[0], grid[1], data.tall, data.wide);
    let top = -Infinity;
    for (const v of values) top = Math.max(top, v);
    enlarged.set(key, { values, low, span: high - low, top: low + (high - low) * top });
  }
  return enlarged.get(key);
}

const pixels = [];
function below(image) {
  if (!pixels[image]) {
    const scratch = document.createElement("canvas");
    scratch.width = data.wide; scratch.height = data.tall;
    const pen = scratch.getContext("2d", { willReadFrequently: true });
    pen.imageSmoothingQuality = "high";
    pen.drawImage(byId("image-" + image), 0, 0, data.wide, data.tall);
    pixels[image] = pen.getImageData(0, 0, data.wide, data.tall).data;
  }
  return pixels[image];
}

function draw(place) {
  canvas.hidden = place === null;
  if (place === null) return null;
  const { values, low, span, top } = fine(state.image, place);
  const under = below(state.image), colours = bytes(data.colours);
  const most = strength.value / 100, tau = threshold.value / 100;
  const wide = data.wide, tall = data.tall;
  const marked = new Uint8Array(values.length);
  let covered = 0;
  const limit = top > 0 ? (tau || 0.4) * top : Infinity;
  for (let i = 0; i < values.length; i++) covered += marked[i] = low + span * values[i] >= limit ? 1 : 0;
  canvas.width = wide; canvas.height = tall;
  const pen = canvas.getContext("2d"), out = pen.createImageData(wide, tall);
  const edge = Math.max(1, Math.floor(Math.min(wide, tall) / 256));
  for (let y = 0, i = 0; y < tall; y++) for (let x = 0; x < wide; x++, i++) {
    const v = Math.min(1, Math.max(0, values[i])), j = 4 * i, c = 3 * Math.round(255 * v);
    const luminance = 0.2126 * under[j] + 0.7152 * under[j + 1] + 0.0722 * under[j + 2];
    const grey = 255 * data.dim[0] + (data.dim[1] - data.dim[0]) * luminance;
    let alpha = 0.92 * Math.min(1, 1.25 * v) ** 1.2;
    let line = false;
    if (tau > 0) {
      if (!marked[i]) alpha = 0;
      else for (let d = 1; d <= edge && !line; d++)
        line = (x >= d && !marked[i - d]) || (x + d < wide && !marked[i + d]) ||
               (y >= d && !marked[i - d * wide]) || (y + d < tall && !marked[i + d * wide]);
    }
    for (let k = 0; k < 3; k++) {
      const mixed = line ? 255 : (1 - alpha) * grey + alpha * colours[c + k];
      out.data[j + k] = (1 - most) * under[j + k] + most * mixed;
    }
    out.data[j + 3] = 255;
  }
  pen.putImageData(out, 0, 0);
  return covered / values.length;
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
  const tau = (threshold && Number(threshold.value) ? threshold.value / 100 : 0.4).toFixed(2);
  readout.textContent = "“" + row.label + "” (" + row.pos + ") covers " + percent(covered) +
    " of the image at " + tau + " of its peak, which lies at x " + row.peak.x + ", y " + row.peak.y +
    (row.share === null ? "." : ". It holds " + percent(row.share) + " of the words’ summed attention.");
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
