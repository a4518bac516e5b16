// What a site's row says, in the words that tile and table share.
import { ago, count, figure, percent, span } from "./format.js";

const LEVELS = { ready: "ok", training: "info", uploading: "info", fetching: "info", scoring: "info", preparing: "", lost: "bad", left: "" };
const DOING = { fetching: "downloading" };
const VERDICTS = { accepted: ["accepted", "ok"], rejected: ["rejected", "bad"], late: ["late", "warn"], declined: ["declined", "warn"] };

export function stateOf(row) {
  if (row.verdict && row.state !== "lost" && row.state !== "left") return VERDICTS[row.verdict] ?? [row.verdict, ""];
  return [DOING[row.state] ?? row.state, LEVELS[row.state] ?? ""];
}

// How far it is, from 0 to 1, and what that is of.
export function progressOf(row) {
  if (row.verdict === "accepted") return [1, "update accepted"];
  if (row.verdict) return [0, row.reason || `update ${row.verdict}`];
  if (row.state === "uploading") return [row.upload ?? 0, row.upload === null ? "uploading" : `uploaded ${percent(row.upload)}`];
  if (row.state === "training") {
    const loss = row.loss === null ? "" : ` · loss ${figure(row.loss)}`;
    return [row.fraction ?? 0, row.fraction === null ? "training" : `trained ${percent(row.fraction)}${loss}`];
  }
  if (row.state === "fetching") return [0, "downloads the model"];
  if (row.state === "scoring") return [0, "scores the model"];
  if (row.state === "preparing") return [0, "prepares its images"];
  if (row.state === "lost" || row.state === "left") return [0, row.state === "lost" ? "connection lost" : "has left"];
  return [0, row.cohort ? "invited" : "waits for its turn"];
}

export function classesOf(row) {
  const classes = Object.entries(row.data?.classes ?? {});
  return classes.map(([name, number]) => `${name} ${count(number)}`).join(" · ");
}

export const aurocOf = (row) => row.figures?.auroc;
export const isAway = (row) => row.state === "lost" || row.state === "left";

// Of a site that has said nothing since the dashboard began to look it is only known that it is at least so long ago.
export const seenOf = (row, now) => (row.live ? ago(now - row.seen) : `over ${span(Math.floor(now - row.seen))} ago`);
