/** Points of the plane, sorted into cells, so that the nearest to a place and those in a rectangle are found at once. */

const PER_CELL = 4;

export class Plane {
  readonly box: { x: number; y: number; width: number; height: number };
  private readonly columns: number;
  private readonly starts: Uint32Array;
  private readonly order: Uint32Array;

  /** Points as x and y in turn. */
  constructor(readonly points: Float32Array) {
    this.box = bounds(points);
    this.columns = Math.max(1, Math.ceil(Math.sqrt(this.count / PER_CELL)));
    const cells = Uint32Array.from({ length: this.count }, (_, k) => this.cell(points[2 * k]!, points[2 * k + 1]!));
    this.starts = new Uint32Array(this.columns ** 2 + 1);
    for (const cell of cells) this.starts[cell + 1]!++;
    for (let k = 1; k < this.starts.length; k++) this.starts[k]! += this.starts[k - 1]!;
    const next = this.starts.slice();
    this.order = new Uint32Array(this.count);
    cells.forEach((cell, k) => (this.order[next[cell]!++] = k));
  }

  get count(): number {
    return this.points.length / 2;
  }

  private column(share: number): number {
    return Math.min(Math.max(Math.floor(share * this.columns), 0), this.columns - 1);
  }

  private cell(x: number, y: number): number {
    const { box } = this;
    return this.column((y - box.y) / box.height) * this.columns + this.column((x - box.x) / box.width);
  }

  /** The points in a rectangle, at most so many. */
  within(left: number, top: number, right: number, bottom: number, most = Infinity): number[] {
    const { box, points } = this;
    const [c0, c1] = [this.column((left - box.x) / box.width), this.column((right - box.x) / box.width)];
    const [r0, r1] = [this.column((top - box.y) / box.height), this.column((bottom - box.y) / box.height)];
    const found: number[] = [];
    for (let row = r0; row <= r1; row++)
      for (let k = this.starts[row * this.columns + c0]!; k < this.starts[row * this.columns + c1 + 1]!; k++) {
        const point = this.order[k]!;
        const [x, y] = [points[2 * point]!, points[2 * point + 1]!];
        if (x < left || x > right || y < top || y > bottom) continue;
        found.push(point);
        if (found.length >= most) return found;
      }
    return found;
  }

  /** The nearest point within a distance; -1 if there is none. */
  nearest(x: number, y: number, distance: number): number {
    let [best, least] = [-1, distance ** 2];
    for (const point of this.within(x - distance, y - distance, x + distance, y + distance)) {
      const squared = (this.points[2 * point]! - x) ** 2 + (this.points[2 * point + 1]! - y) ** 2;
      if (squared <= least) [best, least] = [point, squared];
    }
    return best;
  }

  /** The points in a polygon, given as x and y of its corners. */
  inside(polygon: readonly (readonly [number, number])[]): number[] {
    const [xs, ys] = [polygon.map(([x]) => x), polygon.map(([, y]) => y)];
    const near = this.within(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys));
    return near.filter((point) => contains(polygon, this.points[2 * point]!, this.points[2 * point + 1]!));
  }
}

function contains(polygon: readonly (readonly [number, number])[], x: number, y: number): boolean {
  let inside = false;
  for (let k = 0, before = polygon.length - 1; k < polygon.length; before = k++) {
    const [ax, ay] = polygon[k]!;
    const [bx, by] = polygon[before]!;
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}

function bounds(points: Float32Array): { x: number; y: number; width: number; height: number } {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (let k = 0; k < points.length; k += 2) {
    left = Math.min(left, points[k]!);
    right = Math.max(right, points[k]!);
    top = Math.min(top, points[k + 1]!);
    bottom = Math.max(bottom, points[k + 1]!);
  }
  return { x: left, y: top, width: right - left || 1, height: bottom - top || 1 };
}
