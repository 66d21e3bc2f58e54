import { createHash } from "node:crypto";
import { AuditActionSchema } from "#gen/tollgate/v1/audit_pb.js";
import { createJsonWriters } from "../gateway/json/write.ts";
import { pauseBulkWork } from "../shared/bulk-work.ts";
import { toActionMessage } from "./messages.ts";
import type { OutboxEntry, SinkClaim, UnsentAction } from "./sink-outbox.ts";

/** A batch as the sink receives it. */
export interface SinkBatch {
  /** UUID. Batches with the same body have the same id. */
  readonly id: string;
  readonly body: string;
  /** The ids of the entries whose actions it has. */
  readonly entries: readonly number[];
  /** The number of its actions. */
  readonly actions: number;
  /** The number of actions of its entries that retention has dropped. */
  readonly dropped: number;
}

/** Below 1 MiB, the limit of many receivers. An entry of 100 actions is below it, however long their texts are. */
const maxBodyBytes = 524_288;

/** Creates the batch of the first entries that fit: at least one. The event loop handles other calls before each entry. */
export async function createBatch(
  { sequence, dropped: reported }: SinkClaim,
  listed: readonly OutboxEntry[],
  rows: readonly UnsentAction[],
): Promise<SinkBatch> {
  const byEntry = new Map<number, UnsentAction[]>(listed.map(({ id }) => [id, []]));
  for (const row of rows) byEntry.get(row.entry)?.push(row);
  const entries: number[] = [];
  const texts: string[] = [];
  let dropped = 0;
  let bytes = 0;
  for (const { id } of listed) {
    await pauseBulkWork();
    const unsent = byEntry.get(id) ?? [];
    const added = unsent.flatMap((row) => (row.micros === null ? [] : toActionText(row)));
    bytes += added.reduce((sum, text) => sum + Buffer.byteLength(text) + 1, 0);
    if (entries.length > 0 && bytes > maxBodyBytes) break;
    entries.push(id);
    texts.push(...added);
    dropped += unsent.length - added.length;
  }
  // The body depends on nothing but its actions: repeated, it has the same id.
  const head = {
    type: "audit.actions",
    timestamp: listed[0]?.recorded,
    data: { sequence, dropped: reported + dropped },
  };
  const body = `${JSON.stringify(head).slice(0, -2)},"actions":[${texts.join(",")}]}}`;
  return { id: toUuid(body), body, entries, actions: texts.length, dropped };
}

type PresentAction = Exclude<UnsentAction, { readonly micros: null }>;

const writers = createJsonWriters(undefined);
const members = AuditActionSchema.fields
  // Data may be stored or deleted later.
  .filter(({ name }) => name !== "has_data")
  .map((field) => ({ key: `,"${field.name}":`, write: writers.fieldWriter(field) }));

/** Returns the JSON of an action as lists have it, with an id. */
function toActionText(row: PresentAction): string {
  const message = toActionMessage(row, false);
  let text = `{"id":"${toUuid([row.micros, row.tracecode, row.part, row.operation].join(" "))}"`;
  for (const { key, write } of members) {
    const value = write(message);
    if (value !== undefined) text += key + value;
  }
  return `${text}}`;
}

/** Returns a UUID that is a hash of the text (RFC 9562, version 8). */
function toUuid(text: string): string {
  const bytes = createHash("sha256").update(text).digest().subarray(0, 16);
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
