/** Thumbnails of the data set: many rows come as one sheet, which is cut up here. */

const cache = new Map<number, ImageBitmap>();
const MOST_KEPT = 4000;
const AT_ONCE = 64;

/** Thumbnails of rows; those that are not here yet are asked for together. */
export async function thumbnails(rows: number[], signal?: AbortSignal): Promise<Map<number, ImageBitmap>> {
  const missing = rows.filter((row) => !cache.has(row));
  for (let start = 0; start < missing.length; start += AT_ONCE) {
    const part = missing.slice(start, start + AT_ONCE);
    const response = await fetch(`./api/gallery/sheet?rows=${part.join(",")}`, signal ? { signal } : {});
    if (!response.ok) break;
    const sheet = await createImageBitmap(await response.blob());
    const side = sheet.height;
    const cut = await Promise.all(part.map((_, k) => createImageBitmap(sheet, k * side, 0, side, side)));
    part.forEach((row, k) => cache.set(row, cut[k]!));
  }
  if (cache.size > MOST_KEPT) for (const row of [...cache.keys()].slice(0, cache.size - MOST_KEPT)) cache.delete(row);
  return new Map(rows.flatMap((row) => (cache.has(row) ? [[row, cache.get(row)!] as const] : [])));
}

/** A thumbnail that is already here. */
export function thumbnail(row: number): ImageBitmap | undefined {
  return cache.get(row);
}

/** Forget all thumbnails, which may belong to another data set. */
export function forget(): void {
  cache.clear();
}
