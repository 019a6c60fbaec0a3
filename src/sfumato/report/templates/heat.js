// Maps arrive as 16-bit numbers from each map's minimum to its maximum and are enlarged here as torch and the
// Python side do it: bicubic, a = -0.75, cell centres aligned, edges repeated. The report and the page draw with this.
const heat = (() => {
"use strict";
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

// A packed map at the size of the canvas: values from 0 to 1 between its lowest and highest cell, and what these are.
function enlarged({ map, low, high, grid }, tall, wide) {
  const raw = bytes(map), coarse = new Float64Array(raw.length / 2);
  for (let i = 0; i < coarse.length; i++) coarse[i] = (raw[2 * i] + 256 * raw[2 * i + 1]) / 65535;
  const values = bicubic(coarse, grid[0], grid[1], tall, wide);
  let top = -Infinity;
  for (const v of values) top = Math.max(top, v);
  return { values, low, span: high - low, top: low + (high - low) * top };
}

// The pixels of a picture at the size of the canvas.
function pixels(picture, tall, wide) {
  const scratch = document.createElement("canvas");
  scratch.width = wide; scratch.height = tall;
  const pen = scratch.getContext("2d", { willReadFrequently: true });
  pen.imageSmoothingQuality = "high";
  pen.drawImage(picture, 0, 0, wide, tall);
  return pen.getImageData(0, 0, wide, tall).data;
}

// Lay a map over pixels; returns the share of the picture at or above the threshold (0.4 where none is set).
// `scale` [low, high] stretches the colours over other values than the map's own, so that maps can be compared.
function paint(canvas, { values, low, span, top }, under, { tall, wide, colours, dim, most, tau, scale }) {
  const marked = new Uint8Array(values.length);
  let covered = 0;
  const limit = top > 0 ? (tau || 0.4) * top : Infinity;
  for (let i = 0; i < values.length; i++) covered += marked[i] = low + span * values[i] >= limit ? 1 : 0;
  canvas.width = wide; canvas.height = tall;
  const pen = canvas.getContext("2d"), out = pen.createImageData(wide, tall);
  const edge = Math.max(1, Math.floor(Math.min(wide, tall) / 256));
  for (let y = 0, i = 0; y < tall; y++) for (let x = 0; x < wide; x++, i++) {
    const shown = scale ? (low + span * values[i] - scale[0]) / (scale[1] - scale[0] || 1) : values[i];
    const v = Math.min(1, Math.max(0, shown)), j = 4 * i, c = 3 * Math.round(255 * v);
    const luminance = 0.2126 * under[j] + 0.7152 * under[j + 1] + 0.0722 * under[j + 2];
    const grey = 255 * dim[0] + (dim[1] - dim[0]) * luminance;
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

// What a word's map says, in words. `peak`: its value `top`, the `unit` of the map, and its pixel `at` where that is known.
function reading({ label, pos, share, caveat }, { covered, tau, peak }) {
  const at = peak.at ? `, which lies at x ${peak.at.x}, y ${peak.at.y}` : "";
  return `“${label}” (${pos}) covers ${percent(covered)} of the image at ${(tau || 0.4).toFixed(2)} of its peak of ` +
    `${peak.top.toPrecision(3)} ${peak.unit}${at}` +
    (share === null ? "." : `. It holds ${percent(share)} of the sum of all words’ maps.`) + (caveat ? " " + caveat : "");
}

return { bytes, enlarged, paint, percent, pixels, reading };
})();
