/** The room Edit: one picture, a slider for each attribute. */

import { call, download, Newest, type Edited, type Opened } from "../api";
import { showCommands } from "../commands";
import { Compare } from "../compare";
import { button, fill, h, image, toast } from "../dom";
import { Picker } from "../picker";
import type { Room } from "../room";
import { Slider } from "../slider";
import { go, store } from "../store";
import { complain, Work } from "../working";

/** One entry of the history. */
interface Moment {
  changes: Record<string, number>;
  keep: boolean;
  edited: Edited | null;
}

const REST = 300; // milliseconds after which a slider that rests is made exact
const MOST_MOMENTS = 60;

export class EditRoom implements Room {
  readonly element = h("section", { class: "room edit" });
  private readonly picker = new Picker((picture) => this.open(picture));
  private readonly compare = new Compare();
  private readonly work = new Work();
  private readonly sliders = h("div", { class: "sliders" });
  private readonly strip = h("div", { class: "strip", role: "list", "aria-label": "History" });
  private readonly state = h("p", { class: "state", role: "status" });
  private readonly keep = h("input", { type: "checkbox", role: "switch", id: "keep" });
  private readonly undoButton = button("Undo", () => this.step(-1), { title: "Ctrl+Z" });
  private readonly redoButton = button("Redo", () => this.step(1), { title: "Ctrl+Shift+Z" });
  private readonly newest = new Newest<Moment>((moment) => this.draft(moment));
  private shown: Slider[] = [];
  private picture: Opened | null = null;
  private history: Moment[] = [];
  private place = 0;
  private now: Moment = { changes: {}, keep: false, edited: null };
  private timer = 0;

  constructor() {
    this.keep.addEventListener("change", () => {
      this.now = { ...this.now, keep: this.keep.checked, edited: null };
      this.released();
    });
    this.update();
  }

  update(): void {
    if (store.current !== this.picture) this.open(store.current);
    else if (!this.picture) this.showEmpty();
    else this.buildSliders();
  }

  leave(): void {
    window.clearTimeout(this.timer);
    this.work.cancel();
    this.picker.cancel();
  }

