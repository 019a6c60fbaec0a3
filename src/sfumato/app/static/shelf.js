// Results as cards: open one, or mark two and compare them.
const root = make("div", { class: "sf-shelf" });
element.replaceChildren(root);
let marked = [];
function show() {
  const { groups = [], empty = "" } = props.value || {};
  const known = groups.flatMap((group) => group.items.map((item) => item.id));
  marked = marked.filter((id) => known.includes(id));
  const compare = make("button", { type: "button", class: "sf-quiet", disabled: true, onclick: () => trigger("compare", { ids: marked }) }, "Compare");
  const update = () => {
    compare.disabled = marked.length !== 2;
    compare.textContent = marked.length === 2 ? "Compare the two" : `Compare: mark ${2 - marked.length} ${marked.length ? "more" : "results"}`;
    for (const box of root.querySelectorAll("input[type=checkbox]")) box.disabled = marked.length === 2 && !box.checked;
  };
  const card = (item) => make("div", { class: "sf-book" },
    make("button", { type: "button", class: "sf-open", "data-id": item.id, onclick: () => trigger("open", { id: item.id }) },
      item.image ? make("img", { src: item.image, alt: "" }) : null, make("b", {}, item.title), make("span", {}, item.detail)),
    make("label", {}, make("input", { type: "checkbox", checked: marked.includes(item.id), onchange: (event) => {
      marked = event.target.checked ? [...marked, item.id] : marked.filter((id) => id !== item.id);
      update();
    } }), "compare"));
  root.replaceChildren(
    make("div", { class: "sf-go" }, make("button", { type: "button", class: "sf-quiet", onclick: () => trigger("refresh", {}) }, "Refresh"), known.length > 1 ? compare : null),
    ...groups.map((group) => make("section", {}, make("h3", {}, group.title), group.items.length ? make("div", { class: "sf-books" }, group.items.map(card)) : make("p", { class: "sf-eyebrow" }, group.none))),
    known.length || groups.length ? "" : make("p", { class: "sf-empty" }, empty));
  update();
}
show();
watch("value", show);
