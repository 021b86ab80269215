/** The room Training: a run in progress, or a finished one. */

import { call } from "../api";
import { chart } from "../chart";
import { fill, h, image } from "../dom";
import type { Room } from "../room";
import { store } from "../store";
import { complain } from "../working";

interface Training {
  curves: Record<string, [number, number][]>;
  images: number;
  total: number | null;
  images_per_second: number | null;
  seconds_left: number | null;
  samples: string[];
  note: string;
}

const EVERY = 5000; // milliseconds between two looks at a run in progress
const NAMES: Record<string, string> = {
  loss: "training loss",
  val_loss: "validation, the right z_sem",
  val_loss_shuffled: "validation, another image's z_sem",
  val_mse_semantic: "MSE of z_sem alone",
};
const COLOURS: Record<string, string> = { loss: "#8a8f98", val_loss: "#5b5bd6", val_loss_shuffled: "#e5793a", val_mse_semantic: "#2a9d8f" };

export class TrainingRoom implements Room {
  readonly element = h("section", { class: "room" });
  private readonly facts = h("div", { class: "facts" });
  private readonly note = h("p", { class: "soft", hidden: true });
  private readonly charts = h("div", { class: "charts" });
  private readonly samples = h("div", { class: "panel" });
  private timer = 0;
  private last = "";

  constructor() {
    this.element.append(
      h("div", { class: "intro" }, h("h1", {}, "Training"),
        h("p", {}, "How the run has learnt. The gap between the right z_sem and another image's shows how much the decoder uses it.")),
      this.facts, this.note, this.charts, this.samples,
    );
    this.update();
  }

  update(): void {
    window.clearTimeout(this.timer);
    const missing = store.info.missing["training"];
    this.samples.hidden = true;
    if (missing) fill(this.facts, h("p", { class: "soft" }, missing));
    else void this.look();
  }

  leave(): void {
    window.clearTimeout(this.timer);
  }

  private async look(): Promise<void> {
    try {
      const found = await call<Training>("training");
      if (JSON.stringify(found) !== this.last) this.show(found);
      this.last = JSON.stringify(found);
      if (found.seconds_left !== null && this.element.isConnected) this.timer = window.setTimeout(() => void this.look(), EVERY);
    } catch (error) {
      complain(error);
    }
  }

  private show(found: Training): void {
    const fact = (value: string, name: string): HTMLElement => h("div", {}, h("strong", {}, value), h("span", { class: "soft" }, name));
    const right = found.curves["val_loss"]?.at(-1)?.[1];
    const shuffled = found.curves["val_loss_shuffled"]?.at(-1)?.[1];
    fill(this.facts,
      fact(found.images.toLocaleString("en"), found.total ? `of ${found.total.toLocaleString("en")} images seen` : "images seen"),
      fact(found.seconds_left === null ? "finished" : `${duration(found.seconds_left)} left`, found.images_per_second ? `${found.images_per_second.toFixed(0)} images a second` : "state"),
      right && shuffled ? fact(`× ${(shuffled / right).toFixed(1)}`, "loss with another image's z_sem") : null);
    fill(this.note, found.note);
    this.note.hidden = !found.note;
    const curve = (name: string) => ({ name: NAMES[name]!, colour: COLOURS[name]!, points: found.curves[name]! });
    const losses = ["loss", "val_loss", "val_loss_shuffled"].filter((name) => found.curves[name]);
    fill(this.charts,
      losses.length ? h("div", { class: "panel" }, chart(losses.map(curve), "Loss over images seen, logarithmic")) : null,
      found.curves["val_mse_semantic"] ? h("div", { class: "panel" }, chart([curve("val_mse_semantic")], "Decoded from z_sem alone, logarithmic")) : null);
    this.showSamples(found.samples);
  }

  private showSamples(names: string[]): void {
    this.samples.hidden = !names.length;
    if (!names.length) return;
    const picture = image("", "Sample sheet");
    const label = h("output", {});
    const slider = h("input", { type: "range", min: 0, max: names.length - 1, value: names.length - 1, "aria-label": "Sample sheet over time" });
    const show = (): void => {
      const name = names[Number(slider.value)]!;
      picture.src = `./api/training/samples/${encodeURIComponent(name)}`;
      label.textContent = `after ${Number.parseInt(name, 10).toLocaleString("en")} images`;
      slider.setAttribute("aria-valuetext", label.textContent);
    };
    slider.addEventListener("input", show);
    show();
    fill(this.samples, h("div", { class: "bar" }, h("h2", {}, "Samples over time"), slider, label), h("div", { class: "sheetimage" }, picture));
  }
}

function duration(seconds: number): string {
  const minutes = Math.round(seconds / 60);
  return seconds < 90 ? `${Math.round(seconds)} s` : minutes < 90 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}
