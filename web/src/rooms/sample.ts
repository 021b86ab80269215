/** The room Sample: new images, more like some that are chosen, and how new they are. */

import { call, type Neighbour, type Picture } from "../api";
import { showCommands } from "../commands";
import { button, fill, h, image, short } from "../dom";
import type { Room } from "../room";
import { openInEdit, store } from "../store";
import { complain, Work } from "../working";

const COUNT = 24;
const LEAST_CHOSEN = 5;

export class SampleRoom implements Room {
  readonly element = h("section", { class: "room" });
  private readonly work = new Work();
  private readonly grid = h("div", { class: "results" });
  private readonly nearest = h("aside", { class: "panel nearest", hidden: true, "aria-live": "polite" });
  private readonly truncation = h("input", { type: "range", min: 0, max: 1, step: 0.05, value: 1, id: "truncation" });
  private readonly amount = h("output", { class: "value", for: "truncation" }, "1.00");
  private readonly like = button("More like the chosen", () => void this.run(true));
  private readonly chosen = new Map<string, Picture>();
  private seed = 0;
  private begun = false;

  constructor() {
    this.truncation.addEventListener("input", () => (this.amount.textContent = short(Number(this.truncation.value))));
    this.truncation.addEventListener("change", () => void this.run());
    this.element.append(
      h("div", { class: "intro" }, h("h1", {}, "Sample"),
        h("p", {}, "New images: z_sem from the latent prior, x_T at random. Choose some and ask for more like them.")),
      h("div", { class: "panel" },
        h("div", { class: "bar" },
          h("label", { class: "inline", for: "truncation" }, "Variety", this.truncation, this.amount),
          h("span", { class: "stretch" }),
          this.like,
          button("New ones", () => { this.seed += 1; void this.run(); }, { class: "primary" }),
          button("Copy as command", () => void showCommands("sample/commands", this.request([])), { class: "quiet" })),
        this.work.element, this.grid),
      this.nearest,
    );
    this.update();
  }

  update(): void {
    const missing = store.info.missing["sample"];
    if (missing) fill(this.grid, h("p", { class: "soft" }, missing));
    else if (!this.begun) {
      this.begun = true;
      void this.run();
    }
    this.showChosen();
  }

  leave(): void {
    this.work.cancel();
  }

  private request(like: string[]): object {
    return { count: COUNT, seed: this.seed, truncation: Number(this.truncation.value), like };
  }

  private async run(alike = false): Promise<void> {
    if (store.info.missing["sample"]) return;
    const like = alike ? [...this.chosen.keys()] : [];
    await this.work.run(alike ? "Looking for more like these" : "Drawing new images", async (signal, progress) => {
      const found = await call<{ pictures: Picture[] }>("sample", { body: this.request(like), signal, progress });
      fill(this.grid, h("div", { class: "grid" }, found.pictures.map((one, k) => this.tile(one, k))));
      this.showChosen();
    });
  }

  private tile(one: Picture, place: number): HTMLElement {
    const name = `New image ${place + 1}`;
    const pick = h("button", { type: "button", class: "tile", "aria-pressed": "false", "aria-label": `Choose ${name}` }, image(one.image, name));
    pick.addEventListener("click", () => {
      if (!this.chosen.delete(one.id)) this.chosen.set(one.id, one);
      pick.setAttribute("aria-pressed", String(this.chosen.has(one.id)));
      this.showChosen();
    });
    return h("figure", {}, pick, h("figcaption", {},
      button("Edit", () => void openInEdit(one.id).catch(complain), { class: "quiet", "aria-label": `Edit ${name}` }),
      button("How new?", () => void this.novelty(one), { class: "quiet", "aria-label": `How new is ${name}?` })));
  }

  private showChosen(): void {
    const count = this.chosen.size;
    this.like.disabled = count < LEAST_CHOSEN;
    this.like.textContent = count < LEAST_CHOSEN ? `More like the chosen (${count} of ${LEAST_CHOSEN})` : `More like these ${count}`;
  }

  private async novelty(one: Picture): Promise<void> {
    await this.work.run("Comparing with the data set", async (signal, progress) => {
      const found = await call<{ neighbours: Neighbour[]; relative: number }>("sample/novelty", { body: { picture: one.id }, signal, progress });
      const verdict = found.relative < 0.5 ? "Much nearer to one image than to any other: perhaps a copy." : "As far from its nearest image as from others: no copy.";
      fill(this.nearest,
        h("h2", {}, "How new is it?"),
        h("p", {}, `${verdict} Its nearest image is ${short(found.relative)} times as far as the next ones.`),
        h("div", { class: "grid small" },
          h("figure", {}, image(one.image, "The new image"), h("figcaption", {}, "new")),
          found.neighbours.map((near) => h("figure", {}, image(near.image, near.name), h("figcaption", { title: near.name }, near.distance.toExponential(1))))));
      this.nearest.hidden = false;
      this.nearest.scrollIntoView({ block: "nearest", behavior: "smooth" });
    });
  }
}
