// How work goes: nothing, a bar with what is left and a way to stop it, or the one line that says what went wrong.
// Screen readers are told what it is at when that changes, and how it ended; not each step of the counter.
const line = make("div", { class: "sf-line" });
const told = make("div", { class: "sf-unseen", role: "status" });
element.replaceChildren(line, told);
function tell(text) { if (told.textContent !== text) told.textContent = text; }
function show() {
  const { state = "quiet", text = "", done = 0, total = 0, left = null, cost = "" } = props.value || {};
  line.className = "sf-line " + state;
  if (state === "failed") line.setAttribute("role", "alert"); else line.removeAttribute("role");
  line.hidden = state === "quiet";
  if (state === "quiet") { tell(line.querySelector("progress") ? "done" : ""); line.replaceChildren(); return; }
  const busy = state === "waiting" || state === "running";
  const said = text + (total > 0 && busy ? ` ${done} of ${total}` : "") + (left ? `, about ${seconds(left)} left` : "");
  tell(state === "failed" ? "" : state === "stopped" ? text || "stopped" : text);  // a failure is an alert of its own
  if (!busy) {
    line.replaceChildren(make("span", { class: "sf-said" }, state === "stopped" ? text || "stopped" : text));
    return;
  }
  const bar = line.querySelector("progress");
  if (bar) {  // kept in place, so that the button can be clicked while the bar moves
    if (total > 0) { bar.max = total; bar.value = done; } else bar.removeAttribute("value");
    bar.setAttribute("aria-valuetext", said);
    line.querySelector(".sf-said").textContent = said;
    line.querySelector(".sf-cost").textContent = cost ? "costs " + cost : "";
    return;
  }
  line.replaceChildren(
    make("progress", { "aria-label": "progress", "aria-valuetext": said, ...(total > 0 ? { max: total, value: done } : {}) }),
    make("span", { class: "sf-said", "aria-hidden": "true" }, said),
    make("button", { type: "button", class: "sf-quiet", onclick: () => trigger("cancel", {}) }, "Cancel"),
    make("span", { class: "sf-cost" }, cost ? "costs " + cost : ""),
  );
}
show();
watch("value", show);
