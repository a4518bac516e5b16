// A heat map on a canvas: from dark violet to pale yellow, the fainter the less speaks for the class.

const STOPS = ["#1b1464", "#6a1f8f", "#c03a6b", "#f2763b", "#fbc02d", "#fff59d"].map((text) =>
  [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16)),
);

export function bytes(base64) {
  return Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0));
}

/** The colour of 0 to 255, with how much of it is seen. */
export function colour(value) {
  const at = (value / 255) * (STOPS.length - 1);
  const low = Math.min(Math.floor(at), STOPS.length - 2);
  const mixed = STOPS[low].map((from, channel) => from + (STOPS[low + 1][channel] - from) * (at - low));
  return [...mixed, 255 * Math.min(1, value / 110)];
}

/** Paint `side` x `side` values; the browser smooths between them. */
export function paint(canvas, values, side) {
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  values.forEach((value, index) => image.data.set(colour(value), 4 * index));
  context.putImageData(image, 0, 0);
}

/** Where it is strongest, in words; empty if nothing speaks for the class. */
export function place(values, side) {
  const best = values.reduce((found, value, index) => (value > values[found] ? index : found), 0);
  if (!values[best]) return "";
  const [row, column] = [Math.floor(best / side) / side, (best % side) / side];
  const word = (share, low, high) => (share < 1 / 3 ? low : share > 2 / 3 ? high : "");
  const [across, down] = [word(column, "left", "right"), word(row, "upper", "lower")];
  if (!across && !down) return "strongest in the middle of the image";
  return `strongest in the ${[down, across].filter(Boolean).join(" ")} part of the image`;
}
