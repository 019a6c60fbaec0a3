// How the steps of a run are spread, which of them to look at, and what to ask: the form of the tab Steps.
// What is chosen lives here and is kept in the value under "chosen"; the server answers with drawings.
const root = make("div", { class: "sf-stepform" });
element.replaceChildren(root);
let chosen = { ...props.value.chosen }, drawn = "", waiting = 0, reset = "";
const NS = "http://www.w3.org/2000/svg";

function changed(redraw = true) {
  keep();
  if (redraw) show();
  clearTimeout(waiting);
  waiting = setTimeout(() => trigger("change", {}), 200);
}
function keep() {
  if (JSON.stringify(props.value.chosen) !== JSON.stringify(chosen)) props.value = { ...props.value, chosen: { ...chosen } };
}
const shape = (tag, attributes) => {
  const made = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
};
// Where the timesteps lie, from noise on the left to the image on the right; steps that are looked at stand out.
function lie(times, last, marked = []) {
  const picture = shape("svg", { viewBox: "0 0 1000 60", preserveAspectRatio: "none", "aria-hidden": "true", class: "sf-lie" });
  picture.append(shape("line", { x1: 0, x2: 1000, y1: 44, y2: 44, class: "base" }));
  times.forEach((time, step) => {
    const x = 4 + 992 * (1 - time / last), on = marked.includes(step);
    picture.append(shape("line", { x1: x, x2: x, y1: on ? 4 : 20, y2: 44, class: on ? "tick on" : "tick" }));
  });
  return picture;
}
const timesOf = (name) => (props.value.kinds || []).find((kind) => kind.name === name)?.times || [];

function cards(value) {
  return make("div", { class: "sf-kinds", role: "radiogroup", "aria-label": "How the steps are spread" }, value.kinds.map((kind) => {
    const on = chosen.schedule === kind.name;
    const card = make("button", {
      type: "button", class: "sf-kind", role: "radio", "aria-checked": String(on), tabindex: on ? "0" : "-1", "data-kind": kind.name,
      onclick: () => take(kind.name),
      onkeydown: (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        const names = value.kinds.map((one) => one.name);
        take(names[(names.indexOf(kind.name) + step + names.length) % names.length], true);
      },
    }, make("b", {}, kind.label), make("span", {}, kind.note));
    card.append(kind.times.length ? lie(kind.times, value.last, on ? chosen.at : []) : make("em", {}, "not possible with so few steps or these bounds"));
    return card;
  }));
}
function take(name, focus = false) {
  chosen.schedule = name;
  if (chosen.other === name) chosen.other = "";
  changed();
  if (focus) root.querySelector(`[data-kind="${name}"]`).focus();
}

function strip(value) {
  const times = timesOf(chosen.schedule);
  const cells = Array.from({ length: value.count }, (_, step) => {
    const on = chosen.at.includes(step), share = times.length ? 1 - times[step] / value.last : step / Math.max(1, value.count - 1);
    return make("button", {
      type: "button", class: "sf-step", "aria-pressed": String(on), "data-step": String(step), style: `--clean:${Math.round(100 * share)}%`,
      title: `step ${step}` + (times.length ? `, timestep ${Math.round(times[step])}` : ""),
      "aria-label": `step ${step}` + (times.length ? `, timestep ${Math.round(times[step])}` : ""),
      onclick: () => {
        if (!on && chosen.at.length >= value.most) { root.querySelector(".sf-looking").textContent = `At most ${value.most} steps at a time; take one away first.`; return; }
        chosen.at = on ? chosen.at.filter((one) => one !== step) : [...chosen.at, step].sort((a, b) => a - b);
        changed();
      },
      onkeydown: (event) => {
        const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        const next = by && root.querySelector(`[data-step="${step + by}"]`);
        if (next) { next.focus(); event.preventDefault(); }
      },
    }, String(step));
  });
  const looking = chosen.at.length
    ? `Looking at step${chosen.at.length > 1 ? "s" : ""} ` + chosen.at.map((step) => times[step] !== undefined ? `${step} (t = ${Math.round(times[step])})` : step).join(", ") + "."
    : "No step is marked; mark one or more.";
  return [
    make("div", { class: "sf-strip", role: "group", "aria-label": "Steps of the run, from noise to image" }, cells),
    make("p", { class: "sf-ends" }, make("span", {}, "noise"), make("span", {}, "image")),
    make("p", { class: "sf-note sf-looking", role: "status" }, looking),
  ];
}

