/** Small helpers to build and change the page. */

type Child = Node | string | null | undefined | false;
type Props = Record<string, unknown>;

/** An element with attributes, listeners (`onclick` ...), `class` and children. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: (Child | Child[])[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) set(element, name, value);
  element.append(...(children.flat().filter(Boolean) as (Node | string)[]));
  return element;
}

function set(element: HTMLElement, name: string, value: unknown): void {
  if (name === "class") element.className = String(value);
  else if (name.startsWith("on")) element.addEventListener(name.slice(2), value as EventListener);
  else if (typeof value === "boolean" && !name.startsWith("aria-")) element.toggleAttribute(name, value);
  else if (value !== undefined && value !== null) element.setAttribute(name, String(value));
}

/** Replace what is in an element. */
export function fill(element: Element, ...children: (Child | Child[])[]): void {
  element.replaceChildren(...(children.flat().filter(Boolean) as (Node | string)[]));
}

/** A button with a text. */
export function button(text: string, onclick: () => void, props: Props = {}): HTMLButtonElement {
  return h("button", { type: "button", onclick, ...props }, text);
}

/** An icon of strokes, 20 by 20. */
export function icon(path: string): SVGElement {
  const name = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(name, "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("icon");
  const line = document.createElementNS(name, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

/** An image; `alt` says what it shows. */
export function image(src: string, alt: string, props: Props = {}): HTMLImageElement {
  return h("img", { src, alt, draggable: "false", ...props });
}

/** One of several choices side by side. */
export function segmented<T extends string>(
  label: string,
  choices: readonly (readonly [T, string])[],
  chosen: T,
  choose: (value: T) => void,
): HTMLElement & { value: T } {
  const group = h("div", { class: "segmented", role: "radiogroup", "aria-label": label }) as unknown as HTMLElement & {
    value: T;
  };
  const name = `choice-${Math.random().toString(36).slice(2)}`;
  for (const [value, text] of choices) {
    const input = h("input", { type: "radio", name, value, checked: value === chosen });
    input.addEventListener("change", () => {
      group.value = value;
      choose(value);
    });
    group.append(h("label", {}, input, h("span", {}, text)));
  }
  group.value = chosen;
  return group;
}

/** Announce something to screen readers, and show it for a few seconds. */
export function toast(text: string, kind: "note" | "error" = "note"): void {
  const line = h("div", { class: `toast ${kind}` }, text);
  document.getElementById("toasts")!.append(line);
  window.setTimeout(() => line.remove(), kind === "error" ? 8000 : 3500);
}

/** A number in few letters. */
export function short(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** A probability in words that people know. */
export function percent(value: number): string {
  const share = value * 100;
  if (share > 0 && share < 1) return "under 1 %";
  if (share < 100 && share > 99) return "over 99 %";
  return `${Math.round(share)} %`;
}
