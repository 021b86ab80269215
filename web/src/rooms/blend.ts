/** The room Blend: pictures at the corners of a pad, and a dot between them. */

import { call, download, Newest, type Opened, type Picture } from "../api";
import { showCommands } from "../commands";
import { button, fill, h, image, toast } from "../dom";
import { choose } from "../picker";
import type { Room } from "../room";
import { openInEdit, store } from "../store";
import { complain, Work } from "../working";

const CORNERS = ["top left", "top right", "bottom left", "bottom right"] as const;
const KINDS = ["gif", "webp", "mp4"] as const;
const MOST_FRAMES = 100;
const STEP = 0.05;
const REST = 300;

interface Dot {
  across: number;
  down: number;
}

export class BlendRoom implements Room {
  readonly element = h("section", { class: "room blend" });
  private readonly work = new Work();
  private readonly saving = new Work();  // which a newer blend does not cancel
  private readonly dot = h("button", { type: "button", class: "dot", role: "slider", "aria-label": "Between the pictures: arrow keys move", "aria-valuemin": "0", "aria-valuemax": "100" });
  private readonly corners: HTMLButtonElement[];
  private readonly pad: HTMLElement;
  private readonly result = image("", "The blend");
  private readonly recordButton = button("Record a path", () => this.record(), { "aria-pressed": "false" });
  private readonly saves = h("span", { class: "bar" });
  private readonly newest = new Newest<Dot>((place) => this.draft(place));
  private pictures: (Picture | null)[] = [null, null, null, null];
  private place: Dot = { across: 0.5, down: 0.5 };
  private path: [number, number][] = [];
  private recording = false;
  private shown: Picture | null = null;
  private timer = 0;

  constructor() {
    this.corners = CORNERS.map((name, k) => h("button", { type: "button", class: `corner c${k}`, onclick: () => this.pick(k), "aria-label": `Choose the picture ${name}` }));
    this.pad = h("div", { class: "pad" }, this.dot);
    this.pad.addEventListener("pointerdown", (event) => this.drag(event));
    this.dot.addEventListener("keydown", (event) => this.arrows(event));
    this.element.append(
      h("div", { class: "intro" }, h("h1", {}, "Blend"),
        h("p", {}, "Two to four pictures. Drag the dot between them; what you see is decoded there.")),
      h("div", { class: "panel blending" },
        h("div", { class: "padframe" }, this.corners, this.pad),
        h("div", { class: "blended" },
          h("div", { class: "stage" }, this.result),
          this.work.element, this.saving.element,
          h("div", { class: "bar" },
            button("Take some of the data set", () => void this.fillCorners(), { class: "quiet" }),
            this.recordButton, this.saves,
            button("Open in Edit", () => this.shown && void openInEdit(this.shown.id).catch(complain)),
            button("Copy as command", () => void showCommands("blend/commands", this.request()), { class: "quiet" })))),
    );
    this.update();
  }

  update(): void {
    const tray = store.tray.filter((one) => !this.pictures.some((known) => known?.id === one.id));
    if (!this.pictures[0] && store.current) this.pictures[0] = store.current;
    if (!this.pictures[1]) this.pictures[1] = tray.find((one) => one.id !== this.pictures[0]?.id) ?? null;
    this.show();
    if (this.ready) this.move(this.place.across, this.place.down);
  }

  leave(): void {
    window.clearTimeout(this.timer);
    this.work.cancel();
    this.saving.cancel();
  }

  private get ready(): boolean {
    return Boolean(this.pictures[0] && this.pictures[1]);
  }

  private pick(corner: number): void {
    const free = corner > 1 && !this.pictures[1] ? 1 : corner > 2 && !this.pictures[2] ? 2 : corner;
    choose(`Choose the picture ${CORNERS[free]}`, (picture) => {
      this.pictures[free] = picture;
      this.show();
      if (this.ready) this.move(this.place.across, this.place.down);
    });
  }

