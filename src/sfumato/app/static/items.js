// The first rows of a run's table, and a field that says which text they must hold.
const root = make("div", { class: "sf-items" });
const field = make("input", { type: "search", id: own + "filter", class: "sf-filter", maxlength: "200", placeholder: "a word, a prompt, a state", oninput: () => { clearTimeout(waits); waits = setTimeout(search, 250); } });
const said = make("p", { class: "sf-eyebrow", role: "status" }), body = make("div");
let waits = 0, shown = "";
root.append(make("h3", {}, "Rows"), make("label", { for: own + "filter", class: "sf-eyebrow" }, "Rows with the text "), field, said, body);
element.replaceChildren(root);
function search() { if (shown) trigger("search", { id: shown, text: field.value }); }
function show() {
  const value = props.value || {};
  if (value.id !== shown) { shown = value.id || ""; field.value = ""; clearTimeout(waits); }
  element.hidden = !value.id || (!value.table && !value.said);
  said.textContent = value.said || "";
  body.replaceChildren(value.table ? tableOf(value.table) : "");
  if (shown && value.table && value.text !== field.value) { clearTimeout(waits); waits = setTimeout(search, 250); }
}
show();
watch("value", show);
