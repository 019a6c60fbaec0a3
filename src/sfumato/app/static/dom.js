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
