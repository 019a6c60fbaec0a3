// A profile as a film: the step of the slider large, all steps as strips below. Other pieces follow by "sf-step".
const root = make("div", { class: "sf-film" });
element.replaceChildren(root);
let seen;  // the value that is drawn
let step = 0, key = null, playing = 0;

function empty(value) {
  return make("div", { class: "sf-empty" }, make("p", {}, value.empty || "Nothing has been made yet."),
    (value.examples || []).length ? make("div", { class: "sf-examples" }, value.examples.map((one) =>
      make("button", { type: "button", class: "sf-quiet", onclick: () => trigger("example", one) }, one.text))) : null);
}
function stop() { clearInterval(playing); playing = 0; const play = root.querySelector(".sf-play"); if (play) play.textContent = "Play"; }
function go(to) {
  const { times, places, rows } = props.value;
  step = Math.max(0, Math.min(times.length - 1, to));
  rows.forEach((row, number) => {
    const figure = root.querySelectorAll(".sf-frame")[number], image = figure.querySelector("img"), src = row.cells[step];
    figure.classList.toggle("without", !src);
    if (src) image.src = src;
    image.alt = src ? `${row.name} at ${times[step]}` : "";
  });
  for (const one of root.querySelectorAll(".sf-still")) one.setAttribute("aria-pressed", String(Number(one.dataset.place) === step));
  const slider = root.querySelector("input[type=range]"), said = `${times[step]} (${places[step]})`;
  slider.value = String(step);
  slider.setAttribute("aria-valuetext", said);
  root.querySelector("output").textContent = said;
  for (const strip of root.querySelectorAll(".sf-reel")) {
    const still = strip.querySelectorAll(".sf-still")[step];
    if (still && strip.scrollWidth > strip.clientWidth) strip.scrollLeft = still.offsetLeft - strip.clientWidth / 2;
  }
  document.dispatchEvent(new CustomEvent("sf-step", { detail: { key: props.value.key, step } }));
}
function show() {
  seen = props.value;
  const value = props.value || {};
  stop();
  if (!value.rows) { root.replaceChildren(empty(value)); key = null; return; }
  const fresh = value.key !== key, last = value.times.length - 1;
  key = value.key;
  const frame = (row) => make("figure", { class: "sf-frame" },
    make("div", { class: "sf-picture still", style: `aspect-ratio:${value.aspect}` }, make("img", { alt: "", class: row.coarse ? "coarse" : "", draggable: false }), make("span", { class: "sf-none" }, "no map of the finished image")),
    make("figcaption", {}, make("b", {}, row.name), ": " + row.help));
  const strip = (row, number) => make("div", { class: "sf-reel", role: "group", "aria-label": row.name + " by step" },
    value.times.map((time, place) => row.cells[place]
      ? make("button", { type: "button", class: "sf-still", "aria-pressed": "false", "data-place": String(place), "aria-label": `${row.name} at ${time}`, onclick: () => { stop(); go(place); } },
          make("img", { src: row.cells[place], alt: "", class: row.coarse ? "coarse" : "", style: `aspect-ratio:${value.aspect}` }),
          number === 0 ? make("span", {}, time) : null)
      : make("span", { class: "sf-still" })));
  const play = make("button", { type: "button", class: "sf-quiet sf-play", onclick: () => {
    if (playing) { stop(); return; }
    play.textContent = "Stop";
    if (step === last) go(0);
    playing = setInterval(() => { if (!root.isConnected || step === last) stop(); else go(step + 1); }, 650);
  } }, "Play");
  root.replaceChildren(
    make("p", { class: "sf-title" }, value.title), notesOf(value.notes) || "",
    make("div", { class: "sf-frames" }, value.rows.map(frame)),
    make("div", { class: "sf-controls sf-scrub" },
      make("div", {}, make("label", { for: own + "step" }, "Step", make("output", { for: own + "step" })),
        make("input", { id: own + "step", type: "range", min: "0", max: String(last), step: "1", value: String(last), oninput: (event) => { stop(); go(Number(event.target.value)); } })),
      play),
    make("div", { class: "sf-reels" }, value.rows.map((row, number) => make("div", { class: "sf-reelrow" }, make("p", { class: "sf-reelname" }, row.name), strip(row, number)))),
    make("p", { class: "sf-facts" }, value.facts),
    make("div", { class: "sf-take" }, (value.links || []).map(({ text, href }) => make("a", { href, download: "" }, text)), value.link ? linkButton("Copy a link to this profile", () => addressIs(value.link)) : null));
  if (fresh) { step = Math.max(0, last - 1); if (value.link) addressIs(value.link); }
  go(Math.min(step, last));
  root.dataset.ready = value.key;
}
show();
watch("value", show);
// A value that comes while its part of the page is being opened is told to nobody.
for (const wait of [50, 300, 1500]) setTimeout(() => { if (root.isConnected && props.value !== seen) show(); }, wait);
