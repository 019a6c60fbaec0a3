// What a method found, as its report shows it: in a shadow tree, so that page and report need not know each other's style.
const shadow = element.shadowRoot || element.attachShadow({ mode: "open" });
function show() {
  const { parts = [], links = [], title = "", notes = [] } = props.value || {};
  const style = make("style", {}, props.style + "\n:host { display: block; } main { max-width: none; padding: 0; } section.part { margin-top: 28px; } .banner { margin: 14px 0 0; } .links { display: flex; flex-wrap: wrap; gap: 8px 18px; margin-top: 18px; font-size: 13px; } .links a { color: var(--accent); }");
  const main = make("main", {}, title ? make("h2", {}, title) : null);
  if (notes.length) main.append(make("div", { class: "banner", role: "note" }, notes.map((note) => make("p", {}, note))));
  for (const part of parts) {  // the bodies are made by the report, which escapes what people wrote
    const section = make("section", { class: "part", "data-node": part.node });
    section.innerHTML = part.html;
    main.append(section);
  }
  if (links.length) main.append(make("nav", { class: "links", "aria-label": "Downloads" }, links.map(({ text, href }) => make("a", { href, download: "" }, text))));
  shadow.replaceChildren(style, main);
  element.hidden = !parts.length && !links.length;
}
show();
watch("value", show);
