/** What the rooms share: facts about the model, and the pictures that were opened. */

import { call, type Attribute, type Info, type Opened, type Picture } from "./api";

type Listener = () => void;

class Store {
  info!: Info;
  /** Pictures that were opened or kept, newest first. */
  tray: Picture[] = [];
  /** The picture in the room Edit. */
  current: Opened | null = null;
  private readonly listeners = new Set<Listener>();

  /** Call when something changes; returns a function that ends this. */
  listen(listener: Listener): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  changed(): void {
    for (const listener of [...this.listeners]) listener();
  }

  async refresh(): Promise<void> {
    this.info = await call<Info>("studio");
    this.changed();
  }

  setAttributes(attributes: Attribute[]): void {
    this.info.attributes = attributes;
    this.changed();
  }

  remember(picture: Picture): void {
    this.tray = [picture, ...this.tray.filter((one) => one.id !== picture.id)].slice(0, 24);
  }

  forgetAll(): void {
    this.tray = [];
    this.current = null;
  }
}

export const store = new Store();

/** Go to another room. */
export function go(room: string): void {
  location.hash = `#${room}`;
}

/** Open a picture in the room Edit. */
export async function openInEdit(id: string): Promise<void> {
  store.current = await call<Opened>(`pictures/${id}/open`, { post: true });
  store.remember(store.current);
  go("edit");
  store.changed();
}
