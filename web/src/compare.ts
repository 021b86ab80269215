/** Before and after: a line to drag between them, each alone, or their difference. */

import { h, image, segmented } from "./dom";

export type View = "wipe" | "before" | "after" | "difference";
const GAIN = 3;

export class Compare {
  readonly element: HTMLElement;
  private readonly before = image("", "The picture before the edit");
  private readonly after = image("", "The picture after the edit", { class: "after" });
  private readonly canvas = h("canvas", { role: "img", "aria-label": `The difference, times ${GAIN}` });
  private readonly line = h("input", {
    type: "range", min: 0, max: 100, value: 50, class: "wipe-line", "aria-label": "Wipe between before and after",
  });
  private readonly stage: HTMLElement;

  constructor() {
    this.stage = h("div", { class: "stage wipe" }, this.before, this.after, this.canvas, h("i", { class: "handle" }), this.line);
    this.line.addEventListener("input", () => this.wipe(Number(this.line.value)));
    const views = [
      ["wipe", "Wipe"], ["before", "Before"], ["after", "After"], ["difference", "Difference"],
    ] as const;
    this.element = h(
      "div",
      { class: "compare" },
      this.stage,
      segmented<View>("View", views, "wipe", (view) => this.show(view)),
    );
    this.after.addEventListener("load", () => this.draw());
    this.before.addEventListener("load", () => this.draw());
    this.wipe(50);
  }

  set(before: string, after: string, name: string): void {
    if (this.before.src !== before) this.before.src = before;
    if (this.after.src !== after) this.after.src = after;
    this.before.alt = `${name}, before the edit`;
    this.after.alt = `${name}, after the edit`;
  }

  private show(view: View): void {
    this.stage.className = `stage ${view}`;
    this.draw();
  }

  private wipe(percent: number): void {
    this.stage.style.setProperty("--wipe", `${percent}%`);
  }

  /** The difference, averaged over colours, times GAIN, as the command line draws it. */
  private draw(): void {
    const { naturalWidth: width, naturalHeight: height } = this.after;
    if (!this.stage.classList.contains("difference") || !width || width !== this.before.naturalWidth) return;
    this.canvas.width = width;
    this.canvas.height = height;
    const context = this.canvas.getContext("2d", { willReadFrequently: true })!;
    const pixels = (picture: HTMLImageElement): ImageData => {
      context.drawImage(picture, 0, 0);
      return context.getImageData(0, 0, width, height);
    };
    const before = pixels(this.before).data;
    const after = pixels(this.after);
    for (let k = 0; k < before.length; k += 4) {
      let sum = 0;
      for (let c = 0; c < 3; c++) sum += Math.abs(before[k + c]! - after.data[k + c]!);
      const share = Math.min((GAIN * sum) / 765, 1);
      after.data.set([255 * Math.min(share * 2, 1), 255 * share ** 1.6, 255 * Math.max(2 * share - 1, 0.12 * share), 255], k);
    }
    context.putImageData(after, 0, 0);
  }
}
