// Numbers and times for people.
const whole = new Intl.NumberFormat("en");
const UNITS = ["B", "kB", "MB", "GB", "TB"];

export const count = (value) => (value === null || value === undefined ? "–" : whole.format(Math.round(value)));
export const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;
export const figure = (value, digits = 3) => (Number.isFinite(value) ? value.toFixed(digits) : "–");
export const percent = (share) => `${Math.round(100 * share)} %`;

export function bytes(value) {
  if (!Number.isFinite(value)) return "–";
  let unit = 0;
  let rest = value;
  while (rest >= 999.5 && unit < UNITS.length - 1) {
    rest /= 1000;
    unit += 1;
  }
  return `${rest >= 9.95 || unit === 0 ? rest.toFixed(0) : Number(rest.toFixed(1))} ${UNITS[unit]}`;
}

export function span(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 9.95) return `${Number(seconds.toFixed(1))} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${(seconds / 3600).toFixed(1)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

export function ago(seconds) {
  if (seconds < 3) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  return `${span(seconds)} ago`;
}

export function clock(seconds) {
  const left = Math.max(0, Math.round(seconds));
  const [h, m, s] = [Math.floor(left / 3600), Math.floor(left / 60) % 60, left % 60];
  const two = (value) => String(value).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

export function timeOfDay(seconds) {
  const at = new Date(seconds * 1000);
  if (Number.isNaN(at.getTime()) || at.getFullYear() < 2000) return "";
  const time = at.toLocaleTimeString("en-GB");
  const today = new Date().toDateString() === at.toDateString();
  return today ? time : `${at.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" })} ${time.slice(0, 5)}`;
}

export const words = (name) => {
  const text = name.replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
};
