/** A slider of one attribute: its value, where it came from, and how well it is read. */

import type { Attribute } from "./api";
import { button, h, percent, short } from "./dom";

const STEPS = 400;
const THUMB = 18; // pixels, as in the style sheet

const expit = (reading: number): number => 1 / (1 + Math.exp(-reading));
const logit = (share: number): number => Math.log(share / (1 - share));

/** A value in words that people know. */
export function worded(attribute: Attribute, value: number): string {
  return attribute.kind === "number" ? short(value) : percent(value);
}

export class Slider {
  readonly element: HTMLElement;
  private readonly input: HTMLInputElement;
  private readonly value = h("output", { class: "value" });
  private readonly read = h("span", { class: "read" });
  private readonly reset: HTMLButtonElement;
  private readonly mark = h("i", { class: "mark", "aria-hidden": "true" });

  constructor(
    readonly attribute: Attribute,
    moved: (value: number) => void,
    released: () => void,
    undone: () => void,
  ) {
    const { name, score } = attribute;
    this.input = h("input", { type: "range", min: 0, max: STEPS, step: 1, "aria-label": name });
    this.input.addEventListener("input", () => moved(this.valueHere()));
    this.input.addEventListener("change", released);
    this.reset = button("↺", undone, { class: "quiet reset", "aria-label": `Reset ${name}`, title: "As it was" });
    const interval = `${score.measure} ${score.value.toFixed(3)} on images held out, 95 % interval ${score.low.toFixed(3)} to ${score.high.toFixed(3)}; learnt from ${attribute.images} images`;
    const weak = score.measure === "AUROC" ? score.value < 0.7 : score.value < 0.3;
    this.element = h(
      "div",
      { class: "slider" },
      h(
        "div",
        { class: "line" },
        h("span", { class: "name" }, name.replaceAll("_", " ")),
        this.value,
        this.reset,
      ),
      h("div", { class: "track" }, this.mark, this.input),
      h(
        "div",
        { class: "under" },
        h("span", { class: weak ? "score weak" : "score", title: interval }, `${score.measure} ${score.value.toFixed(2)}`),
        this.read,
      ),
    );
  }

  /** Show the value of the original, the one asked for, and the one read from the edited image. */
  show(original: number, asked: number | undefined, read: number | undefined): void {
    const value = asked ?? original;
    this.input.value = String(this.place(value));
    this.input.setAttribute("aria-valuetext", worded(this.attribute, value));
    this.value.textContent = worded(this.attribute, value);
    this.reset.hidden = asked === undefined;
    this.element.classList.toggle("changed", asked !== undefined);
    const share = this.place(original) / STEPS;
    this.mark.style.left = `calc(${THUMB / 2}px + ${share} * (100% - ${THUMB}px))`;
    const text = read === undefined ? "" : `image reads ${worded(this.attribute, read)}`;
    this.read.textContent = asked === undefined ? "" : text;
  }

  private place(value: number): number {
    const { low, high, kind } = this.attribute;
    const reading = kind === "number" ? value : logit(Math.min(Math.max(value, 1e-9), 1 - 1e-9));
    return Math.round((STEPS * (Math.min(Math.max(reading, low), high) - low)) / (high - low));
  }

  private valueHere(): number {
    const { low, high, kind } = this.attribute;
    const reading = low + ((high - low) * Number(this.input.value)) / STEPS;
    return kind === "number" ? reading : expit(reading);
  }
}
