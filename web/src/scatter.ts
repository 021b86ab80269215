/** The map on a canvas: pan, zoom, pick, lasso. Points are written into pixels directly, 100,000 in a few milliseconds. */

import { Plane } from "./plane";
import { thumbnail, thumbnails } from "./thumbnails";

export type Group = "a" | "b";
type Spot = { x: number; y: number };

const GROUPS: Record<Group, string> = { a: "#e5793a", b: "#2a9d8f" };
const NEAR = 14; // pixels within which a click means a point
const MOST_THUMBNAILS = 140;
const THUMBNAIL = 44; // pixels
const MARGIN = 0.06;
const FEW = 3000; // points that are drawn as smooth discs

export interface Listeners {
  point(row: number): void;
  between(x: number, y: number): void;
  lasso(rows: number[]): void;
}

export class Scatter {
  readonly canvas = document.createElement("canvas");
  mode: "pan" | "lasso" = "pan";
  readonly groups: Record<Group, number[]> = { a: [], b: [] };
  marked: Spot | null = null;
  private plane = new Plane(new Float32Array([0, 0]));
  private colours: Uint32Array<ArrayBuffer> = new Uint32Array(1);
  private readonly context = this.canvas.getContext("2d")!;
  private pixels: ImageData | null = null;
  private scale = 1;
  private origin: Spot = { x: 0, y: 0 };
  private path: [number, number][] = [];
  private readonly pointers = new Map<number, Spot>();
  private moved = 0;
  private frame = 0;
  private asking: AbortController | null = null;
  private timer = 0;

