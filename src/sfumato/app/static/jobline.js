// How work goes: nothing, a bar with what is left and a way to stop it, or the one line that says what went wrong.
const line = make("div", { class: "sf-line", role: "status", "aria-live": "polite" });
element.replaceChildren(line);
function show() {
  const { state = "quiet", text = "", done = 0, total = 0, left = null, cost = "" } = props.value || {};
  line.className = "sf-line " + state;
  line.setAttribute("role", state === "failed" ? "alert" : "status");
  line.hidden = state === "quiet";
  if (state === "quiet") { line.replaceChildren(); return; }
  const busy = state === "waiting" || state === "running";
  const said = text + (total > 0 && busy ? ` ${done} of ${total}` : "") + (left ? `, about ${seconds(left)} left` : "");
  if (!busy) {
    line.replaceChildren(make("span", { class: "sf-said" }, state === "stopped" ? text || "stopped" : text));
    return;
  }
  const bar = line.querySelector("progress");
  if (bar) {  // kept in place, so that the button can be clicked while the bar moves
    if (total > 0) { bar.max = total; bar.value = done; } else bar.removeAttribute("value");
    line.querySelector(".sf-said").textContent = said;
    line.querySelector(".sf-cost").textContent = cost ? "costs " + cost : "";
    return;
  }
  line.replaceChildren(
    make("progress", total > 0 ? { max: total, value: done, "aria-label": "progress" } : { "aria-label": "progress" }),
    make("span", { class: "sf-said" }, said),
    make("button", { type: "button", class: "sf-quiet", onclick: () => trigger("cancel", {}) }, "Cancel"),
    make("span", { class: "sf-cost" }, cost ? "costs " + cost : ""),
  );
}
show();
watch("value", show);
