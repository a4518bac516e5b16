// One chart: uPlot in a card, with a legend of our own that tells the newest values, or those under the pointer.
import { el, setHidden, setText } from "./dom.js";

const HEIGHT = 210;
const DASHES = [[], [7, 4], [2, 3], [8, 3, 2, 3]];
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
// Of what comes in whole numbers.
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];

// `series`: {name, colour ("--c1"), band: [low, high] indices, kind: "line" | "stack", hidden: true (draws no legend)}
export class Chart {
  constructor(title, note, { show, range, whole = false }) {
    this.show = show;
    this.range = range;
    this.whole = whole;
    this.plotBox = el("div", { class: "plot", "aria-hidden": "true" });
    this.legend = el("ul", { class: "legend" });
    this.note = el("span", { class: "small soft" }, note);
    const caption = el("figcaption", {}, el("h3", {}, title), this.note);
    this.box = el("figure", { class: "card chart" }, caption, this.plotBox, this.legend);
    this.plot = null;
    this.shape = "";
    new ResizeObserver(() => this.plot?.setSize({ width: this.plotBox.clientWidth, height: HEIGHT })).observe(this.plotBox);
  }

  // `data`: [rounds, values of each series...]; null where there is none.
  draw(series, data) {
    this.series = series;
    this.data = data;
    const isEmpty = !data[0].length || data.slice(1).every((values) => values.every((value) => value === null));
    setHidden(this.box, isEmpty);
    if (isEmpty) return;
    const shape = JSON.stringify(series);
    if (this.plot && shape === this.shape) this.plot.setData(this.#drawn());
    else this.again();
    this.#legend(null);
  }

  again() {
    if (!this.data || this.box.hidden) return;
    this.plot?.destroy();
    this.shape = JSON.stringify(this.series);
    const options = this.#options();
    this.plot = new uPlot(options, this.#drawn(), this.plotBox);
    this.items = this.series.map((each, index) => (each.hidden ? null : item(each, index, this.series)));
    this.legend.replaceChildren(...this.items.filter(Boolean).map((each) => each.box));
    this.#legend(null);
  }

  // Stacks are drawn as sums, the tallest first, so that every bar stands on those before it.
  #drawn() {
    if (!this.series.some((each) => each.kind === "stack")) return this.data;
    const [rounds, ...values] = this.data;
    const sums = [];
    values.forEach((column, index) => sums.push(column.map((value, at) => (value ?? 0) + (index ? sums[index - 1][at] : 0))));
    return [rounds, ...sums.reverse()];
  }

  #options() {
    const [ink, rule] = [colour("--soft"), colour("--faint")];
    const axis = { stroke: ink, grid: { stroke: rule, width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const isStack = this.series.some((each) => each.kind === "stack");
    const drawn = isStack ? [...this.series].reverse() : this.series;
    const few = this.data[0].length < 40;
    return {
      width: this.plotBox.clientWidth || 360,
      height: HEIGHT,
      padding: [10, 8, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { show: !isStack }, drag: { x: false, y: false } },
      scales: { x: { time: false, range: (_, low, high) => spread(this.data[0], low, high, isStack) }, y: { range: (_, low, high) => this.range(low, high) } },
      axes: [{ ...axis, incrs: STEPS, space: 44, size: 30 }, { ...axis, size: 56, space: 36, ...(this.whole ? { incrs: STEPS } : {}), values: (_, ticks) => ticks.map((tick) => this.show(tick, true)) }],
      series: [{}, ...drawn.map((each) => (isStack ? stack(each) : line(each, few)))],
      bands: this.series.flatMap((each) => (each.band ? [{ series: each.band, fill: `${colour(each.colour)}2b` }] : [])),
      hooks: { setCursor: [(plot) => this.#legend(plot.cursor.idx ?? null)] },
    };
  }

  #legend(at) {
    if (!this.items) return;
    const index = at ?? this.data[0].length - 1;
    this.series.forEach((each, number) => {
      if (!this.items[number]) return;
      const values = this.data[number + 1];
      let from = index;
      if (at === null) while (from > 0 && values[from] === null) from -= 1;
      const value = values[from];
      const band = each.interval ? each.interval.map((column) => this.data[column]?.[from]) : null;
      const wide = band && Number.isFinite(band[0]) ? ` (${this.show(band[0])} to ${this.show(band[1])})` : "";
      setText(this.items[number].value, value === null || value === undefined ? "–" : this.show(value) + wide);
    });
  }
}

function spread(rounds, low, high, isStack) {
  if (low === null) return [0, 1];
  if (rounds.length === 1) return [rounds[0] - 0.6, rounds[0] + 0.6]; // uPlot would show the rounds beside it as well
  const margin = isStack ? 0.6 : 0;
  return [low - margin, high + margin];
}

function line(each, few) {
  const stroke = each.hidden ? "transparent" : colour(each.colour);
  const points = { show: few && !each.hidden, size: 6, fill: stroke, stroke };
  return { stroke, width: each.hidden ? 0 : 2, dash: DASHES[each.dash ?? 0], spanGaps: true, points };
}

function stack(each) {
  return { fill: colour(each.colour), stroke: colour(each.colour), width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.75, 44] }) };
}

const SVG = "http://www.w3.org/2000/svg";
function item(each, index, series) {
  const mark = document.createElementNS(SVG, "svg");
  mark.setAttribute("viewBox", "0 0 24 12");
  mark.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS(SVG, each.kind === "stack" ? "rect" : "path");
  const said = each.kind === "stack" ? { x: 7, y: 1, width: 10, height: 10, rx: 2 } : { d: "M1 6H23", "stroke-dasharray": DASHES[each.dash ?? 0].join(" ") };
  for (const [key, value] of Object.entries(said)) shape.setAttribute(key, value);
  shape.setAttribute("class", `${each.kind === "stack" ? "fill" : "stroke"} ${each.colour.slice(2)}`);
  mark.append(shape);
  const value = el("b", { class: "num" });
  const many = series.filter((other) => !other.hidden).length > 1 || each.always;
  return { value, box: el("li", {}, mark, many ? `${each.name} ` : "", value) };
}
