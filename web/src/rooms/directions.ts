/** The room Directions: those that need no labels, as strips. */

import { call, type Attribute, type Picture } from "../api";
import { button, fill, h, image, segmented, toast } from "../dom";
import { choose } from "../picker";
import type { Room } from "../room";
import { store } from "../store";
import { Work } from "../working";

interface Strips {
  steps: number[];
  strips: { index: number; share: number; images: string[] }[];
}

type Kind = "pca" | "seen";

export class DirectionsRoom implements Room {
  readonly element = h("section", { class: "room" });
  private readonly work = new Work();
  private readonly source = h("div", { class: "source" });
  private readonly list = h("div", { class: "strips" });
  private picture: Picture | null = null;
  private kind: Kind = "pca";

  constructor() {
    const kinds = [["pca", "By variance"], ["seen", "By what is seen"]] as const;
    this.element.append(
      h("div", { class: "intro" }, h("h1", {}, "Directions"),
        h("p", {}, "What the model tells images apart by, found without labels. Name one that you understand, and it becomes a slider.")),
      h("div", { class: "panel" },
        h("div", { class: "bar" }, this.source, h("span", { class: "stretch" }),
          segmented<Kind>("Order", kinds, "pca", (kind) => { this.kind = kind; void this.run(); })),
        this.work.element, this.list),
    );
    this.update();
  }

  update(): void {
    const missing = store.info.missing["directions"];
    if (missing) return fill(this.list, h("p", { class: "soft" }, missing));
    if (!store.info.data.ready) return fill(this.list, h("p", { class: "soft" }, waiting()));
    if (!this.picture && store.current) return this.take(store.current);
    this.showSource();
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
    const pick = () => choose("Choose a picture to move", (picture) => this.take(picture));
    fill(this.source, this.picture && image(this.picture.image, this.picture.name), button(this.picture ? "Another picture" : "Choose a picture", pick));
    if (!this.picture) fill(this.list, h("p", { class: "soft" }, "Choose a picture to begin."));
  }

  private async run(): Promise<void> {
    if (!this.picture) return;
    await this.work.run("Decoding strips", async (signal, progress) => {
      const body = { picture: this.picture!.id, kind: this.kind };
      const found = await call<Strips>("directions", { body, signal, progress });
      fill(this.list, found.strips.map((strip) => this.strip(strip, found.steps)));
    });
  }

  private strip(strip: Strips["strips"][number], steps: number[]): HTMLElement {
    const name = h("input", { type: "text", placeholder: "name it", maxlength: 40, "aria-label": `Name of direction ${strip.index + 1}` });
    const keep = h("form", { class: "keep" }, name, h("button", { type: "submit" }, "Keep"));
    keep.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.keep(strip.index, name.value);
    });
    return h("div", { class: "direction" },
      h("div", { class: "about" }, h("strong", {}, String(strip.index + 1)), h("span", { class: "soft" }, `${(strip.share * 100).toFixed(1)} %`)),
      h("div", { class: "frames" }, strip.images.map((url, k) => image(url, `${steps[k]! > 0 ? "+" : ""}${steps[k]} standard deviations`))),
      keep);
  }

  private async keep(index: number, name: string): Promise<void> {
    await this.work.run("Learning the direction", async (signal) => {
      store.setAttributes(await call<Attribute[]>("directions/keep", { body: { kind: this.kind, index, name }, signal }));
      toast(`${name} is a slider in the room Edit now.`);
    });
  }
}

/** What the visitor waits for while the data set is opened. */
export function waiting(): string {
  const { images, encoded, problem } = store.info.data;
  if (problem) return `${problem}.`;
  return images ? `The data set is being encoded: ${encoded.toLocaleString()} of ${images.toLocaleString()} images.` : "The data set is being opened …";
}
