// The curves of a run, round by round: what each shows, and where it stands in a round's line.
import { Chart } from "./chart.js";
import { bytes, count, figure, span } from "./format.js";

const COLOURS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6"];
const MOST_SITES = 12;
const known = (value) => (Number.isFinite(value) ? value : null);
const fromZero = (_, high) => [0, (high || 1) * 1.08];
const around = (low, high) => {
  if (low === null) return [0, 1];
  const margin = (high - low) * 0.1 || Math.abs(high) * 0.1 || 0.1;
  return [Math.max(0, low - margin), high + margin];
};
// Not below the half unless the figures are: half is chance.
const share = (low, high) => {
  if (low === null) return [0, 1];
  const margin = Math.max(0.01, (high - low) * 0.1);
  return [Math.max(0, low - margin), Math.min(1.005, high + margin)];
};

// What sites measure in a round is of the model that the round before has made: it stands there.
export function ofModels(lines) {
  const next = new Map(lines.map((each) => [each.round - 1, each]));
  return (pick) => lines.map((each) => known(next.has(each.round) ? pick(next.get(each.round)) : null));
}

export class Curves {
  // `beside`: where the chart of updates stands instead, before what tells of refusals.
  constructor(box, beside = null) {
    const number = (value, isTick) => (isTick ? String(Number(value.toPrecision(4))) : figure(value));
    this.charts = {
      auroc: new Chart("AUROC", "central test set; the band is the 95 % interval", { show: number, range: share }),
      accuracy: new Chart("Accuracy", "of the global model", { show: number, range: share }),
      loss: new Chart("Loss", "of the global model; in training: of the clients' own", { show: number, range: around }),
      sites: new Chart("AUROC at the sites", "each on patients it holds out", { show: number, range: share }),
      duration: new Chart("Duration", "of a round", { show: (value) => span(value), range: fromZero }),
      bytes: new Chart("Bytes", "through the broker, of a round", { show: (value) => bytes(value), range: fromZero }),
      outcomes: new Chart("Updates by round", "what became of those who were asked", { show: (value) => count(value), range: fromZero, whole: true }),
    };
    const { outcomes, ...others } = this.charts;
    box.append(...Object.values(others).map((each) => each.box));
    outcomes.box.hidden = true;
    if (beside) beside.prepend(outcomes.box);
    else box.append(outcomes.box);
    this.section = box.parentElement;
  }

  show(rounds) {
    const lines = [...rounds.values()].sort((a, b) => a.round - b.round);
    this.section.hidden = lines.length === 0;
    if (!lines.length) {
      this.charts.outcomes.box.hidden = true;
      return;
    }
    const x = lines.map((each) => each.round);
    const column = (pick) => lines.map((each) => known(pick(each)));
    this.#quality(x, column, ofModels(lines));
    this.#sites(lines);
    this.#work(lines, x, column);
  }

  again() {
    for (const each of Object.values(this.charts)) each.again();
  }

  #quality(x, column, atSites) {
    const { auroc, accuracy, loss } = this.charts;
    auroc.draw(
      [
        { name: "AUROC", colour: "--c1", interval: [2, 3] },
        { name: "low", colour: "--c1", hidden: true },
        { name: "high", colour: "--c1", hidden: true, band: [3, 2] },
      ],
      [x, column((each) => each.metrics.auroc), column((each) => each.metrics.auroc_low), column((each) => each.metrics.auroc_high)],
    );
    for (const [chart, name] of [[accuracy, "accuracy"], [loss, "loss"]]) {
      const columns = [
        ["central test set", "--c1", 0, column((each) => each.metrics[name])],
        ["held out at the sites", "--c3", 1, atSites((each) => each.client_metrics[`eval_${name}`])],
        ["in training", "--c2", 2, column((each) => each.client_metrics[`train_${name}`])],
      ].filter(([, , , values]) => values.some((value) => value !== null));
      chart.draw(columns.map(([title, colour, dash]) => ({ name: title, colour, dash, always: true })), [x, ...columns.map((each) => each[3])]);
    }
  }

  #sites(lines) {
    const seen = new Map();
    for (const each of lines) {
      for (const [site, figures] of Object.entries(each.sites)) {
        if (Number.isFinite(figures.auroc)) seen.set(site, (seen.get(site) ?? 0) + 1);
      }
    }
    const names = [...seen.keys()].sort(new Intl.Collator("en", { numeric: true }).compare).slice(0, MOST_SITES);
    const atSites = ofModels(lines);
    const chart = this.charts.sites;
    const more = seen.size > MOST_SITES ? `; the first ${MOST_SITES} of ${seen.size}` : "";
    chart.note.textContent = `the model after each round, on patients the site holds out${more}`;
    chart.draw(
      names.map((name, index) => ({ name, colour: COLOURS[index % 6], dash: Math.floor(index / 6), always: true })),
      [lines.map((each) => each.round), ...names.map((name) => atSites((each) => each.sites[name]?.auroc))],
    );
  }

  #work(lines, x, column) {
    const hasPhases = lines.some((each) => Object.keys(each.phases).length);
    const phases = hasPhases
      ? ["download", "train", "upload", "wait"].map((name) => [name, column((each) => each.phases[name])])
      : [["duration", column((each) => each.duration_s)]];
    this.charts.duration.note.textContent = hasPhases ? "where a round's time went" : "of a round";
    this.charts.duration.draw(
      phases.map(([name], index) => ({ name, colour: COLOURS[index], kind: "stack" })),
      [x, ...phases.map(([, values]) => values)],
    );
    this.charts.bytes.draw(
      [{ name: "down to the sites", colour: "--c1" }, { name: "up from them", colour: "--c2", dash: 1 }],
      [x, column((each) => each.bytes_down), column((each) => each.bytes_up)],
    );
    const refused = (each) => Object.values(each.refusals).reduce((sum, times) => sum + times, 0);
    this.charts.outcomes.draw(
      [["accepted", "--c1"], ["late", "--c2"], ["missing", "--c0"], ["refusals", "--c4"]].map(([name, colour]) => ({ name, colour, kind: "stack" })),
      [x, column((each) => each.accepted), column((each) => each.stragglers), column((each) => each.missing), column(refused)],
    );
  }
}
