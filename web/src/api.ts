/** The API of the server, see /api/openapi.json. */

export interface Attribute {
  name: string;
  kind: string;
  column: string;
  images: number;
  score: { measure: string; value: number; low: number; high: number };
  low: number;
  high: number;
  own: boolean;
}

export interface Info {
  run: string;
  version: string;
  image_size: number;
  image_channels: number;
  z_sem: number;
  parameters: number;
  attributes: Attribute[];
  missing: Record<string, string>;
  data: { images: number; encoded: number; ready: boolean; problem: string; labels: string[] };
  student: boolean;
  may_save: boolean;
  umap: boolean;
  mp4: boolean;
}

export interface Picture {
  id: string;
  name: string;
  image: string;
  values: Record<string, number>;
}

export interface Opened extends Picture {
  back: string;
  largest_error: number;
  residual: number;
  calls: number;
}

export interface Edited {
  image: string;
  asked: Record<string, number>;
  read: Record<string, number>;
  exact: boolean;
}

export interface Neighbour {
  row: number;
  name: string;
  image: string;
  distance: number;
}

export interface Commands {
  command: string;
  python: string;
}

/** What the server says in one sentence. */
export class Refused extends Error {}

/** The server cannot be reached. */
export class Unreachable extends Error {}

let onUnreachable: () => void = () => {};

/** Call this when the server cannot be reached. */
export function whenUnreachable(listener: () => void): void {
  onUnreachable = listener;
}

export interface Options {
  body?: unknown;
  signal?: AbortSignal;
  progress?: (share: number) => void;
  post?: boolean;
}

async function request(path: string, { body, signal, progress, post }: Options): Promise<Response> {
  const raw = body instanceof Blob;
  const init: RequestInit = { method: body !== undefined || post ? "POST" : "GET" };
  if (signal) init.signal = signal;
  const headers: Record<string, string> = {};
  if (progress) headers["Accept"] = "application/x-ndjson";
  if (body !== undefined) {
    headers["Content-Type"] = raw ? "application/octet-stream" : "application/json";
    init.body = raw ? body : JSON.stringify(body);
  }
  init.headers = headers;
  try {
    return await fetch(`./api/${path}`, init);
  } catch (error) {
    if (signal?.aborted) throw error;
    onUnreachable();
    throw new Unreachable("The studio does not answer.");
  }
}

async function refusal(response: Response): Promise<Refused> {
  const answer = await response.json().catch(() => ({}));
  return new Refused(answer.error ?? `The studio answered ${response.status}.`);
}

/** Ask for JSON; with `progress` the answer comes in lines. */
export async function call<T>(path: string, options: Options = {}): Promise<T> {
  const response = await request(path, options);
  if (!response.ok) throw await refusal(response);
  if (!response.headers.get("content-type")?.includes("ndjson")) return response.json();
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch((error: unknown) => {
      if (!options.signal?.aborted) onUnreachable();
      throw error;
    });
    if (done) throw new Unreachable("The studio stopped in the middle of its answer.");
    const lines = (rest + value).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const message = JSON.parse(line);
      if (message.error !== undefined) throw new Refused(message.error);
      if (message.result !== undefined) return message.result;
      options.progress?.(message.progress);
    }
  }
}

/** Ask for bytes. */
export async function bytes(path: string, options: Options = {}): Promise<ArrayBuffer> {
  const response = await request(path, options);
  if (!response.ok) throw await refusal(response);
  return response.arrayBuffer();
}

/** Ask for a file and hand it to the browser. */
export async function download(path: string, body: unknown, signal?: AbortSignal): Promise<void> {
  const response = await request(path, signal ? { body, signal } : { body });
  if (!response.ok) throw await refusal(response);
  const name = /filename="([^"]+)"/.exec(response.headers.get("content-disposition") ?? "")?.[1] ?? "picture";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  window.setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Sends the newest of many requests, one at a time: what comes meanwhile waits, and the newest of it is sent next. */
export class Newest<A> {
  private waiting: A | undefined;
  private busy = false;

  constructor(private readonly send: (argument: A) => Promise<void>) {}

  ask(argument: A): void {
    this.waiting = argument;
    if (!this.busy) void this.run();
  }

  drop(): void {
    this.waiting = undefined;
  }

  private async run(): Promise<void> {
    this.busy = true;
    while (this.waiting !== undefined) {
      const argument = this.waiting;
      this.waiting = undefined;
      await this.send(argument);
    }
    this.busy = false;
  }
}
