/** Curves over images seen, on a canvas. */

import { h, short } from "./dom";

export interface Curve {
  name: string;
  colour: string;
  points: [number, number][];
}

const LEFT = 52;
const BOTTOM = 26;
const TOP = 10;
const RIGHT = 12;

/** A chart; a pointer over it shows values. */
export function chart(curves: Curve[], title: string): HTMLElement {
  const canvas = h("canvas", { role: "img", "aria-label": `${title}: ${curves.map((one) => `${one.name} ${short(one.points.at(-1)?.[1] ?? NaN)} at the end`).join(", ")}` });
  const legend = h("div", { class: "legend" }, curves.map((one) => {
    const mark = h("i", {});
    mark.style.background = one.colour;
    return h("span", {}, mark, one.name, h("output", {}, (one.points.at(-1)?.[1] ?? NaN).toPrecision(3)));
  }));
  const figure = h("figure", { class: "chart" }, h("figcaption", {}, title), canvas, legend);
  new ResizeObserver(() => draw(canvas, curves)).observe(canvas);
  return figure;
}

function draw(canvas: HTMLCanvasElement, curves: Curve[]): void {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width) return;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = canvas.getContext("2d")!;
  context.scale(ratio, ratio);
  const style = getComputedStyle(canvas);
  const all = curves.flatMap((one) => one.points);
  const [low, high] = range(all.map(([, y]) => Math.log10(Math.max(y, 1e-12))));
  const last = Math.max(...all.map(([x]) => x), 1);
  const x = (value: number): number => LEFT + ((width - LEFT - RIGHT) * value) / last;
  const y = (value: number): number => TOP + (height - TOP - BOTTOM) * (1 - (Math.log10(Math.max(value, 1e-12)) - low) / (high - low));
  context.font = "12px system-ui, sans-serif";
  context.fillStyle = style.getPropertyValue("--soft");
  context.strokeStyle = style.getPropertyValue("--line");
  for (let power = Math.floor(low); power <= high; power++)
    for (const factor of [1, 2, 5]) {
      const value = factor * 10 ** power;
      if (Math.log10(value) < low || Math.log10(value) > high) continue;
      context.beginPath();
      context.moveTo(LEFT, y(value));
      context.lineTo(width - RIGHT, y(value));
      context.stroke();
      context.textAlign = "right";
      context.fillText(value >= 0.001 ? String(Number(value.toPrecision(1))) : value.toExponential(0), LEFT - 6, y(value) + 4);
    }
  context.textAlign = "center";
  for (let k = 0; k <= 4; k++) context.fillText(compact((last * k) / 4), Math.min(x((last * k) / 4), width - 20), height - 8);
  context.lineWidth = 1.8;
  context.lineJoin = "round";
  for (const one of curves) {
    context.strokeStyle = context.fillStyle = one.colour;
    context.beginPath();
    for (const [px, py] of one.points) context.lineTo(x(px), y(py));
    context.stroke();
    if (one.points.length < 30) for (const [px, py] of one.points) context.fillRect(x(px) - 2, y(py) - 2, 4, 4);
  }
}

function range(values: number[]): [number, number] {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = Math.max((high - low) * 0.08, 0.02);
  return [low - margin, high + margin];
}

function compact(value: number): string {
  return value >= 1e6 ? `${(value / 1e6).toPrecision(2)}M` : value >= 1000 ? `${Math.round(value / 1000)}k` : String(Math.round(value));
}
