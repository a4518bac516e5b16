// Runs side by side: the same curve of each, in one chart.
import { Chart } from "./chart.js";
import { Curves, ofModels } from "./curves.js";
import { byId } from "./dom.js";
import { bytes, figure, span } from "./format.js";

const number = (value, isTick) => (isTick ? String(Number(value.toPrecision(4))) : figure(value));
const padded = (low, high) => {
  if (low === null) return [0, 1];
  const margin = (high - low) * 0.1 || 0.05;
  return [Math.max(0, low - margin), high + margin];
};
const CHARTS = [
  ["AUROC", "central test set", (each) => each.metrics.auroc, number, padded],
  ["AUROC at the sites", "mean, on patients they hold out", (each) => each.client_metrics.eval_auroc, number, padded, true],
  ["Accuracy", "central test set", (each) => each.metrics.accuracy, number, padded],
  ["Loss", "central test set", (each) => each.metrics.loss, number, padded],
  ["Loss at the sites", "mean, on patients they hold out", (each) => each.client_metrics.eval_loss, number, padded, true],
  ["Duration", "of a round", (each) => each.duration_s, span, (_, high) => [0, (high || 1) * 1.08]],
  ["Bytes up", "from the sites, of a round", (each) => each.bytes_up, bytes, (_, high) => [0, (high || 1) * 1.08]],
];

const response = await fetch(`/api/compare${location.search}`);
const { runs } = await response.json();
byId("no-rounds").hidden = runs.some((run) => run.rounds.length);
const box = byId("curves");
if (runs.length === 1) {
  const curves = new Curves(box);
  curves.show(new Map(runs[0].rounds.map((each) => [each.round, each])));
  document.addEventListener("themechange", () => curves.again());
} else {
  const x = [...new Set(runs.flatMap((run) => run.rounds.map((each) => each.round)))].sort((a, b) => a - b);
  const charts = CHARTS.map(([title, note, pick, show, range, isAtSites]) => {
    const chart = new Chart(title, note, { show, range });
    const columns = runs.map((run) => {
      const values = isAtSites ? ofModels(run.rounds)(pick) : run.rounds.map(pick);
      const byRound = new Map(run.rounds.map((each, index) => [each.round, values[index]]));
      return x.map((round) => (Number.isFinite(byRound.get(round)) ? byRound.get(round) : null));
    });
    box.append(chart.box);
    chart.draw(runs.map((run, index) => ({ name: run.name, colour: `--c${index + 1}`, dash: index % 4, always: true })), [x, ...columns]);
    return chart;
  });
  document.addEventListener("themechange", () => charts.forEach((each) => each.again()));
}
