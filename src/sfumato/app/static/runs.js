// The runs of the folder as a list, which is read again every few seconds while one of them is under way and in sight.
// The run that was opened is followed when its line has changed.
const root = make("div", { class: "sf-runs" });
element.replaceChildren(root);
let chosen = "", seen = null;
const lineOf = (id) => (props.value?.runs || []).find((run) => run.id === id) || null;
function open(id) { chosen = id; seen = lineOf(id); trigger("open", { id }); show(); }
function follow() {
  const now = lineOf(chosen), before = seen;
  if (!now || !before || JSON.stringify(now) === JSON.stringify(before)) return;
  seen = now;
  trigger("follow", { id: chosen, concluded: before.concluded });
}
// What the server says may be a moment old, so it is asked again when that has passed.
function refresh() { trigger("refresh", {}); setTimeout(() => trigger("refresh", {}), 1500); }
function show() {
  const { runs = [], empty = "" } = props.value || {};
  const row = (run) => make("tr", { class: run.id === chosen ? "chosen" : null },
    make("th", { scope: "row" }, make("button", { type: "button", class: "sf-open", "data-id": run.id, "aria-pressed": String(run.id === chosen), onclick: () => open(run.id) }, make("b", {}, run.name))),
    ...(run.wrong ? [make("td", { colspan: "8", class: "sf-wrong" }, run.wrong)] : [
      make("td", {}, run.task), make("td", {}, run.model),
      ...["ok", "failed", "invalid", "open"].map((state) => make("td", { class: "n" }, run.counts[state].toLocaleString("en"))),
      make("td", {}, run.running ? make("span", { class: "sf-running" }, "running") : run.counts.open ? "stopped" : "ended"),
      make("td", {}, run.when)]));
  const head = ["run", "task", "model", "ok", "failed", "invalid", "open", "state", "last change"];
  const focused = root.contains(document.activeElement) ? document.activeElement.dataset.id ?? "refresh" : null;
  root.replaceChildren(
    make("div", { class: "sf-go" }, make("button", { type: "button", class: "sf-quiet", "data-id": "refresh", onclick: refresh }, "Refresh")),
    runs.length ? make("div", { class: "sf-scroll" }, make("table", { class: "sf-table" },
      make("thead", {}, make("tr", {}, head.map((name, place) => make("th", { scope: "col", class: place > 2 && place < 7 ? "n" : null }, name)))),
      make("tbody", {}, runs.map(row)))) : make("p", { class: "sf-empty" }, empty));
  if (focused) [...root.querySelectorAll("button")].find((button) => button.dataset.id === focused)?.focus();
}
show();
watch("value", () => { show(); follow(); });
every(root, () => (props.value?.runs || []).some((run) => run.running), () => trigger("refresh", {}));
