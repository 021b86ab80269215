/** Colours of values on the map. */

export const CLASSES = ["#5b5bd6", "#e5793a", "#2a9d8f", "#d6457a", "#8d9a1c", "#3b8ecb", "#a05bd0", "#9c6b3f", "#c2a10f", "#6b7280"];
const RAMP = ["#3b2a7d", "#3f5fa8", "#2f8f9d", "#4fb477", "#b5cf4a", "#fde047"];
const UNKNOWN = "#9aa0a8";

function channels(colour: string): [number, number, number] {
  const value = Number.parseInt(colour.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/** A packed pixel, as a Uint32Array of image data holds it on little-endian machines. */
function packed([red, green, blue]: number[]): number {
  return ((255 << 24) | (blue! << 16) | (green! << 8) | red!) >>> 0;
}

/** The packed colour of a share of a range. */
function ramp(share: number): number {
  const place = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1);
  const k = Math.min(Math.floor(place), RAMP.length - 2);
  const [low, high] = [channels(RAMP[k]!), channels(RAMP[k + 1]!)];
  return packed(low.map((value, c) => Math.round(value + (high[c]! - value) * (place - k))));
}

export interface Colours {
  packed: Uint32Array<ArrayBuffer>;
  legend: { text: string; colour: string }[];
}

/** Colours of values: classes in distinct ones, numbers along a ramp between their 2nd and 98th percentile. */
export function colour(values: Float32Array, kind: string, classes: string[], word: (value: number) => string): Colours {
  const unknown = packed(channels(UNKNOWN));
  const result = new Uint32Array(values.length);
  if (kind !== "number") {
    const names = kind === "binary" ? ["no", "yes"] : classes;
    const palette = CLASSES.map((one) => packed(channels(one)));
    values.forEach((value, k) => (result[k] = Number.isNaN(value) ? unknown : palette[value % palette.length]!));
    return { packed: result, legend: names.map((text, k) => ({ text, colour: CLASSES[k % CLASSES.length]! })) };
  }
  const sorted = values.filter((value) => !Number.isNaN(value)).sort();
  const low = sorted[Math.floor(sorted.length * 0.02)] ?? 0;
  const high = sorted[Math.floor(sorted.length * 0.98)] ?? 1;
  const steps = Array.from({ length: 256 }, (_, k) => ramp(k / 255));
  values.forEach((value, k) => {
    const share = (value - low) / (high - low || 1);
    result[k] = Number.isNaN(value) ? unknown : steps[Math.round(Math.min(Math.max(share, 0), 1) * 255)]!;
  });
  const marks = [0, 0.25, 0.5, 0.75, 1];
  const legend = marks.map((share) => {
    const value = ramp(share);
    return { text: word(low + share * (high - low)), colour: `rgb(${value & 255}, ${(value >> 8) & 255}, ${(value >> 16) & 255})` };
  });
  return { packed: result, legend };
}
