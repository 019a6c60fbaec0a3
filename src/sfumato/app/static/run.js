// One run: how far it is, what it asks, what came out, and what failed. Finding and figure are sent when they change.
const root = make("div", { class: "sf-run" });
element.replaceChildren(root);
let kept = {};
function part(title, ...children) { return make("section", {}, make("h3", {}, title), ...children); }
function show() {
  const run = props.value || {};
  element.hidden = !run.id;
  if (!run.id) { kept = {}; root.replaceChildren(); return; }
  if (run.wrong) { kept = {}; root.replaceChildren(make("h2", {}, run.name), make("p", { class: "sf-wrong" }, run.wrong)); return; }
  if (!run.same) kept = { id: run.id, finding: run.finding, figure: run.figure };
  if (kept.id !== run.id) kept = {};
  const { counts, about, failures } = run, finding = kept.finding || {}, done = counts.total - counts.open;
  const said = `${done.toLocaleString("en")} of ${counts.total.toLocaleString("en")} rows: ${counts.ok.toLocaleString("en")} ok, ${counts.failed.toLocaleString("en")} failed, ${counts.invalid.toLocaleString("en")} invalid, ${counts.open.toLocaleString("en")} open`;
  const open = root.querySelector("details")?.open || false;
  const parts = [
    make("h2", {}, run.name),
    make("p", { class: "sf-eyebrow" }, `${run.task} on ${run.model} · ${run.running ? "running" : counts.open ? "stopped" : "ended"} · last change ${run.when}`),
    make("div", { class: "sf-line" }, make("progress", { max: Math.max(1, counts.total), value: done, "aria-label": "progress", "aria-valuetext": said }), make("span", { "aria-hidden": "true" }, said)),
    about.question ? make("p", { class: "sf-question" }, about.question) : null,
    about.note ? make("p", { class: "sf-eyebrow" }, about.note) : null,
    about.claim ? make("blockquote", {}, make("p", {}, about.claim), make("footer", { class: "sf-paper" }, about.paper)) : null,
    part("Finding",
      finding.note ? make("p", { class: "sf-eyebrow" }, finding.note) : null,
      finding.verdict ? make("p", {}, make("b", { class: "sf-verdict" }, finding.verdict), " on this model") : null,
      finding.sentence ? make("p", { class: "sf-sentence" }, finding.sentence) : null,
      finding.table ? tableOf(finding.table) : null,
      finding.more ? make("p", { class: "sf-eyebrow" }, `and ${finding.more.toLocaleString("en")} rows more in table.csv`) : null,
      kept.figure ? make("img", { class: "sf-figure", src: kept.figure, alt: "The figure of the finding" }) : null),
    make("details", { open }, make("summary", {}, "Settings"), tableOf({ head: ["setting", "value"], right: [false, false], rows: run.settings })),
    failures.total ? part(`${failures.total.toLocaleString("en")} ${failures.total === 1 ? "row" : "rows"} without a result`,
      failures.table ? tableOf(failures.table) : null,
      failures.table && failures.table.rows.length < failures.total ? make("p", { class: "sf-eyebrow" }, `the first ${failures.table.rows.length}; failed.csv has all`) : null) : null,
  ];
  root.replaceChildren(...parts.filter((one) => one !== null));
}
show();
watch("value", show);
