/** Choosing a picture: drop a file, name one, paste one, or take one of the data set or of those opened before. */

import { call, type Opened } from "./api";
import { button, fill, h, icon, image } from "./dom";
import { store } from "./store";
import { thumbnails } from "./thumbnails";
import { Work } from "./working";

const SHOWN = 36;

/** A panel that ends with an opened picture. */
export class Picker {
  readonly element: HTMLElement;
  private readonly work = new Work();
  private readonly rows = h("div", { class: "faces" });
  private readonly before = h("div", { class: "faces" });
  private readonly more = button("Show others", () => void this.showRows(), { class: "quiet" });
  private shown: number[] = [];

  constructor(private readonly chosen: (picture: Opened) => void) {
    const input = h("input", { type: "file", accept: "image/*,.tif,.tiff,.npy,.nii,.gz,.dcm", class: "hidden-input" });
    input.addEventListener("change", () => {
      if (input.files?.[0]) this.upload(input.files[0]);
      input.value = "";
    });
    const drop = h(
      "label",
      { class: "drop" },
      input,
      icon("M10 13V3M6 7l4-4 4 4M3 13v3h14v-3"),
      h("strong", {}, "Drop a picture, or choose a file"),
      h("span", { class: "soft" }, "It stays on this computer, and is fitted to the model: a centred square."),
    );
    for (const type of ["dragover", "dragleave", "drop"]) {
      drop.addEventListener(type, (event) => {
        event.preventDefault();
        drop.classList.toggle("over", type === "dragover");
        const file = type === "drop" && (event as DragEvent).dataTransfer?.files[0];
        if (file) this.upload(file);
      });
    }
    this.element = h("div", { class: "picker" }, drop, this.work.element, this.before, this.rows, this.more);
    this.update();
  }

  /** Open a file. */
  upload(file: File): void {
    void this.work.run(`Taking ${file.name} apart`, async (signal, progress) => {
      const path = `pictures?name=${encodeURIComponent(file.name)}`;
      this.done(await call<Opened>(path, { body: file, signal, progress }));
    });
  }

  cancel(): void {
    this.work.cancel();
  }

  update(): void {
    const tray = store.tray.slice(0, 12);
    this.before.hidden = !tray.length;
    fill(
      this.before,
      h("h3", {}, "Opened before"),
      h(
        "div",
        { class: "grid small" },
        tray.map((one) =>
          h(
            "button",
            { type: "button", class: "tile", title: one.name, onclick: () => this.reopen(one.id) },
            image(one.image, one.name),
          ),
        ),
      ),
    );
    if (!this.shown.length && store.info.data.images) void this.showRows();
    else if (!store.info.data.images) this.showNone();
  }

  private showNone(): void {
    const problem = store.info.data.problem;
    const text = problem ? `No pictures to pick from: ${problem}.` : "The data set is being opened …";
    fill(this.rows, h("p", { class: "soft" }, text));
    this.more.hidden = true;
  }

  private async showRows(): Promise<void> {
    const count = store.info.data.images;
    const start = this.shown.length ? (this.shown.at(-1)! + 1) % count : 0;
    this.shown = Array.from({ length: Math.min(SHOWN, count) }, (_, k) => (start + k) % count);
    this.more.hidden = count <= SHOWN;
    const tiles = this.shown.map((row) => {
      const canvas = h("canvas", { width: 64, height: 64 });
      const open = () => this.openRow(row);
      const tile = h("button", { type: "button", class: "tile", "aria-label": `Picture ${row + 1}`, onclick: open });
      tile.append(canvas);
      return [row, canvas, tile] as const;
    });
    fill(
      this.rows,
      h("h3", {}, "Or pick one of the data set"),
      h("div", { class: "grid small" }, tiles.map(([, , tile]) => tile)),
    );
    const found = await thumbnails(this.shown).catch(() => new Map<number, ImageBitmap>());
    for (const [row, canvas] of tiles) {
      const bitmap = found.get(row);
      if (!bitmap) continue;
      canvas.width = canvas.height = bitmap.width;
      canvas.getContext("2d")!.drawImage(bitmap, 0, 0);
    }
  }

  private openRow(row: number): void {
    void this.work.run("Taking the picture apart", async (signal, progress) => {
      this.done(await call<Opened>(`pictures/of-data/${row}`, { post: true, signal, progress }));
    });
  }

  private reopen(id: string): void {
    void this.work.run("Opening", async (signal, progress) => {
      this.done(await call<Opened>(`pictures/${id}/open`, { post: true, signal, progress }));
    });
  }

  private done(picture: Opened): void {
    store.remember(picture);
    this.chosen(picture);
  }
}

/** Let the visitor choose a picture in a dialog. */
export function choose(title: string, chosen: (picture: Opened) => void): void {
  const dialog = h("dialog", { class: "sheet", "aria-label": title });
  const picker = new Picker((picture) => {
    dialog.close();
    chosen(picture);
  });
  dialog.append(
    h("header", {}, h("h2", {}, title), button("Close", () => dialog.close(), { class: "quiet" })),
    picker.element,
  );
  dialog.addEventListener("close", () => {
    picker.cancel();
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
}