function typed(name, label, help, attributes = {}) {
  const id = own + name;
  return make("div", { class: "sf-field" }, make("label", { for: id }, label),
    make("input", { id, type: "text", inputmode: "decimal", value: chosen[name], ...attributes, oninput: (event) => { chosen[name] = event.target.value; changed(false); } }),
    make("small", {}, help));
}
function choice(name, label, options) {
  const id = own + name;
  return make("div", { class: "sf-field" }, make("label", { for: id }, label),
    make("select", { id, onchange: (event) => { chosen[name] = event.target.value; changed(); } },
      options.map(([key, text]) => make("option", { value: key, selected: chosen[name] === key }, text))));
}
function questions(value) {
  return make("div", { class: "sf-cards", role: "group", "aria-label": "What to ask of each step" }, value.questions.map((one) => {
    const on = chosen.methods.includes(one.name);
    return make("button", {
      type: "button", class: "sf-card", "aria-pressed": String(on), "data-question": one.name,
      onclick: () => {
        chosen.methods = on ? chosen.methods.filter((name) => name !== one.name) : [...chosen.methods, one.name];
        changed();
      },
    }, make("b", {}, one.label), make("span", {}, one.note));
  }));
}

// Where the keyboard is, so that a new drawing does not take it away.
function held() {
  const active = document.activeElement;
  if (!root.contains(active)) return "";
  for (const name of ["kind", "step", "question"]) if (active.dataset[name] !== undefined) return `[data-${name}="${active.dataset[name]}"]`;
  return active.tagName === "SUMMARY" ? "summary" : active.id ? `[id="${active.id}"]` : "";
}
function show() {
  const value = props.value || {};
  if (!value.kinds) return;
  const hand = held();
  const opened = root.querySelector("details")?.open;
  const window_ = chosen.schedule === "window" || chosen.other === "window";
  root.replaceChildren(
    make("section", {}, make("p", { class: "sf-eyebrow" }, "How are the steps spread? Each tick is a call of the denoiser, from noise (t = 999, left) to the image (t = 0, right)."),
      cards(value),
      make("div", { class: "sf-fields sf-spread" },
        window_ ? typed("high", "Window from timestep", "the larger one, up to 1000") : null,
        window_ ? typed("low", "to timestep", "the smaller one, down to 0") : null,
        choice("other", "Compare with, at the same seed", [["", "nothing"], ...value.kinds.filter((kind) => kind.name !== chosen.schedule).map((kind) => [kind.name, kind.label])]))),
    make("section", {}, make("p", { class: "sf-eyebrow" }, "Which steps do you want to look at? Mark them on the run."), strip(value)),
    make("section", {}, make("p", { class: "sf-eyebrow" }, "What do you want to know of each?"), questions(value),
      chosen.methods.includes("df_rise") ? make("details", { open: opened }, make("summary", {}, "Settings of the random masks"),
        make("div", { class: "sf-fields" },
          typed("masks", "Masks of a step", "at most so many; more give a steadier map and take longer"),
          typed("until", "Stop at this error", "once the standard error is this share of the map's range"),
          choice("masking", "Kind of masks", [["grid", "smooth, one score for all: influence"], ["iid", "single places, as published: local stability"]]))) : null),
  );
  if (hand) root.querySelector(hand)?.focus();
}
function arrived() {
  const value = props.value || {};
  if (value.reset && value.reset !== reset) {  // a link says what is chosen
    reset = value.reset;
    chosen = { ...value.chosen };
    drawn = "";
  }
  if (drawn && Number(drawn) !== value.count && value.count) {  // as many shares of another run
    chosen.at = [...new Set(chosen.at.map((step) => Math.min(value.count - 1, Math.round(step * value.count / Number(drawn)))))];
    drawn = String(value.count);
    keep();
    trigger("change", {});
  }
  drawn = String(value.count || "");
  keep();
  const typing = root.contains(document.activeElement) && document.activeElement.tagName === "INPUT";
  if (!typing) { show(); return; }
  const old = root.querySelector(".sf-kinds");  // the field in hand stays as it is
  if (old) old.replaceWith(cards(value));
}
arrived();
watch("value", arrived);