  key(event: KeyboardEvent): void {
    if (!this.picture || !(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
    event.preventDefault();
    this.step(event.shiftKey ? 1 : -1);
  }

  /** Open a file that was dropped or pasted anywhere on the page. */
  file(file: File): void {
    if (this.picture) this.open(null);
    this.picker.upload(file);
  }

  private open(picture: Opened | null): void {
    this.leave();
    this.picture = store.current = picture;
    this.now = { changes: {}, keep: this.keep.checked, edited: null };
    this.history = [this.now];
    this.place = 0;
    if (!picture) return this.showEmpty();
    this.build(picture);
    this.show();
  }

  private showEmpty(): void {
    this.picker.update();
    fill(
      this.element,
      h(
        "div",
        { class: "intro" },
        h("h1", {}, "Edit a picture"),
        h("p", {}, "The model takes it apart into what it means and everything else, exactly. Then move a slider."),
      ),
      this.picker.element,
    );
  }

  private build(picture: Opened): void {
    const exactly = `Taken apart and put together again: no pixel is off by more than ${picture.largest_error.toFixed(2)} of 255 levels (${picture.calls} network calls).`;
    fill(
      this.element,
      h(
        "div",
        { class: "panel look" },
        h(
          "div",
          { class: "bar" },
          h("h1", { class: "filename", title: picture.name }, picture.name),
          button("Another picture", () => this.open(null), { class: "quiet" }),
        ),
        this.compare.element,
        this.state,
        this.work.element,
        this.strip,
        h("p", { class: "soft exactly" }, exactly),
      ),
      h(
        "div",
        { class: "panel moves" },
        h(
          "div",
          { class: "bar" },
          this.undoButton,
          this.redoButton,
          button("Reset", () => this.reset()),
          h("span", { class: "stretch" }),
          button("Save picture", () => this.save(), { class: "primary" }),
        ),
        h(
          "label",
          { class: "switch", for: "keep" },
          this.keep,
          h("span", {}, "Keep the others", h("small", {}, "what the sliders you did not move read stays as it is")),
        ),
        this.sliders,
        h(
          "div",
          { class: "bar onward" },
          button("Copy as command", () => void showCommands("edit/commands", this.request(this.now)), { class: "quiet" }),
          h("span", { class: "stretch" }),
          button("Vary it", () => go("vary"), { class: "quiet" }),
          button("Blend it", () => go("blend"), { class: "quiet" }),
          button("On the map", () => go("map"), { class: "quiet" }),
        ),
      ),
    );
    this.buildSliders();
  }

  private buildSliders(): void {
    const { attributes, missing } = store.info;
    const names = this.shown.map((slider) => slider.attribute.name).join();
    if (names !== attributes.map((one) => one.name).join() || !names) {
      this.shown = attributes.map(
        (one) =>
          new Slider(one, (value) => this.moved(one.name, value), () => this.released(), () => this.forget(one.name)),
      );
      const none = missing["edit"] ?? `There are no attributes yet: learn some with \`diffae attributes fit ${store.info.run} --labels labels.csv\`, or make one in the rooms Map and Directions.`;
      fill(this.sliders, this.shown.length ? this.shown.map((one) => one.element) : h("p", { class: "soft" }, none));
    }
    this.show();
  }

  // ------------------------------------------------------------------ moves

  private moved(name: string, value: number): void {
    this.work.cancel();
    window.clearTimeout(this.timer);
    this.now = { ...this.now, changes: { ...this.now.changes, [name]: value } };
    this.show(false);
    this.newest.ask(this.now);
  }

  private released(): void {
    window.clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.settle(), REST);
  }

  private forget(name: string): void {
    const { [name]: _, ...changes } = this.now.changes;
    this.now = { ...this.now, changes, edited: null };
    this.show();
    this.released();
  }

  private reset(): void {
    this.now = { changes: {}, keep: this.keep.checked, edited: null };
    this.settle();
  }

  private step(by: number): void {
    const moment = this.history[this.place + by];
    if (!moment) return;
    this.leave();
    this.newest.drop();
    this.place += by;
    this.now = moment;
    this.keep.checked = moment.keep;
    this.show();
  }

  private request(moment: Moment, more: object = {}): object {
    return { picture: this.picture!.id, changes: moment.changes, keep: moment.keep, ...more };
  }

  /** A quick image while a slider is dragged. */
  private async draft(moment: Moment): Promise<void> {
    try {
      const edited = await call<Edited>("edit", { body: this.request(moment) });
      const settled = this.now.changes === moment.changes && this.now.edited?.exact;
      if (!settled && Object.keys(this.now.changes).length) this.now = { ...this.now, edited };
      this.show(false);
    } catch (error) {
      complain(error);
    }
  }

  /** The exact image, corrected by what it reads; then a new entry of the history. */
  private settle(): void {
    this.newest.drop();
    const moment = this.now;
    if (!Object.keys(moment.changes).length) return this.enter({ ...moment, edited: null });
    void this.work.run("Making it exact", async (signal, progress) => {
      const edited = await call<Edited>("edit", { body: this.request(moment, { exact: true }), signal, progress });
      this.enter({ ...moment, edited });
    });
  }

  private enter(moment: Moment): void {
    this.now = moment;
    this.history = [...this.history.slice(0, this.place + 1), moment].slice(-MOST_MOMENTS);
    this.place = this.history.length - 1;
    this.show();
  }

  private save(): void {
    void this.work.run("Writing the picture", async (signal) => {
      await download("edit/file", this.request(this.now), signal);
      toast("Saved in the type that came in.");
    });
  }

  // ------------------------------------------------------------------ what is shown

  private show(history = true): void {
    const picture = this.picture;
    if (!picture) return;
    const { changes, edited } = this.now;
    this.compare.set(picture.image, edited?.image ?? picture.image, picture.name);
    for (const slider of this.shown) {
      const name = slider.attribute.name;
      slider.show(picture.values[name] ?? 0, changes[name], edited?.read[name]);
    }
    const count = Object.keys(changes).length;
    const draft = edited?.exact ? "exact" : "draft";
    this.state.textContent = count && edited ? (draft === "exact" ? "Exact" : "Draft while you drag") : "As it came in";
    this.state.dataset["kind"] = count && edited ? draft : "exact";
    this.undoButton.disabled = this.place === 0;
    this.redoButton.disabled = this.place >= this.history.length - 1;
    if (history) this.showHistory();
  }

  private showHistory(): void {
    fill(
      this.strip,
      this.history.map((moment, place) => {
        const what = place ? Object.keys(moment.changes).join(", ") || "reset" : "as it came in";
        const jump = () => this.step(place - this.place);
        const props = { type: "button", class: "tile", title: what, onclick: jump, "aria-current": String(place === this.place) };
        return h("div", { role: "listitem" }, h("button", props, image(moment.edited?.image ?? this.picture!.image, what)));
      }),
    );
  }
}
