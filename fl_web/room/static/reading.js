// What the model says of one image, beside the image itself with its heat map.
import { bytes, paint, place } from "./heat.js";
import { el, facts, icon, percent } from "./dom.js";

/** What a warning is called. */
export const KINDS = {
  "not-an-x-ray": "Not an X-ray?", orientation: "Not upright?", "far-from-training": "Unlike the training images",
  "low-resolution": "Low resolution",
};
const CAUTION = "M12 4 2.500 20h19zM12 10v4.500M12 17.400v.1";
const INFO = "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 11v5M12 7.800v.1";
let opacity = 45;

/** The warning for which the answer does not count, if there is one. */
export const serious = (row) => row.warnings.find((each) => each.serious);

/** The elements of an entry's reading. `refer` is the probability below which one is to refer. */
export function reading(entry, refer) {
  const { state, row } = entry;
  if (state !== "done") return busy(state);
  if (row.error) return failed(row);
  return el("div", { class: "reading" }, row.heats || entry.picture ? film(entry) : null, verdict(row, refer));
}

function busy(state) {
  const words = state === "reading" ? "The model looks at the image" : "The image waits for its turn";
  return el("div", { class: "card busy" }, el("span", { class: "spin", "aria-hidden": "true" }), el("h2", { id: "view-title" }, words));
}

function failed(row) {
  return el("div", { class: "card empty" },
    el("h2", { id: "view-title" }, "This image cannot be read"),
    el("p", {}, el("b", {}, row.file), ` ${row.error}.`),
    el("p", { class: "soft" }, "The other images of the list are read all the same."));
}

// --- the image -----------------------------------------------------------------------------------------------------

function film(entry) {
  const { row, picture } = entry;
  const stack = el("div", { class: "stack", role: "img", "--aspect": picture ? picture.width / picture.height : 1 });
  if (picture) {
    const image = el("canvas", { class: "image", width: picture.width, height: picture.height });
    image.getContext("2d").drawImage(picture, 0, 0);
    stack.append(image);
  }
  const controls = row.heats ? heatControls(row, stack) : el("p", { class: "soft small" }, "This model has no heat map.");
  if (!row.heats) stack.setAttribute("aria-label", `X-ray ${row.file}`);
  return el("div", { class: "card film" }, el("div", { class: "screen" }, stack), el("div", { class: "controls" }, controls));
}

function heatControls(row, stack) {
  const heat = el("canvas", { class: "heat" });
  stack.append(heat);
  const where = el("p", { class: "soft small" });
  const show = (name) => {
    const values = bytes(row.heats[name]);
    paint(heat, values, row.heat_side);
    const found = place(values, row.heat_side);
    where.textContent = found ? `What speaks for ${name} is ${found}.` : `Nothing in this image speaks for ${name}.`;
    stack.setAttribute("aria-label", `X-ray ${row.file}. ${where.textContent}`);
  };
  const output = el("output", { for: "opacity" });
  const slider = el("input", { type: "range", id: "opacity", min: 0, max: 100, value: opacity });
  const slide = () => {
    opacity = Number(slider.value);
    heat.style.setProperty("--shown", opacity / 100);
    output.textContent = `${opacity} %`;
  };
  slider.addEventListener("input", slide);
  slide();
  show(row.class);
  return el("div", { class: "controls-inner" },
    el("div", { class: "slider" }, el("label", { for: "opacity" }, "Heat map"), slider, output),
    el("div", { class: "scale", "aria-hidden": "true" }, "says little", el("i"), "says much"),
    choices(row, show), where);
}

function choices(row, show) {
  const names = Object.keys(row.heats);
  const options = names.map((name) => el("label", {},
    el("input", { type: "radio", name: "heat-of", value: name, checked: name === row.class, onchange: () => show(name) }), name));
  return el("fieldset", { class: "heat-of" }, el("legend", {}, "What speaks for"), ...options);
}

// --- the answer ----------------------------------------------------------------------------------------------------

function verdict(row, refer) {
  const mark = row.band === "refer" ? CAUTION : INFO;
  const void_ = Boolean(serious(row));
  return el("div", { class: void_ ? "card verdict void" : "card verdict" },
    el("h2", { id: "view-title" }, row.file),
    el("p", { class: "says" }, el("span", { class: "class" }, row.class), el("span", { class: "sure" }, percent(row.probability))),
    el("p", { class: `band ${row.band}` }, icon(mark), el("span", {}, row.advice)),
    warnings(row.warnings),
    el("p", { class: "meaning" }, row.meaning),
    void_ ? null : Object.keys(row.probabilities).length === 2 ? gauge(row, refer) : classes(row),
    facts([["Image", `${row.width} × ${row.height} pixels`], ["Read by", by(row)]]));
}

const by = (row) => `model of round ${row.round ?? "?"} (${row.model.slice(0, 8)})`;

function warnings(found) {
  if (!found.length) return null;
  const items = found.map((each) => el("li", { class: each.serious ? "serious" : "" }, el("b", {}, KINDS[each.kind] || each.kind), each.text));
  return el("ul", { class: "warnings", "aria-label": "Warnings" }, ...items);
}

/** Two classes on one rail: where the model stands, and the band in which one is to refer. */
function gauge(row, refer) {
  const [first, second] = Object.entries(row.probabilities);
  const label = `${second[0]} ${percent(second[1])}, ${first[0]} ${percent(first[1])}. To be referred between ${percent(1 - refer)} and ${percent(refer)}.`;
  return el("div", { class: "gauge", role: "img", "aria-label": label, "--low": percent(1 - refer).replace(" ", ""),
    "--high": percent(refer).replace(" ", ""), "--at": `${100 * second[1]}%` },
  el("div", { class: "rail" }), el("div", { class: "here" }),
  el("div", { class: "ends" }, el("span", {}, first[0]), el("span", {}, "refer"), el("span", {}, second[0])));
}

function classes(row) {
  const rows = Object.entries(row.probabilities).sort((a, b) => b[1] - a[1]).slice(0, 8);
  return el("dl", { class: "classes" }, ...rows.map(([name, share]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, percent(share)), el("dd", { class: "bar", "aria-hidden": "true", "--share": share }))));
}

/** The same in one sentence, for those who hear the page. */
export function spoken(row) {
  if (row.error) return `${row.file} ${row.error}`;
  const warned = row.warnings.map((each) => each.text).join(" ");
  if (serious(row)) return `${row.file}: ${warned} ${row.advice}`;
  return `${row.file}: ${row.class}, ${percent(row.probability)}. ${row.advice} ${warned}`;
}
