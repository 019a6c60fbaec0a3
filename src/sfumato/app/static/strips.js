// Rows of pictures with captions; where cells can be chosen, "cell" {place} is sent.
const root = make("div", { class: "sf-results" });
element.replaceChildren(root);
let seen;  // the value that is drawn
function show() {
  seen = props.value;
  const { rows = [], title = "", note = "", picks = false, chosen = null, links = [], empty = "", large = false } = props.value || {};
  if (!rows.length) { root.replaceChildren(empty ? make("p", { class: "sf-eyebrow" }, empty) : ""); return; }
  const body = (one) => [make("img", { src: one.src, alt: one.alt, class: one.coarse ? "coarse" : "" }), make("span", {}, one.caption)];
  root.replaceChildren(
    title ? make("h3", {}, title) : "",
    note ? make("p", { class: "sf-eyebrow" }, note) : "",
    ...rows.map((row) => make("div", { class: "sf-reelrow" },
      row.label ? make("p", { class: "sf-reelname" }, row.label) : null,
      make("div", { class: "sf-reel" + (large ? " large" : ""), role: "group", "aria-label": row.label || title, tabindex: picks ? undefined : "0" }, row.cells.map((one, place) => picks
        ? make("button", { type: "button", class: "sf-still", "aria-pressed": String(place === chosen), onclick: () => trigger("cell", { place }) }, body(one))
        : make("figure", { class: "sf-still" }, body(one)))))),
    links.length ? make("div", { class: "sf-take" }, links.map(({ text, href }) => make("a", { href, download: "" }, text))) : "");
}
show();
watch("value", show);
// A value that comes while its part of the page is being opened is told to nobody.
for (const wait of [50, 300, 1500]) setTimeout(() => { if (root.isConnected && props.value !== seen) show(); }, wait);
