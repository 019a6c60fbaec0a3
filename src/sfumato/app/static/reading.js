// What a chart shows and how to read it, in words, with the numbers as a table; empty until there is something to say.
const root = make("div", { class: "sf-reading" });
element.replaceChildren(root);
function show() {
  const { title = "", text = "", aid = "", head = [], rows = [] } = props.value || {};
  root.hidden = !title;
  root.replaceChildren(
    make("h3", {}, title), text ? make("p", { role: "status" }, text) : "", aid ? make("p", { class: "sf-eyebrow" }, aid) : "",
    head.length ? make("div", { class: "sf-scroll" }, make("table", {}, make("thead", {}, make("tr", {}, head.map((one) => make("th", { scope: "col" }, one)))),
      make("tbody", {}, rows.map(([first, ...rest]) => make("tr", {}, make("th", { scope: "row" }, first), rest.map((one) => make("td", {}, one))))))) : "");
}
show();
watch("value", show);
