/** The page: the rail of rooms, the theme, and what happens when the studio stops and comes back. */

import { call, whenUnreachable } from "./api";
import { button, fill, h, icon, toast } from "./dom";
import type { Room } from "./room";
import { BlendRoom } from "./rooms/blend";
import { DirectionsRoom } from "./rooms/directions";
import { EditRoom } from "./rooms/edit";
import { MapRoom } from "./rooms/map";
import { SampleRoom } from "./rooms/sample";
import { TrainingRoom } from "./rooms/training";
import { VaryRoom } from "./rooms/vary";
import { go, store } from "./store";
import { forget } from "./thumbnails";

const ROOMS: Record<string, { name: string; icon: string; make: () => Room }> = {
  edit: { name: "Edit", icon: "M3 6h14M3 14h14M7 4v4M13 12v4", make: () => new EditRoom() },
  blend: { name: "Blend", icon: "M8 5a5 5 0 100 10 5 5 0 000-10zM12 5a5 5 0 110 10 5 5 0 010-10z", make: () => new BlendRoom() },
  vary: { name: "Vary", icon: "M3 3h6v6H3zM11 3h6v6h-6zM3 11h6v6H3zM11 11h6v6h-6z", make: () => new VaryRoom() },
  sample: { name: "Sample", icon: "M10 2l2 6 6 2-6 2-2 6-2-6-6-2 6-2z", make: () => new SampleRoom() },
  map: { name: "Map", icon: "M3 5l5-2 4 2 5-2v12l-5 2-4-2-5 2zM8 3v12M12 5v12", make: () => new MapRoom() },
  directions: { name: "Directions", icon: "M3 10h13M12 5l5 5-5 5", make: () => new DirectionsRoom() },
  training: { name: "Training", icon: "M3 3v14h14M6 6c2 8 6 8 10 8", make: () => new TrainingRoom() },
};
const POLL = 1500;

const made = new Map<string, Room>();
const main = h("main", { id: "main", tabindex: "-1" });
const nav = h("nav", { "aria-label": "Rooms" });
const banner = h("div", { class: "banner", role: "alert", hidden: true });
const facts = h("p", { class: "soft about" });
let here = "";
let lost = false;

function enter(): void {
  const name = location.hash.slice(1) in ROOMS ? location.hash.slice(1) : "edit";
  if (name !== here) made.get(here)?.leave?.();
  const room = made.get(name) ?? ROOMS[name]!.make();
  made.set(name, room);
  if (name !== here) {
    fill(main, room.element);
    window.scrollTo(0, 0);
  }
  here = name;
  room.update?.();
  document.title = `${ROOMS[name]!.name} · diffae studio`;
  for (const link of nav.querySelectorAll("a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function themeButton(): HTMLElement {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const saved = localStorage.getItem("diffae-theme");
  const set = (theme: string): void => {
    document.documentElement.dataset["theme"] = theme;
    window.dispatchEvent(new Event("resize"));
  };
  set(saved ?? (dark.matches ? "dark" : "light"));
  dark.addEventListener("change", () => localStorage.getItem("diffae-theme") ?? set(dark.matches ? "dark" : "light"));
  const turn = (): void => {
    const theme = document.documentElement.dataset["theme"] === "dark" ? "light" : "dark";
    localStorage.setItem("diffae-theme", theme);
    set(theme);
  };
  const toggle = button("", turn, { class: "quiet theme", "aria-label": "Light or dark" });
  toggle.append(icon("M10 3a7 7 0 100 14 7 7 0 000-14zM10 3v14M13 4.5v11M15.5 6.5v7"), h("span", {}, "Light or dark"));
  return toggle;
}

function describe(): void {
  const { run, image_size, z_sem, parameters } = store.info;
  const name = run.split("/").filter(Boolean).at(-1) ?? run;
  fill(facts, h("strong", { title: run }, name), image_size ? ` ${image_size} × ${image_size} pixels, ${z_sem} numbers of z_sem, ${(parameters / 1e6).toFixed(1)}\u00a0M parameters` : " in training");
}

/** The server has gone: say so, and look for it until it is back. */
function unreachable(): void {
  if (lost) return;
  lost = true;
  banner.textContent = "The studio has stopped. Start it again in its terminal; this page goes on by itself.";
  banner.hidden = false;
  const look = async (): Promise<void> => {
    const answer = await fetch("./api/studio").catch(() => null);
    if (!answer?.ok) return void window.setTimeout(() => void look(), POLL);
    location.reload();
  };
  window.setTimeout(() => void look(), POLL);
}

/** Look again while the data set is being encoded, or the first weights are waited for. */
async function watch(): Promise<void> {
  const { data, image_size } = store.info;
  const waits = !image_size || (!data.ready && !data.problem);
  if (!waits || lost) return;
  await new Promise((resolve) => window.setTimeout(resolve, POLL));
  const before = JSON.stringify(store.info);
  const info = await call<typeof store.info>("studio").catch(() => null);
  if (info) {
    store.info = info;
    if (JSON.stringify(info) !== before) {
      describe();
      store.changed();
    }
  }
  void watch();
}

function files(): void {
  const take = (list: FileList | undefined): void => {
    const file = [...(list ?? [])].find((one) => one.type.startsWith("image/") || one.name);
    if (!file) return;
    go("edit");
    window.setTimeout(() => (made.get("edit") as EditRoom).file(file));
  };
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    if (!(event.target as HTMLElement).closest?.(".drop")) take(event.dataTransfer?.files);
  });
  window.addEventListener("paste", (event) => take(event.clipboardData?.files));
}

async function begin(): Promise<void> {
  const links = Object.entries(ROOMS).map(([id, room]) => h("a", { href: `#${id}` }, icon(room.icon), h("span", {}, room.name)));
  nav.append(...links);
  document.getElementById("app")!.append(
    h("a", { class: "skip", href: "#main", onclick: (event: Event) => { event.preventDefault(); main.focus(); } }, "To the room"),
    banner,
    h("header", { class: "rail" }, h("a", { class: "brand", href: "#edit" }, h("img", { src: "./icon.svg", alt: "", width: 26, height: 26 }), h("span", {}, "diffae studio")), nav, h("div", { class: "foot" }, facts, themeButton())),
    main,
    h("div", { id: "toasts", role: "status", "aria-live": "polite" }),
  );
  whenUnreachable(unreachable);
  forget();
  try {
    await store.refresh();
  } catch (error) {
    fill(main, h("p", { class: "soft" }, error instanceof Error ? error.message : String(error)));
    return;
  }
  describe();
  store.listen(enter);
  window.addEventListener("hashchange", enter);
  window.addEventListener("keydown", (event) => made.get(here)?.key?.(event));
  files();
  enter();
  if (store.info.data.problem) toast(`No data set: ${store.info.data.problem}.`, "error");
  void watch();
}

void begin();