  constructor(private readonly listeners: Listeners) {
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-label", "Map of all images: arrow keys move it, plus and minus zoom, Enter takes the point in the middle");
    this.canvas.addEventListener("pointerdown", (event) => this.down(event));
    this.canvas.addEventListener("pointermove", (event) => this.drag(event));
    this.canvas.addEventListener("pointerup", (event) => this.up(event));
    this.canvas.addEventListener("pointercancel", (event) => this.pointers.delete(event.pointerId));
    this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.resize()).observe(this.canvas);
  }

  setPoints(points: Float32Array): void {
    this.plane = new Plane(points);
    this.colours = new Uint32Array(this.plane.count).fill(0xffd65b5b);
    this.fit();
  }

  setColours(colours: Uint32Array<ArrayBuffer>): void {
    this.colours = colours;
    this.draw();
  }

  /** Show everything. */
  fit(): void {
    const { box } = this.plane;
    const [width, height] = [this.canvas.clientWidth || 1, this.canvas.clientHeight || 1];
    this.scale = (1 - 2 * MARGIN) * Math.min(width / box.width, height / box.height);
    this.origin = {
      x: width / 2 - this.scale * (box.x + box.width / 2),
      y: height / 2 - this.scale * (box.y + box.height / 2),
    };
    this.draw();
  }

  zoom(factor: number, at: Spot = { x: this.canvas.clientWidth / 2, y: this.canvas.clientHeight / 2 }): void {
    this.scale *= factor;
    this.origin = { x: at.x - factor * (at.x - this.origin.x), y: at.y - factor * (at.y - this.origin.y) };
    this.draw();
  }

  /** Draw in the next frame. */
  draw(): void {
    if (!this.frame) this.frame = requestAnimationFrame(() => this.paint());
  }

  // ------------------------------------------------------------------ pointers and keys

  private spot(event: PointerEvent | WheelEvent): Spot {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  private place({ x, y }: Spot): [number, number] {
    return [(x - this.origin.x) / this.scale, (y - this.origin.y) / this.scale];
  }

  private down(event: PointerEvent): void {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.spot(event));
    this.moved = 0;
    this.path = this.mode === "lasso" ? [this.place(this.spot(event))] : [];
  }

  private drag(event: PointerEvent): void {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = this.spot(event);
    this.moved += Math.hypot(now.x - before.x, now.y - before.y);
    if (this.pointers.size === 2) {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)![1];
      const factor = Math.hypot(now.x - other.x, now.y - other.y) / Math.hypot(before.x - other.x, before.y - other.y);
      this.pointers.set(event.pointerId, now);
      this.path = [];
      return this.zoom(factor || 1, other);
    }
    this.pointers.set(event.pointerId, now);
    if (this.mode === "lasso") this.path.push(this.place(now));
    else this.origin = { x: this.origin.x + now.x - before.x, y: this.origin.y + now.y - before.y };
    this.draw();
  }

  private up(event: PointerEvent): void {
    const spot = this.spot(event);
    this.pointers.delete(event.pointerId);
    if (this.mode === "lasso" && this.path.length > 2) this.listeners.lasso(this.plane.inside(this.path));
    else if (this.moved < 5 && this.mode === "pan") this.pick(spot);
    this.path = [];
    this.draw();
  }

  private pick(spot: Spot): void {
    const [x, y] = this.place(spot);
    const row = this.plane.nearest(x, y, (this.pictured ? THUMBNAIL / 2 : NEAR) / this.scale);
    this.marked = row < 0 ? { x, y } : { x: this.plane.points[2 * row]!, y: this.plane.points[2 * row + 1]! };
    if (row < 0) this.listeners.between(x, y);
    else this.listeners.point(row);
    this.draw();
  }

  private wheel(event: WheelEvent): void {
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY * 0.0015), this.spot(event));
  }

  private key(event: KeyboardEvent): void {
    const by = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
    if (by) this.origin = { x: this.origin.x + by[0]!, y: this.origin.y + by[1]! };
    else if (event.key === "+" || event.key === "=") this.zoom(1.25);
    else if (event.key === "-") this.zoom(0.8);
    else if (event.key === "0") this.fit();
    else if (event.key === "Enter") this.pick({ x: this.canvas.clientWidth / 2, y: this.canvas.clientHeight / 2 });
    else return;
    event.preventDefault();
    this.draw();
  }

  // ------------------------------------------------------------------ painting

  private resize(): void {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const fitted = this.pixels !== null;
    this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    this.pixels = this.context.createImageData(this.canvas.width, this.canvas.height);
    if (fitted) this.draw();
    else this.fit();
  }

  private get pictured(): boolean {
    return this.visible.length > 0;
  }

  private visible: number[] = [];

  private paint(): void {
    this.frame = 0;
    if (!this.pixels || !this.canvas.clientWidth) return;
    const ratio = this.canvas.width / this.canvas.clientWidth;
    this.paintPoints(ratio);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.paintThumbnails();
    for (const group of ["a", "b"] as const) this.ring(this.groups[group], GROUPS[group]);
    this.paintLasso();
    if (this.marked) this.paintMark(this.marked);
    this.context.setTransform(1, 0, 0, 1, 0, 0);
  }

  private paintPoints(ratio: number): void {
    const { points } = this.plane;
    const [width, height] = [this.canvas.width, this.canvas.height];
    const into = new Uint32Array(this.pixels!.data.buffer).fill(0);
    const [scale, dx, dy] = [this.scale * ratio, this.origin.x * ratio, this.origin.y * ratio];
    if (this.plane.count <= FEW) return this.paintFew();
    const disc = discOf(this.radius * ratio);
    const reach = disc.length >> 1;
    for (let k = 0; k < this.colours.length; k++) {
      const x = Math.round(points[2 * k]! * scale + dx);
      const y = Math.round(points[2 * k + 1]! * scale + dy);
      if (x < reach || y < reach || x >= width - reach || y >= height - reach) continue;
      const colour = this.colours[k]!;
      for (let row = 0; row < disc.length; row++) {
        const half = disc[row]!;
        const start = (y + row - reach) * width + x - half;
        for (let pixel = start; pixel <= start + 2 * half; pixel++) into[pixel] = colour;
      }
    }
    this.context.putImageData(this.pixels!, 0, 0);
  }

  /** Few points are drawn smoothly. */
  private paintFew(): void {
    const { context } = this;
    const ratio = this.canvas.width / this.canvas.clientWidth;
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.globalAlpha = 0.85;
    const radius = this.radius;
    this.colours.forEach((colour, row) => {
      const { x, y } = this.at(row);
      context.fillStyle = `rgb(${colour & 255}, ${(colour >> 8) & 255}, ${(colour >> 16) & 255})`;
      context.beginPath();
      context.arc(x, y, radius, 0, 7);
      context.fill();
    });
    context.globalAlpha = 1;
  }

  /** Of a point in pixels: smaller where there are more, larger when zoomed in. */
  private get radius(): number {
    const crowd = Math.sqrt((this.canvas.clientWidth * this.canvas.clientHeight) / this.plane.count);
    const { box } = this.plane;
    const zoomed = (this.scale * Math.max(box.width, box.height)) / Math.max(this.canvas.clientWidth, 1);
    return Math.min(Math.max(crowd / 7, 0.8) * Math.sqrt(Math.max(zoomed, 0.5)), 6);
  }

  private paintThumbnails(): void {
    const [left, top] = this.place({ x: 0, y: 0 });
    const [right, bottom] = this.place({ x: this.canvas.clientWidth, y: this.canvas.clientHeight });
    const found = this.plane.within(left, top, right, bottom, MOST_THUMBNAILS + 1);
    this.visible = found.length > MOST_THUMBNAILS ? [] : found;
    this.context.imageSmoothingEnabled = false;
    for (const row of this.visible) {
      const bitmap = thumbnail(row);
      const { x, y } = this.at(row);
      if (bitmap) this.context.drawImage(bitmap, x - THUMBNAIL / 2, y - THUMBNAIL / 2, THUMBNAIL, THUMBNAIL);
    }
    if (this.visible.some((row) => !thumbnail(row))) this.ask(this.visible);
  }

  private at(row: number): Spot {
    const { points } = this.plane;
    return { x: points[2 * row]! * this.scale + this.origin.x, y: points[2 * row + 1]! * this.scale + this.origin.y };
  }

  /** Ask for thumbnails once the map rests. */
  private ask(rows: number[]): void {
    window.clearTimeout(this.timer);
    this.timer = window.setTimeout(() => {
      this.asking?.abort();
      this.asking = new AbortController();
      thumbnails(rows, this.asking.signal).then(() => this.draw(), () => {});
    }, 120);
  }

  private ring(rows: number[], colour: string): void {
    this.context.strokeStyle = colour;
    this.context.lineWidth = 1.5;
    const size = this.radius + 1.5;
    this.context.beginPath();
    for (const row of rows.slice(0, 5000)) {
      const { x, y } = this.at(row);
      this.context.moveTo(x + size, y);
      this.context.arc(x, y, size, 0, 7);
    }
    this.context.stroke();
  }

  private paintLasso(): void {
    if (this.path.length < 2) return;
    const { context } = this;
    context.beginPath();
    for (const [x, y] of this.path) context.lineTo(x * this.scale + this.origin.x, y * this.scale + this.origin.y);
    context.closePath();
    context.fillStyle = "rgba(91, 91, 214, 0.14)";
    context.strokeStyle = "#5b5bd6";
    context.lineWidth = 1.5;
    context.fill();
    context.stroke();
  }

  private paintMark({ x, y }: Spot): void {
    const { context } = this;
    const [px, py] = [x * this.scale + this.origin.x, y * this.scale + this.origin.y];
    for (const [colour, width] of [["#ffffff", 5], ["#d6457a", 2.5]] as const) {
      context.beginPath();
      context.arc(px, py, this.pictured ? THUMBNAIL * 0.62 : 9, 0, 7);
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.stroke();
    }
  }
}

/** Half the length of each row of a disc. */
function discOf(radius: number): number[] {
  const reach = Math.max(0, Math.round(radius));
  return Array.from({ length: 2 * reach + 1 }, (_, k) => Math.round(Math.sqrt(Math.max((radius + 0.3) ** 2 - (k - reach) ** 2, 0))));
}