  /** Fill the empty corners with pictures of the data set. */
  private async fillCorners(): Promise<void> {
    const { images, problem } = store.info.data;
    if (!images) return toast(problem ? `There is no data set: ${problem}.` : "The data set is being opened.", "error");
    await this.work.run("Taking pictures apart", async (signal) => {
      const empty = this.pictures.flatMap((one, k) => (one ? [] : [k]));
      const fill = empty.map(async (corner) => {
        const row = Math.floor(Math.random() * images);
        const picture = await call<Opened>(`pictures/of-data/${row}`, { post: true, signal });
        store.remember(picture);
        this.pictures[corner] = picture;
      });
      await Promise.all(fill);
      this.show();
    });
    if (this.ready) this.move(this.place.across, this.place.down);
  }

  private show(): void {
    this.corners.forEach((corner, k) => {
      const picture = this.pictures[k];
      fill(corner, picture ? image(picture.image, picture.name) : h("span", {}, "+"));
      corner.classList.toggle("empty", !picture);
    });
    const flat = !this.pictures[2];
    this.pad.classList.toggle("flat", flat);
    this.dot.disabled = !this.ready;
    this.dot.style.left = `${this.place.across * 100}%`;
    this.dot.style.top = `${(flat ? 0.5 : this.place.down) * 100}%`;
    const words = `${Math.round(this.place.across * 100)} % across${flat ? "" : `, ${Math.round(this.place.down * 100)} % down`}`;
    this.dot.setAttribute("aria-valuenow", String(Math.round(this.place.across * 100)));
    this.dot.setAttribute("aria-valuetext", words);
    this.recordButton.textContent = this.recording ? "Stop recording" : "Record a path";
    this.recordButton.setAttribute("aria-pressed", String(this.recording));
    fill(this.saves, this.path.length > 1 && !this.recording
      ? KINDS.filter((kind) => kind !== "mp4" || store.info.mp4).map((kind) => button(`Save ${kind.toUpperCase()}`, () => this.save(kind)))
      : []);
    this.element.classList.toggle("recording", this.recording);
  }

  private drag(event: PointerEvent): void {
    if (!this.ready) return;
    event.preventDefault();
    this.pad.setPointerCapture(event.pointerId);
    this.dot.focus();
    const move = (at: PointerEvent): void => {
      const box = this.pad.getBoundingClientRect();
      this.move((at.clientX - box.left) / box.width, (at.clientY - box.top) / box.height);
    };
    move(event);
    this.pad.addEventListener("pointermove", move);
    const end = (): void => this.pad.removeEventListener("pointermove", move);
    this.pad.addEventListener("pointerup", end, { once: true });
    this.pad.addEventListener("pointercancel", end, { once: true });
  }

  private arrows(event: KeyboardEvent): void {
    const by = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
    if (!by || !this.ready) return;
    event.preventDefault();
    this.move(this.place.across + by[0]!, this.place.down + by[1]!);
  }

  private move(across: number, down: number): void {
    const within = (value: number): number => Math.min(Math.max(value, 0), 1);
    this.place = { across: within(across), down: this.pictures[2] ? within(down) : 0 };
    if (this.recording) this.path.push([this.place.across, this.place.down]);
    this.show();
    this.newest.ask(this.place);
    window.clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.exact(), REST);
  }

  private request(more: object = {}): object {
    const pictures = this.pictures.filter((one) => one !== null).map((one) => one.id);
    return { pictures, ...this.place, ...more };
  }

  private async draft(place: Dot): Promise<void> {
    try {
      this.showResult(await call<Picture>("blend", { body: this.request(place) }));
    } catch (error) {
      complain(error);
    }
  }

  private async exact(): Promise<void> {
    await this.work.run("Making it exact", async (signal) => {
      this.showResult(await call<Picture>("blend", { body: this.request({ exact: true }), signal }));
    });
  }

  private showResult(picture: Picture): void {
    this.shown = picture;
    this.result.src = picture.image;
  }

  private record(): void {
    this.recording = !this.recording;
    if (this.recording) {
      this.path = [[this.place.across, this.place.down]];
      toast("Drag the dot; stop when you are done.");
    }
    this.show();
  }

  private save(kind: (typeof KINDS)[number]): void {
    const step = Math.ceil(this.path.length / MOST_FRAMES);
    const path = this.path.filter((_, k) => k % step === 0);
    const pictures = this.pictures.filter((one) => one !== null).map((one) => one.id);
    void this.saving.run(`Writing ${path.length} frames`, (signal) => download("blend/record", { pictures, path, kind }, signal));
  }
}
