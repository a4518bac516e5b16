// Small hands for the page: make a node, change only what differs. Text is always text, never markup.
export const byId = (id) => document.getElementById(id);

export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key in node && typeof value !== "string") node[key] = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function setText(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

export function setClass(node, value) {
  if (node.className !== value) node.className = value;
}

export function setHidden(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

export function setShare(node, share) {
  const value = String(Math.max(0, Math.min(1, share || 0)).toFixed(4));
  if (node.dataset.share !== value) {
    node.dataset.share = value;
    node.style.setProperty("--share", value);
  }
}
