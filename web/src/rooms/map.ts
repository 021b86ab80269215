/** The room Map: all z_sem in the plane. */

import { bytes, call, type Attribute, type Neighbour, type Opened, type Picture } from "../api";
import { colour } from "../colours";
import { button, fill, h, icon, image, percent, segmented, short, toast } from "../dom";
import { choose } from "../picker";
import type { Room } from "../room";
import { Scatter, type Group } from "../scatter";
import { go, openInEdit, store } from "../store";
import { complain, Work } from "../working";
import { waiting } from "./directions";

interface Colouring {
  name: string;
  kind: string;
  classes: string[];
}

interface Found {
  x: number;
  y: number;
  neighbours: Neighbour[];
}

const LEAST = 5; // images of a group

export class MapRoom implements Room {
  readonly element = h("section", { class: "room map" });
  private readonly work = new Work();
  private readonly scatter = new Scatter({
    point: (row) => void this.point(row),
    between: (x, y) => void this.between(x, y),
    lasso: (rows) => this.lasso(rows),
  });
  private readonly by = h("select", { id: "by" });
  private readonly legend = h("div", { class: "legend" });
  private readonly side = h("aside", { class: "panel side", "aria-live": "polite" });
  private readonly tools = h("div", { class: "bar" });
  private colourings: Colouring[] = [];
  private layout = "pca";
  private group: Group = "a";
  private opened = false;

  constructor() {
    this.by.addEventListener("change", () => void this.recolour());
    this.element.append(
      h("div", { class: "intro" }, h("h1", {}, "Map"),
        h("p", {}, "Every image of the data set where its z_sem lies. Click one to see it; click between them, and the model decodes what is there.")),
      h("div", { class: "panel frame" }, this.tools, this.work.element,
        h("div", { class: "plot" }, this.scatter.canvas,
          h("div", { class: "zoom" },
            button("+", () => this.scatter.zoom(1.4), { "aria-label": "Zoom in" }),
            button("−", () => this.scatter.zoom(1 / 1.4), { "aria-label": "Zoom out" }),
            button("⤢", () => this.scatter.fit(), { "aria-label": "Show everything" }))),
        this.legend),
      this.side,
    );
    this.hint();
    this.update();
  }

  update(): void {
    const missing = store.info.missing["map"] ?? (store.info.data.ready ? "" : waiting());
    this.element.classList.toggle("absent", Boolean(missing));
    if (missing) fill(this.side, h("p", { class: "soft" }, missing));
    else if (!this.opened) {
      this.opened = true;
      this.hint();
      void this.open();
    } else void this.list();
  }

  leave(): void {
    this.work.cancel();
  }

  private hint(): void {
    fill(this.side, h("h2", {}, "Click the map"), h("p", { class: "soft" }, "An image, or a place between images. Zoom in, and dots become pictures. Draw two groups with the lasso, and the way between them becomes a slider."));
  }

  private async open(): Promise<void> {
    const layouts = [["pca", "PCA"], ["umap", "UMAP"]] as const;
    const modes = [["pan", "Move"], ["a", "Group A"], ["b", "Group B"]] as const;
    fill(this.tools,
      h("label", { class: "inline", for: "by" }, "Colour by", this.by),
      store.info.umap ? segmented("Layout", layouts, "pca", (layout) => { this.layout = layout; void this.points(); }) : null,
      segmented<"pan" | Group>("What dragging does", modes, "pan", (mode) => {
        this.scatter.mode = mode === "pan" ? "pan" : "lasso";
        if (mode !== "pan") this.group = mode;
      }),
      h("span", { class: "stretch" }),
      button("Find a picture", () => choose("Find a picture on the map", (picture) => void this.find(picture)), { class: "primary" }));
    await this.list();
    await this.points();
    if (store.current) await this.find(store.current);
  }

  private async list(): Promise<void> {
    try {
      this.colourings = (await call<{ colourings: Colouring[] }>("map")).colourings;
      const chosen = this.by.value;
      fill(this.by, this.colourings.map((one) => h("option", { value: one.name, selected: one.name === chosen }, one.name.replaceAll("_", " "))));
    } catch (error) {
      complain(error);
    }
  }

  private async points(): Promise<void> {
    await this.work.run("Laying out the map", async (signal) => {
      this.scatter.setPoints(new Float32Array(await bytes(`map/points?layout=${this.layout}`, { signal })));
      this.scatter.marked = null;
      await this.recolour();
    });
  }

  private async recolour(): Promise<void> {
    const one = this.colourings.find((known) => known.name === this.by.value);
    if (!one) return;
    try {
      const values = new Float32Array(await bytes(`map/colours?by=${encodeURIComponent(one.name)}`));
      const attribute = store.info.attributes.find((known) => `read: ${known.name}` === one.name);
      const word = attribute && attribute.kind !== "number" ? percent : short;
      const found = colour(values, one.kind, one.classes, word);
      this.scatter.setColours(found.packed);
      fill(this.legend, found.legend.map(({ text, colour: shade }) => {
        const mark = h("i", {});
        mark.style.background = shade;
        return h("span", {}, mark, text);
      }));
    } catch (error) {
      complain(error);
    }
  }

