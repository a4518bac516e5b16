// Nothing to show yet: what to do next.
import { el, setHidden } from "./dom.js";

export function showEmpty(box, isEmpty, link, joinLine) {
  setHidden(box, !isEmpty);
  const shown = `${link.connected} ${link.reason}`;
  if (!isEmpty || box.dataset.shown === shown) return;
  box.dataset.shown = shown;
  box.replaceChildren(...(link.connected ? nothingRuns(link, joinLine) : noBroker(link)));
}

function noBroker(link) {
  return [
    el("h1", {}, "The broker does not answer"),
    el("p", { class: "soft" }, `Tried ${link.broker || "it"}${link.reason ? `: ${link.reason}` : ""}.`),
    el("p", {}, "Start it, or start the dashboard with another --broker. This page goes on by itself as soon as it is there."),
  ];
}

function nothingRuns(link, joinLine) {
  return [
    el("h1", {}, "Nothing runs here yet"),
    el("p", { class: "soft" }, `The broker ${link.broker} is there, and knows of no job.`),
    el(
      "ol",
      { class: "steps" },
      el("li", {}, "Start an aggregator, which then waits to be told: ", el("code", {}, `fl-agg start --broker ${link.broker} --wait`)),
      el("li", {}, "At each site: ", el("code", {}, joinLine)),
      el("li", {}, "They appear on this page by themselves."),
    ),
  ];
}
