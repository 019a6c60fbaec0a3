// A small way to write elements; text is always set as text, so nothing that a visitor wrote becomes markup.
const make = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else if (name in made && typeof value !== "string") made[name] = value;
    else if (value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
};
const seconds = (time) => time < 90 ? Math.max(1, Math.round(time)) + " s" : Math.round(time / 60) + " min";
// Numbers that make ids of this piece its own, so that labels meet their controls when a page has several pieces.
const own = "sf" + Math.random().toString(36).slice(2, 8);
// Gradio keeps no more than one event that comes while its listener is at work, and gives it what was sent with the first
// one ("always_last"). What is sent is therefore one object for each event, which holds what was sent last.
const sendOf = trigger, lastSent = {};
trigger = (name, data = {}) => {
  const sent = lastSent[name] ??= {};
  for (const key of Object.keys(sent)) delete sent[key];
  sendOf(name, Object.assign(sent, data));
};
// A button that puts a link to what is shown into the address bar and the clipboard.
const linkButton = (label, address) => {
  const button = make("button", { type: "button", class: "sf-quiet", onclick: async () => {
    address();
    try { await navigator.clipboard.writeText(location.href); button.textContent = "Copied"; }
    catch { button.textContent = "The address bar has the link"; }
    setTimeout(() => { button.textContent = label; }, 2500);
  } }, label);
  return button;
};
// What a reader must know first, such as words that the model never saw.
const notesOf = (notes) => (notes || []).length ? make("div", { class: "sf-notes", role: "note" }, notes.map((note) => make("p", {}, note))) : null;
const addressIs = (link) => history.replaceState(null, "", "?" + link);
// Places on a picture, as shares of its width and height; the cross on it goes a 32nd further with each arrow key.
const within = (value) => Math.min(0.9999, Math.max(0, value));
const placeOf = (event, frame) => { const box = frame.getBoundingClientRect(); return [within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height)]; };
const moveCross = (event, cross, [x, y]) => {
  const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!by) return null;
  const to = [within(x + by[0] / 32), within(y + by[1] / 32)];
  cross.hidden = false; cross.style.left = 100 * to[0] + "%"; cross.style.top = 100 * to[1] + "%";
  event.preventDefault();
  return to;
};
// Height and width of something whose longer side is to have so many pixels.
const fitted = ({ width, height }, most) => {
  const scale = most / Math.max(width, height);
  return { tall: Math.max(1, Math.round(height * scale)), wide: Math.max(1, Math.round(width * scale)) };
};
// A table of texts that scrolls sideways where it is too wide; columns of numbers stand to the right.
const tableOf = ({ head, right, rows }) => make("div", { class: "sf-scroll", tabindex: "0" }, make("table", { class: "sf-table" },
  make("thead", {}, make("tr", {}, head.map((name, place) => make("th", { scope: "col", class: right[place] ? "n" : null }, name)))),
  make("tbody", {}, rows.map((row) => make("tr", {}, row.map((text, place) => make("td", { class: right[place] ? "n" : null }, text)))))));
// Do something every three seconds while it is wanted and in sight; it ends with its piece.
const every = (root, wanted, act) => {
  const clock = setInterval(() => {
    if (!root.isConnected) clearInterval(clock);
    else if (!document.hidden && root.getClientRects().length && wanted()) act();
  }, 3000);
};
