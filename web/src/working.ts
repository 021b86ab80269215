/** Work that takes a while: shown with its progress, and cancelled by a button or by leaving the room. */

import { Refused, Unreachable } from "./api";
import { button, fill, h, toast } from "./dom";

export class Work {
  readonly element = h("div", { class: "work", role: "status", hidden: true });
  private controller: AbortController | null = null;

  /** Run a task; a newer one cancels it. Errors are shown as sentences. */
  async run(what: string, task: (signal: AbortSignal, progress: (share: number) => void) => Promise<void>): Promise<void> {
    this.cancel();
    const controller = new AbortController();
    this.controller = controller;
    const bar = h("progress", { max: 1, "aria-label": what });
    const shown = window.setTimeout(() => {
      fill(this.element, h("span", {}, `${what} …`), bar, button("Cancel", () => this.cancel(), { class: "quiet" }));
      this.element.hidden = false;
    }, 250);
    try {
      await task(controller.signal, (share) => (bar.value = share));
    } catch (error) {
      if (!controller.signal.aborted) complain(error);
    } finally {
      window.clearTimeout(shown);
      if (this.controller === controller) {
        this.controller = null;
        this.element.hidden = true;
      }
    }
  }

  cancel(): void {
    this.controller?.abort();
    this.controller = null;
    this.element.hidden = true;
  }
}

/** Show an error as a sentence. */
export function complain(error: unknown): void {
  if (error instanceof Unreachable || (error instanceof DOMException && error.name === "AbortError")) return;
  const text = error instanceof Refused ? error.message : String(error);
  toast(text.charAt(0).toUpperCase() + text.slice(1), "error");
}
