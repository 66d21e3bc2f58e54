import { listUnsentAlerts, retryAlerts, type UnsentAlert } from "../alerts/outbox.ts";
import { type CommandInput, UsageError } from "./command.ts";
import { exitCodes } from "./exit-codes.ts";
import { withDatabase } from "./local-database.ts";

/** Lists the alerts that were not sent. Exits with 1 if one is abandoned. */
export async function listWebhooks(input: CommandInput): Promise<number> {
  const alerts = await withDatabase(input, listUnsentAlerts);
  input.output.rows(alerts.map(toRow));
  return alerts.some(({ state }) => state === "abandoned") ? exitCodes.found : exitCodes.fine;
}

/** Lets abandoned alerts be tried again. */
export async function retryWebhooks(input: CommandInput): Promise<number> {
  const [id] = input.arguments;
  if (id !== undefined && !/^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i.test(id)) {
    throw new UsageError("ID must be the id of an alert");
  }
  const count = await withDatabase(input, (database) => retryAlerts(database, id));
  if (count === 0) throw new Error(id === undefined ? "no alert is abandoned" : `no abandoned alert has the id ${id}`);
  input.output.value({ retried: count }, `${count} alerts are sent again`);
  return exitCodes.fine;
}

function toRow({ body, ...alert }: UnsentAlert) {
  const { username, limit, threshold, from } = JSON.parse(body).data;
  return { ...alert, username, limit, threshold, from };
}
