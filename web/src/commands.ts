/** The command and the Python lines of what was done, to be copied. */

import { call, type Commands } from "./api";
import { button, h, toast } from "./dom";
import { complain } from "./working";

/** Show what does the same outside the studio. */
export async function showCommands(path: string, body: unknown): Promise<void> {
  try {
    const found = await call<Commands>(path, { body });
    const dialog = h("dialog", { class: "sheet", "aria-label": "The same outside the studio" });
    dialog.append(
      h("header", {}, h("h2", {}, "The same outside the studio"), button("Close", () => dialog.close(), { class: "quiet" })),
      block("Command", found.command),
      block("Python", found.python),
    );
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  } catch (error) {
    complain(error);
  }
}

function block(title: string, text: string): HTMLElement {
  const copy = button("Copy", () => {
    navigator.clipboard.writeText(text).then(
      () => toast("Copied."),
      () => toast("The browser does not let this page copy: select the text.", "error"),
    );
  });
  return h("section", { class: "code" }, h("div", {}, h("h3", {}, title), copy), h("pre", { tabindex: "0" }, text));
}
