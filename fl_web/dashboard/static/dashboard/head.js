// The job, its round, the time that is left, and the newest figures.
import { byId, el, setClass, setHidden, setShare, setText } from "./dom.js";
import { clock, count, figure, plural, span, words } from "./format.js";

const PHASES = { waiting: "waiting", open: "round open", aggregating: "averaging", finished: "finished", stopped: "stopped" };
const LEVELS = { open: "info", aggregating: "info", finished: "ok", stopped: "warn" };

export class Head {
  constructor(store) {
    this.store = store;
  }

  show(name, job) {
    const head = job.head;
    setText(byId("job-name"), name);
    document.title = `${name} · Hilum dashboard`;
    if (!head) return;
    setHidden(byId("synthetic"), !head.synthetic);
    const about = [head.task && `${head.task} with ${head.model}`, head.strategy, ...planned(head.plan), head.run?.name && `run ${head.run.name}`];
    setText(byId("about"), about.filter(Boolean).join(" · "));
    this.#pills(head);
    this.#round(head, job);
    this.#figures(head, job);
    this.tick(job);
  }

  #pills(head) {
    const pills = [[head.online ? "aggregator here" : head.online === false ? "aggregator away" : "no aggregator seen", head.online ? "ok" : "bad"]];
    if (head.phase) pills.push([PHASES[head.phase] ?? head.phase, LEVELS[head.phase] ?? ""]);
    if (head.run?.paused) pills.push(["paused", "warn"]);
    if (head.run?.stopping) pills.push(["stops after this round", "warn"]);
    const box = byId("job-pills");
    const shown = pills.join();
    if (box.dataset.shown === shown) return;
    box.dataset.shown = shown;
    box.replaceChildren(...pills.map(([text, level]) => el("span", { class: `pill ${level}` }, text)));
  }

  #round(head, job) {
    setText(byId("round-number"), head.rounds ? `${count(head.round)} of ${count(head.rounds)}` : "none yet");
    setText(byId("round-told"), told(head, job));
    const done = head.phase === "open" || head.phase === "aggregating" ? head.round - 1 : head.round;
    setHidden(byId("rounds-bar"), !head.rounds);
    setShare(byId("rounds-bar"), head.rounds ? done / head.rounds : 0);
    const isOpen = (head.phase === "open" || head.phase === "aggregating") && head.cohort > 0;
    setHidden(byId("quorum"), !isOpen);
    if (!isOpen) return;
    setShare(byId("quorum-part"), head.accepted / head.cohort);
    setClass(byId("quorum-part"), head.accepted >= head.quorum ? "quorum-part full" : "quorum-part");
    setShare(byId("quorum-mark"), head.quorum / head.cohort);
    const refused = head.refused ? `, ${plural(head.refused, "refusal")}` : "";
    setText(byId("quorum-told"), `${count(head.accepted)} of ${count(head.cohort)} updates are in; ${count(head.quorum)} make a quorum${refused}.`);
  }

  #figures(head, job) {
    const rows = newest(head, job.rounds);
    const box = byId("figures");
    const shown = JSON.stringify(rows);
    if (box.dataset.shown === shown) return;
    box.dataset.shown = shown;
    box.replaceChildren(
      ...rows.map(([name, value, note]) =>
        el("div", {}, el("dt", {}, name), el("dd", { class: "figure num" }, value), el("dd", { class: "small soft" }, note)),
      ),
    );
  }

  tick(job) {
    const head = job?.head;
    const box = byId("clock");
    if (!head || head.phase !== "open" || head.run?.paused) {
      setHidden(box, true);
      return;
    }
    setHidden(box, false);
    const now = this.store.now();
    const known = head.opened_at !== null;
    const deadline = known ? head.opened_at + head.deadline_s - now : null;
    const grace = head.quorum_at !== null ? head.quorum_at + head.grace_s - now : null;
    const byGrace = grace !== null && (deadline === null || grace < deadline);
    setText(byId("clock-label"), byGrace ? "Grace ends in" : "Deadline in");
    setText(byId("clock-left"), byGrace ? clock(grace) : known ? clock(deadline) : `≤ ${span(head.deadline_s)}`);
    const note = byGrace ? "quorum is reached; the others may still come" : known ? `quorum, then ${span(head.grace_s)} of grace` : "the round was open when we came";
    setText(byId("clock-note"), note);
  }

  showSettings(settings) {
    setHidden(byId("settings-card"), !Object.keys(settings).length);
    byId("settings").replaceChildren(
      ...Object.entries(settings)
        .filter(([, { value }]) => value !== "")
        .map(([name, { value, source }]) =>
          el("div", { class: source === "option" ? "chosen" : "" }, el("dt", {}, words(name)), el("dd", {}, value, el("small", {}, source))),
        ),
    );
  }
}

function planned(plan) {
  if (!plan) return [];
  const work = plan.local_steps === undefined ? plural(plan.local_epochs, "local epoch") : plural(plan.local_steps, "local step");
  return [work, `batch ${plan.batch_size}`, `learning rate ${Number(plan.learning_rate.toPrecision(3))}`];
}

function told(head, job) {
  if (head.run && !head.run.name) return "The aggregator waits to be told: launch a run.";
  if (head.phase === "open") {
    const missing = Math.max(0, head.quorum - head.accepted);
    if (missing) return `${plural(missing, "more update")} until quorum.`;
    return head.accepted < head.cohort ? "Quorum is reached." : "All updates are in.";
  }
  if (head.phase === "aggregating") return "The updates become the next global model.";
  if (head.phase === "waiting") {
    const here = [...job.clients.values()].filter((each) => each.state !== "lost" && each.state !== "left").length;
    if (head.run?.paused) return "Paused: no round opens until it is resumed.";
    return here < head.min_clients ? `Waits for sites: ${here} of ${head.min_clients} are here.` : sentence(head.reason) || "The next round opens shortly.";
  }
  return sentence(head.reason) || (head.phase === "finished" ? "All rounds are done." : "");
}

const sentence = (text) => (text ? `${text.charAt(0).toUpperCase()}${text.slice(1)}.` : "");

function newest(head, rounds) {
  const last = [...rounds.values()].reduce((best, each) => (best === null || each.round > best.round ? each : best), null);
  const central = last?.metrics ?? head.last?.metrics ?? {};
  const atSites = last?.client_metrics ?? head.last?.client_metrics ?? {};
  const rows = [];
  for (const [name, title, digits] of [["auroc", "AUROC", 3], ["accuracy", "Accuracy", 3], ["loss", "Loss", 3]]) {
    const [value, siteValue] = [central[name], atSites[`eval_${name}`]];
    if (value !== undefined) {
      const low = central[`${name}_low`];
      const note = low === undefined ? "central test set" : `95 %: ${figure(low)} to ${figure(central[`${name}_high`])}`;
      rows.push([title, figure(value, digits), note]);
    } else if (siteValue !== undefined) rows.push([title, figure(siteValue, digits), "mean of the sites"]);
  }
  if (last) {
    rows.push(["Last round", span(last.duration_s), `${plural(last.accepted, "update")}, ${count(last.num_examples)} examples`]);
  }
  return rows;
}
