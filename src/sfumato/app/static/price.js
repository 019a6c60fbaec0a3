// What something will cost, or why it cannot be done, before it is started.
const root = make("p", { class: "sf-price", role: "status" });
element.replaceChildren(root);
function show() {
  const { text = "", wrong = false } = props.value || {};
  root.textContent = text;
  root.classList.toggle("wrong", wrong);
}
show();
watch("value", show);
