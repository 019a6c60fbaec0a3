// The methods that fit the model: choose one, set its options, read what it costs, run it.
const root = make("div", { class: "sf-methods" });
element.replaceChildren(root);
let chosen = null, asking = 0;
const given = {};

function field(one) {
  const id = own + chosen + one.name;
  const set = (value) => { (given[chosen] ??= {})[one.name] = value; price(); };
  const value = (given[chosen] || {})[one.name];
  let control;
  if (one.kind === "choice")
    control = make("select", { id, onchange: (event) => set(event.target.value) },
      one.choices.map((text) => make("option", { value: text, selected: (value ?? one.default) === text }, text)));
  else if (one.kind === "switch")
    control = make("input", { id, type: "checkbox", checked: (value ?? one.default) === "true", onchange: (event) => set(String(event.target.checked)) });
  else
    control = make("input", { id, type: "text", value: value ?? "", placeholder: one.default, inputmode: one.kind === "number" ? "decimal" : "text", oninput: (event) => set(event.target.value) });
  return make("div", { class: "sf-field " + one.kind }, make("label", { for: id }, one.label), control, make("small", {}, one.help));
}
function price() {
  clearTimeout(asking);
  const cost = root.querySelector(".sf-price");
  if (cost) cost.textContent = "Working out the cost …";
  asking = setTimeout(() => trigger("price", { method: chosen, options: given[chosen] || {} }), 250);
}
function show() {
  const { methods = [], costs = {}, hint = "" } = props.value || {};
  if (!methods.length) { root.replaceChildren(make("p", { class: "sf-eyebrow" }, hint)); return; }
  const fresh = methods.map((one) => one.name).join() !== root.dataset.names;
  if (!fresh && chosen) {  // only a cost has come, or another image, whose cost is asked for
    const cost = root.querySelector(".sf-price");
    if (!(chosen in costs)) price(); else if (cost) cost.textContent = costs[chosen];
    return;
  }
  root.dataset.names = methods.map((one) => one.name).join();
  if (!methods.some((one) => one.name === chosen)) chosen = null;
  const panel = make("div", { class: "sf-panel" });
  const cards = make("div", { class: "sf-cards", role: "group", "aria-label": "Methods" }, methods.map((one) =>
    make("button", { type: "button", class: "sf-card", "aria-pressed": String(one.name === chosen), "data-method": one.name,
      onclick: () => { chosen = chosen === one.name ? null : one.name; fill(); if (chosen) price(); } },
      make("b", {}, one.question), make("span", {}, one.name), )));
  function fill() {
    for (const card of cards.children) card.setAttribute("aria-pressed", String(card.dataset.method === chosen));
    const one = methods.find((method) => method.name === chosen);
    panel.hidden = !one;
    if (!one) return;
    panel.replaceChildren(
      make("p", {}, one.answer),
      make("p", { class: "sf-paper" }, one.paper),
      one.fields.length ? make("details", {}, make("summary", {}, `Options (${one.fields.length})`), make("div", { class: "sf-fields" }, one.fields.map(field))) : null,
      make("div", { class: "sf-go" },
        make("button", { type: "button", class: "sf-primary", onclick: () => trigger("run", { method: chosen, options: given[chosen] || {} }) }, "Run " + one.name),
        make("span", { class: "sf-price", role: "status" }, costs[chosen] || "")));
  }
  root.replaceChildren(make("p", { class: "sf-eyebrow" }, hint), cards, panel);
  fill();
  if (chosen && !(chosen in costs)) price();
}
show();
watch("value", show);
