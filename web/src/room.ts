/** What a room is. */

export interface Room {
  element: HTMLElement;
  /** Called when the facts about the model or the pictures have changed. */
  update?(): void;
  /** Called when the visitor leaves; work is to stop. */
  leave?(): void;
  /** Called for keys that no control has used. */
  key?(event: KeyboardEvent): void;
}