  // ------------------------------------------------------------------ what is clicked

  private async point(row: number): Promise<void> {
    await this.work.run("Looking", async (signal) => {
      const found = await call<Found>(`map/neighbours/${row}?layout=${this.layout}`, { signal });
      this.showNeighbours(found.neighbours, "Most like it", row);
    });
  }

  private async between(x: number, y: number): Promise<void> {
    await this.work.run("Decoding this place", async (signal) => {
      const picture = await call<Picture>("map/decode", { body: { x, y, layout: this.layout }, signal });
      const edit = () => void openInEdit(picture.id).catch(complain);
      fill(this.side, h("h2", {}, "Between the images"),
        h("button", { type: "button", class: "tile large", onclick: edit, "aria-label": "Open in Edit" }, image(picture.image, "Decoded at this place of the map")),
        h("p", { class: "soft" }, "No image of the data set: the model decodes the mean z_sem of the nearest points."),
        h("div", { class: "bar" }, button("Open in Edit", edit, { class: "primary" })));
    });
  }

  private async find(picture: Picture): Promise<void> {
    await this.work.run("Finding it", async (signal) => {
      const found = await call<Found>("map/find", { body: { picture: picture.id, layout: this.layout }, signal });
      this.scatter.marked = { x: found.x, y: found.y };
      this.scatter.draw();
      this.showNeighbours(found.neighbours, `Most like ${picture.name}`);
    });
  }

  private showNeighbours(neighbours: Neighbour[], title: string, row?: number): void {
    const [first, ...others] = neighbours;
    const rest = row === undefined ? neighbours : others;
    const edit = (near: number) => () => void this.edit(near);
    fill(this.side,
      row !== undefined && first
        ? [h("h2", { class: "filename" }, first.name),
           h("button", { type: "button", class: "tile large", onclick: edit(first.row), "aria-label": "Open in Edit" }, image(first.image, first.name)),
           h("div", { class: "bar" }, button("Open in Edit", edit(first.row), { class: "primary" }))]
        : null,
      h("h3", {}, title),
      h("div", { class: "grid small" }, rest.map((near) => h("button", { type: "button", class: "tile", title: near.name, onclick: edit(near.row) }, image(near.image, near.name)))));
  }

  private async edit(row: number): Promise<void> {
    await this.work.run("Taking the picture apart", async (signal, progress) => {
      store.current = await call<Opened>(`pictures/of-data/${row}`, { post: true, signal, progress });
      store.remember(store.current);
      go("edit");
      store.changed();
    });
  }

  // ------------------------------------------------------------------ groups

  private lasso(rows: number[]): void {
    this.scatter.groups[this.group] = rows;
    this.scatter.draw();
    this.showGroups();
  }

  private showGroups(): void {
    const { a, b } = this.scatter.groups;
    const name = h("input", { type: "text", placeholder: "what group A has", maxlength: 40, "aria-label": "Name of the new attribute", required: true });
    const form = h("form", { class: "keep" }, name, h("button", { type: "submit", class: "primary", disabled: a.length < LEAST || b.length < LEAST }, "Make a slider"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.learn(name.value);
    });
    const clear = () => {
      this.scatter.groups.a = [];
      this.scatter.groups.b = [];
      this.scatter.draw();
      this.hint();
    };
    const ready = a.length >= LEAST && b.length >= LEAST;
    fill(this.side, h("h2", {}, "From B to A"),
      h("p", { class: "groups" }, h("b", { class: "a" }, `A: ${a.length} images`), h("b", { class: "b" }, `B: ${b.length} images`)),
      h("p", { class: "soft" }, ready ? "The direction that tells the groups apart becomes an attribute." : "Draw around at least five images with each of Group A and Group B."),
      form, button("Clear the groups", clear, { class: "quiet" }));
  }

  private async learn(name: string): Promise<void> {
    await this.work.run("Learning the direction", async (signal) => {
      const { a, b } = this.scatter.groups;
      store.setAttributes(await call<Attribute[]>("map/direction", { body: { name, has: a, lacks: b }, signal }));
      const made = store.info.attributes.find((one) => one.name === name.trim());
      toast(made ? `${made.name} is a slider now: ${made.score.measure} ${made.score.value.toFixed(2)}.` : "It is a slider now.");
      if (store.info.may_save) this.offerSaving();
    });
  }

  private offerSaving(): void {
    const save = async (): Promise<void> => {
      try {
        store.setAttributes(await call<Attribute[]>("attributes/save", { post: true }));
        toast("Saved: the command line knows it now.");
      } catch (error) {
        complain(error);
      }
    };
    this.side.append(h("div", { class: "bar" }, icon("M4 3h9l3 3v11H4zM7 3v5h6V3"), button("Save it into the run", () => void save())));
  }
}
