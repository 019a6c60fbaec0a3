// A picture to draw a mask on, or to choose from the disk. What is done is sent as events: "drawn" {mask}, "upload" {data}.
const root = make("div", { class: "sf-pad" });
element.replaceChildren(root);
let mask = null, key = null, brush = 0.06, erasing = false, cursor = [0.5, 0.5], sending = 0;
const LARGEST = 8e6;

function choose(file) {
  const note = root.querySelector(".sf-note");
  if (!file) return;
  if (!/^image\/(png|jpeg|webp)$/.test(file.type)) { note.textContent = `${file.name} is no PNG, JPEG or WebP picture`; return; }
  if (file.size > LARGEST) { note.textContent = `${file.name} has ${(file.size / 1e6).toFixed(0)} MB; at most 8 are taken`; return; }
  const reader = new FileReader();
  reader.onload = () => trigger("upload", { data: reader.result });
  reader.readAsDataURL(file);
}
function chooser(text) {
  const input = make("input", { type: "file", accept: "image/png,image/jpeg,image/webp", class: "sf-file", id: own + "file", onchange: (event) => choose(event.target.files[0]) });
  return make("label", { class: "sf-quiet", for: own + "file" }, text, input);
}

function show() {
  const value = props.value || {};
  if (!value.image) {
    const drop = make("div", { class: "sf-drop", ondragover: (event) => event.preventDefault(), ondrop: (event) => { event.preventDefault(); choose(event.dataTransfer.files[0]); } },
      make("p", {}, value.empty || "There is no picture yet."), value.upload ? chooser(value.upload) : null, make("p", { class: "sf-note", role: "alert" }));
    root.replaceChildren(value.label ? make("p", { class: "sf-eyebrow" }, value.label) : "", drop);
    key = null;
    return;
  }
  const { width, height, mode = "still" } = value;
  const fresh = key !== value.key;
  key = value.key;
  const picture = make("img", { src: value.image, alt: value.alt || "", draggable: false });
  const drawing = mode === "mask" ? { tabindex: "0", role: "application", "aria-label": (value.alt || "A picture") + ". Draw on it; or move the brush with the arrow keys and press Space." } : {};
  const frame = make("div", { class: "sf-picture " + mode, style: `aspect-ratio:${width}/${height}`, ...drawing }, picture);
  const cross = make("div", { class: "sf-cross", hidden: true });
  const at = (event) => placeOf(event, frame);
  const tools = make("div", { class: "sf-tools" });

  if (mode === "mask") {
    if (fresh || !mask || mask.width !== width) {
      mask = make("canvas", { class: "sf-mask" });
      mask.width = width; mask.height = height;
      if (value.mask) { const old = new Image(); old.onload = () => { tint(old); }; old.src = value.mask; }
    }
    const pen = mask.getContext("2d", { willReadFrequently: true });
    function tint(old) {  // a black and white picture becomes what was drawn
      const scratch = make("canvas"); scratch.width = width; scratch.height = height;
      const over = scratch.getContext("2d"); over.drawImage(old, 0, 0, width, height);
      const from = over.getImageData(0, 0, width, height), to = pen.createImageData(width, height);
      for (let i = 0; i < from.data.length; i += 4) if (from.data[i] > 127) to.data.set([242, 120, 40, 255], i);
      pen.putImageData(to, 0, 0);
    }
    frame.append(mask);
    let last = null;
    const dab = ([x, y], [u, v]) => {
      pen.globalCompositeOperation = erasing ? "destination-out" : "source-over";
      pen.strokeStyle = pen.fillStyle = "rgb(242,120,40)"; pen.lineCap = pen.lineJoin = "round";
      pen.lineWidth = Math.max(1, brush * Math.max(width, height));
      pen.beginPath(); pen.moveTo(x * width, y * height); pen.lineTo(u * width + 0.01, v * height); pen.stroke();
    };
    const send = () => {  // at once, so that the button that is clicked next works on it
      clearTimeout(sending); sending = 0;
      const drawn = pen.getImageData(0, 0, width, height), plain = make("canvas");
      plain.width = width; plain.height = height;
      const out = plain.getContext("2d"), black = out.createImageData(width, height);
      let any = false;
      for (let i = 0; i < drawn.data.length; i += 4) { const inside = drawn.data[i + 3] > 127 ? 255 : 0; any ||= inside > 0; black.data.set([inside, inside, inside, 255], i); }
      out.putImageData(black, 0, 0);
      trigger("drawn", { mask: any ? plain.toDataURL("image/png") : "" });
    };
    frame.addEventListener("pointerdown", (event) => { if (event.button !== 0) return; last = at(event); frame.setPointerCapture(event.pointerId); dab(last, last); });
    frame.addEventListener("pointermove", (event) => { if (last === null) return; const to = at(event); dab(last, to); last = to; });
    frame.addEventListener("pointerup", () => { if (last !== null) { last = null; send(); } });
    frame.addEventListener("pointercancel", () => { if (last !== null) { last = null; send(); } });
    const size = make("input", { type: "range", id: own + "brush", min: "1", max: "30", value: String(Math.round(brush * 100)), oninput: (event) => { brush = event.target.value / 100; } });
    tools.append(make("label", { for: own + "brush" }, "Brush"), size,
      make("button", { type: "button", class: "sf-quiet", "aria-pressed": String(erasing), onclick: (event) => { erasing = !erasing; event.currentTarget.setAttribute("aria-pressed", String(erasing)); event.currentTarget.textContent = erasing ? "Erasing" : "Erase"; } }, erasing ? "Erasing" : "Erase"),
      make("button", { type: "button", class: "sf-quiet", onclick: () => { pen.clearRect(0, 0, width, height); send(); } }, "Clear"));
    frame.addEventListener("keydown", (event) => { if (event.key === " ") { dab(cursor, cursor); clearTimeout(sending); sending = setTimeout(send, 120); event.preventDefault(); } });
    frame.addEventListener("blur", () => { if (sending) send(); });
  }
  if (mode !== "still") frame.addEventListener("keydown", (event) => { cursor = moveCross(event, cross, cursor) || cursor; });
  frame.append(cross);
  if (value.upload) tools.append(chooser(value.upload));
  root.replaceChildren(value.label ? make("p", { class: "sf-eyebrow" }, value.label) : "", make("figure", {}, frame), tools, make("p", { class: "sf-note", role: "status" }, value.hint || ""));
}
show();
watch("value", show);
