/** The room Vary: one z_sem with several x_T. */

import { call, type Picture } from "../api";
import { showCommands } from "../commands";
import { button, fill, h, image, segmented } from "../dom";
import { choose } from "../picker";
import type { Room } from "../room";
import { openInEdit, store } from "../store";
import { complain, Work } from "../working";

interface Varied {
  pictures: Picture[];
  mean: string;
  deviation: string;
}

export class VaryRoom implements Room {
  readonly element = h("section", { class: "room" });
  private readonly work = new Work();
  private readonly grid = h("div", { class: "results" });
  private readonly source = h("div", { class: "source" });
  private readonly pin = h("div", { class: "source" });
  private picture: Picture | null = null;
  private pinned: Picture | null = null;
  private count = "8";
  private seed = 0;

  constructor() {
    const counts = [["8", "8"], ["16", "16"], ["24", "24"]] as const;
    this.element.append(
      h("div", { class: "intro" }, h("h1", {}, "Vary"),
        h("p", {}, "One meaning, many details. The picture's z_sem is decoded with different noise x_T: what stays the same is in z_sem, what changes is in x_T.")),
      h("div", { class: "panel" },
        h("div", { class: "bar" }, this.source, this.pin, h("span", { class: "stretch" }),
          segmented("How many", counts, "8", (value) => { this.count = value; void this.run(); }),
          button("Others", () => { this.seed += 1; void this.run(); }, { class: "primary" }),
          button("Copy as command", () => this.picture && void showCommands("vary/commands", this.request()), { class: "quiet" })),
        this.work.element,
        this.grid),
    );
    this.update();
  }

  update(): void {
    if (!this.picture && store.current) this.take(store.current);
    else this.showSource();
  }

  leave(): void {
    this.work.cancel();
  }

  private take(picture: Picture): void {
    this.picture = picture;
    this.showSource();
    void this.run();
  }

  private showSource(): void {
    const pick = () => choose("Choose a picture to vary", (picture) => this.take(picture));
    const shown = this.picture;
    fill(this.source, shown && image(shown.image, shown.name), button(shown ? "Another picture" : "Choose a picture", pick));
    fill(this.pin, this.pinned && image(this.pinned.image, "The pinned x_T"),
      this.pinned && button("Unpin x_T", () => { this.pinned = null; this.showSource(); void this.run(); }, { class: "quiet" }));
    if (!shown) fill(this.grid, h("p", { class: "soft" }, "Choose a picture to begin."));
  }

  private request(): object {
    return { picture: this.picture!.id, count: Number(this.count), seed: this.seed, pinned: this.pinned?.id ?? null };
  }

  private async run(): Promise<void> {
    if (!this.picture) return;
    await this.work.run("Decoding variations", async (signal, progress) => {
      const found = await call<Varied>("vary", { body: this.request(), signal, progress });
      const tiles = found.pictures.map((one, k) => this.tile(one, `x_T ${k + 1}`));
      const sums = [["Mean", found.mean], ["Deviation ×4", found.deviation]] as const;
      fill(this.grid, h("div", { class: "grid" },
        sums.map(([name, url]) => h("figure", {}, image(url, name), h("figcaption", {}, name))), tiles));
    });
  }

  private tile(one: Picture, caption: string): HTMLElement {
    return h("figure", {}, image(one.image, caption),
      h("figcaption", {},
        button("Edit", () => void openInEdit(one.id).catch(complain), { class: "quiet", "aria-label": `Edit ${caption}` }),
        button("Pin x_T", () => { this.pinned = one; this.showSource(); void this.run(); }, { class: "quiet", "aria-label": `Pin ${caption}` })));
  }
}
